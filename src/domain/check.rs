//! Collects all that is wrong with a request, so that the client hears of it at once.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, JsonObject, Limits, Result, Violation, json};

/// The place of a field within its request. It is written out only when there is something to say of it.
#[derive(Clone, Copy)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    name: &'a str,
    index: Option<usize>,
}

impl<'a> FieldPath<'a> {
    /// The request itself.
    pub const ROOT: FieldPath<'static> = FieldPath {
        parent: None,
        name: "",
        index: None,
    };

    /// A field of this message.
    #[must_use]
    pub fn field(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            name,
            index: None,
        }
    }

    /// An element, counted from 0, of a repeated field of this message.
    #[must_use]
    pub fn item(&'a self, name: &'a str, index: usize) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            name,
            index: Some(index),
        }
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if parent.parent.is_some() {
                f.write_str(".")?;
            }
        }
        f.write_str(self.name)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// The most violations that are collected: more than a status can tell, whatever their length, and few enough to hold.
/// (`api::status` tells as many as fit.)
const MAX_VIOLATIONS: usize = 500;

/// The check of one request: its limits, its time, and what was found wrong so far. A method that reads a
/// value answers a stand-in for a bad one; [`Check::finish`] then keeps it from being used.
pub struct Check<'a> {
    /// The limits that hold.
    pub limits: &'a Limits,
    /// The time of the request: a time after this is in the future.
    pub now: Timestamp,
    violations: Vec<Violation>,
}

impl<'a> Check<'a> {
    /// Begins the check of a request that came in at `now`.
    #[must_use]
    pub fn new(limits: &'a Limits, now: Timestamp) -> Self {
        Check {
            limits,
            now,
            violations: Vec::new(),
        }
    }

    /// The value, or all that was found wrong.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation.
    pub fn finish<T>(self, value: T) -> Result<T> {
        if self.violations.is_empty() {
            Ok(value)
        } else {
            Err(Error::Invalid(self.violations))
        }
    }

    /// Notes that a field is wrong.
    pub fn violation(&mut self, at: &FieldPath<'_>, description: impl Into<String>) {
        if self.violations.len() == MAX_VIOLATIONS {
            return;
        }
        self.violations.push(Violation {
            field: at.to_string(),
            description: description.into(),
        });
    }

    /// A UUID in canonical text form, of any case.
    pub fn uuid(&mut self, at: &FieldPath<'_>, text: &str) -> Uuid {
        // Uuid's own parser also takes braces, URNs and 32 bare digits, which the contract doesn't.
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => id,
            // The stand-in is like no other id, so that two bad ids aren't called the same one as well.
            _ if text.is_empty() => {
                self.violation(at, "is required");
                Uuid::now_v7()
            }
            _ => {
                self.violation(at, "must be a UUID such as 0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f");
                Uuid::now_v7()
            }
        }
    }

    /// A UUID that may be left out. An empty text is a mistake, not an absence.
    pub fn optional_uuid(&mut self, at: &FieldPath<'_>, text: Option<&str>) -> Option<Uuid> {
        text.map(|text| self.uuid(at, text))
    }

    /// A text of at most `max` bytes that Postgres can hold.
    pub fn text_bytes(&mut self, at: &FieldPath<'_>, text: &str, max: usize) {
        if text.len() > max {
            self.violation(at, format!("must have at most {max} bytes, has {}", text.len()));
        } else {
            self.no_nul(at, text);
        }
    }

    /// A text of at most `max` characters that Postgres can hold.
    pub fn text_chars(&mut self, at: &FieldPath<'_>, text: &str, max: usize) {
        let count = text.chars().count();
        if count > max {
            self.violation(at, format!("must have at most {max} characters, has {count}"));
        } else {
            self.no_nul(at, text);
        }
    }

    /// A text of 1 to `max` characters.
    pub fn required_chars(&mut self, at: &FieldPath<'_>, text: &str, max: usize) {
        if text.is_empty() {
            self.violation(at, "is required");
        } else {
            self.text_chars(at, text, max);
        }
    }

    /// A text of 1 to `max` bytes.
    pub fn required_bytes(&mut self, at: &FieldPath<'_>, text: &str, max: usize) {
        if text.is_empty() {
            self.violation(at, "is required");
        } else {
            self.text_bytes(at, text, max);
        }
    }

    /// The key of a document, or of a chunk of one.
    pub fn document_id(&mut self, at: &FieldPath<'_>, text: &str) {
        self.required_bytes(at, text, self.limits.max_source_id_bytes);
    }

    /// A JSON object within the limits; an empty text is `{}`.
    pub fn json(&mut self, at: &FieldPath<'_>, text: String) -> JsonObject {
        match json::parse(text, self.limits) {
            Ok(object) => object,
            Err(description) => {
                self.violation(at, description);
                JsonObject::default()
            }
        }
    }

    /// A JSON object as for [`Check::json`], of a field that may be left out.
    pub fn optional_json(&mut self, at: &FieldPath<'_>, text: Option<String>) -> Option<JsonObject> {
        text.map(|text| self.json(at, text))
    }

    fn no_nul(&mut self, at: &FieldPath<'_>, text: &str) {
        if text.as_bytes().contains(&0) {
            self.violation(at, "must not contain a NUL character");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_field_violations_do() {
        let message = FieldPath::ROOT.item("messages", 3);
        let citation = message.item("citations", 0);
        assert_eq!(
            citation.field("score").to_string(),
            "messages[3].citations[0].score"
        );
        assert_eq!(FieldPath::ROOT.field("email").to_string(), "email");
    }

    #[test]
    fn uuids_are_read_in_canonical_form_only() {
        let limits = Limits::default();
        for (text, good) in [
            ("0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f", true),
            ("0193B2A4-7C1E-7D2A-9F3B-5E8D1C0A4B6F", true),
            ("0193b2a47c1e7d2a9f3b5e8d1c0a4b6f", false),
            ("{0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f}", false),
            ("urn:uuid:0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f", false),
            ("", false),
        ] {
            let mut check = Check::new(&limits, Timestamp::UNIX_EPOCH);
            check.uuid(&FieldPath::ROOT.field("id"), text);
            assert_eq!(check.finish(()).is_ok(), good, "{text}");
        }
    }
}
