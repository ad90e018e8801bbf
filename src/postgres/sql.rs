//! A statement and the types of its parameters.

use tokio_postgres::types::Type;

/// A statement of the service. The types are given, so that one round trip is enough where statements
/// can't be prepared (behind a transaction pooler), and so that a test can prepare them all.
#[derive(Debug)]
pub struct Sql {
    /// The statement's text.
    pub text: &'static str,
    /// The types of `$1`, `$2`, ...
    pub params: &'static [Type],
}

/// A text that, in a `LIKE` pattern, matches just itself.
#[must_use]
pub fn like_literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    #[test]
    fn wildcards_are_taken_literally() {
        assert_eq!(super::like_literal(r"50%_a\b"), r"50\%\_a\\b");
    }
}
