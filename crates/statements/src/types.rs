//! PostgreSQL's types as Rust has them.

use anyhow::{Context as _, Result};

/// A type as a file writes it: `uuid`, `text?` (nullable), `text?[]` (an array of nullable elements), `text[]?`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SqlType {
    base: &'static Base,
    is_array: bool,
    has_null_elements: bool,
    is_nullable: bool,
}

/// A type that isn't an array.
#[derive(Debug, PartialEq)]
struct Base {
    name: &'static str,
    /// The constant of `tokio_postgres::types::Type`.
    constant: &'static str,
    /// What a parameter is given as.
    given: &'static str,
    /// What a column is read as.
    read: &'static str,
    /// What the driver reads it as, and what makes the former of it.
    through: Option<(&'static str, &'static str)>,
}

const fn base(name: &'static str, constant: &'static str, rust: &'static str) -> Base {
    Base {
        name,
        constant,
        given: rust,
        read: rust,
        through: None,
    }
}

static BASES: &[Base] = &[
    base("uuid", "UUID", "Uuid"),
    base("bool", "BOOL", "bool"),
    base("int4", "INT4", "i32"),
    base("int8", "INT8", "i64"),
    base("float4", "FLOAT4", "f32"),
    base("float8", "FLOAT8", "f64"),
    base("oid", "OID", "u32"),
    base("regconfig", "REGCONFIG", "RegConfig"),
    Base {
        given: "&'a str",
        read: "String",
        ..base("text", "TEXT", "")
    },
    Base {
        given: "&'a [u8]",
        read: "Bytes",
        through: Some(("Vec<u8>", "Bytes::from")),
        ..base("bytea", "BYTEA", "")
    },
    Base {
        through: Some(("Time", "Timestamp::from")),
        ..base("timestamptz", "TIMESTAMPTZ", "Timestamp")
    },
];

impl SqlType {
    /// Reads a type.
    pub(crate) fn parse(text: &str) -> Result<SqlType> {
        let (element, is_nullable, is_array) = match text.strip_suffix("[]?") {
            Some(element) => (element, true, true),
            None => match text.strip_suffix("[]") {
                Some(element) => (element, false, true),
                None => (text, text.ends_with('?'), false),
            },
        };
        let name = element.strip_suffix('?').unwrap_or(element);
        let base = BASES.iter().find(|base| base.name == name);
        Ok(SqlType {
            base: base.with_context(|| format!("{text:?} is no type that is known here"))?,
            is_array,
            has_null_elements: is_array && element.ends_with('?'),
            is_nullable,
        })
    }

    /// The constant of `tokio_postgres::types::Type`.
    pub(crate) fn constant(self) -> String {
        let array = if self.is_array { "_ARRAY" } else { "" };
        format!("Type::{}{array}", self.base.constant)
    }

    /// The Rust type of a parameter.
    pub(crate) fn given(self) -> String {
        self.wrap(self.base.given, |element| format!("&'a [{element}]"))
    }

    /// Whether a parameter of the type is borrowed.
    pub(crate) fn is_borrowed(self) -> bool {
        self.given().contains("'a")
    }

    /// The Rust type of a column.
    pub(crate) fn read(self) -> String {
        self.wrap(self.base.read, |element| format!("Vec<{element}>"))
    }

    /// The Rust type of a column that is borrowed from its row.
    pub(crate) fn borrowed(self) -> Option<String> {
        let rust = self.wrap(self.base.given, |element| format!("Vec<{element}>"));
        (!self.is_array).then(|| rust.replace("'a", "'r"))
    }

    /// The expression that reads the column at a place, borrowed from its row.
    pub(crate) fn borrowing_reader(self, place: usize) -> String {
        if self.base.given.contains("'a") {
            format!("row.try_get({place})?")
        } else {
            self.reader(&place.to_string())
        }
    }

    /// The expression that reads the column at a place.
    pub(crate) fn reader(self, place: &str) -> String {
        match self.base.through {
            Some((driver, make)) if self.is_nullable => {
                format!("row.try_get::<_, Option<{driver}>>({place})?.map({make})")
            }
            Some((driver, make)) => format!("{make}(row.try_get::<_, {driver}>({place})?)"),
            None => format!("row.try_get({place})?"),
        }
    }

    fn wrap(self, element: &str, array: impl Fn(&str) -> String) -> String {
        let optional = |text: String| format!("Option<{text}>");
        let mut rust = element.to_owned();
        if self.is_array {
            if self.has_null_elements {
                rust = optional(rust);
            }
            rust = array(&rust);
        }
        if self.is_nullable { optional(rust) } else { rust }
    }
}

#[cfg(test)]
mod tests {
    use super::SqlType;

    #[test]
    fn nulls_are_options_where_they_may_be() {
        let rust = |text| {
            let sql_type = SqlType::parse(text).unwrap();
            (sql_type.given(), sql_type.read())
        };
        assert_eq!(rust("int8"), ("i64".into(), "i64".into()));
        assert_eq!(rust("text?"), ("Option<&'a str>".into(), "Option<String>".into()));
        assert_eq!(
            rust("text?[]"),
            ("&'a [Option<&'a str>]".into(), "Vec<Option<String>>".into())
        );
        assert_eq!(
            rust("uuid[]?"),
            ("Option<&'a [Uuid]>".into(), "Option<Vec<Uuid>>".into())
        );
    }

    #[test]
    fn another_type_is_told() {
        let error = SqlType::parse("varchar").unwrap_err().to_string();
        assert!(error.contains("varchar"), "{error}");
    }
}
