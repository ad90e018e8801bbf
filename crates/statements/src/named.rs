//! Named parameters in SQL: `:name`, which PostgreSQL knows as `$1`.

/// A text with numbered parameters, and their names in the order of the numbers.
#[derive(Debug, PartialEq)]
pub(crate) struct Numbered {
    pub(crate) text: String,
    pub(crate) names: Vec<String>,
}

/// The text with a number for each name. A colon within quotes, dollar quotes or a comment, and that of a cast, begins no name.
pub(crate) fn number(sql: &str) -> Numbered {
    let mut text = String::with_capacity(sql.len());
    let mut names: Vec<String> = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ':' if rest.starts_with("::") => 2,
            ':' => {
                let name = identifier(&rest[1..]);
                if !name.is_empty() {
                    let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                        names.push(name.to_owned());
                        names.len() - 1
                    });
                    text.push('$');
                    text.push_str(&(place + 1).to_string());
                    rest = &rest[1 + name.len()..];
                    continue;
                }
                1
            }
            '\'' | '"' => quoted(rest, first),
            '$' if rest.starts_with("$$") => rest[2..].find("$$").map_or(rest.len(), |end| end + 4),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Numbered { text, names }
}

fn identifier(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        ""
    } else {
        &text[..end]
    }
}

/// The length of what stands between two quotes, with them. A doubled quote is two texts, one behind the other.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::{Numbered, number};

    fn numbered(sql: &str) -> (String, Vec<String>) {
        let Numbered { text, names } = number(sql);
        (text, names)
    }

    #[test]
    fn a_name_has_one_number_wherever_it_stands() {
        let (text, names) = numbered("SELECT :b::text, :a WHERE x = :b");
        assert_eq!(text, "SELECT $1::text, $2 WHERE x = $1");
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn quotes_comments_and_casts_have_no_names() {
        for sql in [
            "SELECT 'it''s :no'::text",
            "SELECT \":no\" FROM t",
            "SELECT $$' ':1 :no$$::tsvector",
            "SELECT 1 -- :no\n",
            "SELECT a[1:2]",
        ] {
            assert_eq!(numbered(sql), (sql.to_owned(), Vec::new()), "{sql}");
        }
    }
}
