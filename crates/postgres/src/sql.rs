//! A statement and the types of its parameters.

use std::error::Error;

use jiff::Timestamp;
use tokio_postgres::types::{FromSql, Type, accepts};

/// A statement of the service. The types are given, so that one round trip is enough where statements
/// can't be prepared (behind a transaction pooler), and so that a test can prepare them all.
#[derive(Debug)]
pub struct Sql {
    /// The name by which it is counted and followed, such as `session.Get`.
    pub name: &'static str,
    /// The statement's text.
    pub text: &'static str,
    /// The types of `$1`, `$2`, ...
    pub params: &'static [Type],
}

/// A time in a row. SQL by hand can store some that a [`Timestamp`] can't hold, such as `-infinity`: they are
/// read as the earliest or the latest that clients can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Time {
    /// The beginning of the year 1, where protobuf's `Timestamp` begins.
    const EARLIEST: Timestamp = Timestamp::constant(-62_135_596_800, 0);
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Timestamp {
        time.0
    }
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // On the wire, a signed number of microseconds, most significant byte first.
        let is_early = raw.first().is_some_and(|byte| byte & 0x80 != 0);
        let time = Timestamp::from_sql(ty, raw);
        Ok(Time(
            time.unwrap_or(if is_early { Time::EARLIEST } else { Timestamp::MAX })
                .max(Time::EARLIEST),
        ))
    }

    accepts!(TIMESTAMPTZ);
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
