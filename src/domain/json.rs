//! JSON fields: objects that travel as text and are stored as JSONB.
//!
//! JSONB refuses some texts that are good JSON: `\u0000`, lone surrogates, and numbers that `numeric` can't
//! hold. One such value would fail a whole batch of appends, so they are found here, before anything is
//! queued. JSONB also writes a number out in full: `1e131071` is six bytes in, 131,072 bytes out. So a
//! number counts with the length that it is read back with.

use std::collections::BTreeMap;

use serde_json::{error::Category, value::RawValue};

use super::Limits;

/// A JSON object's text, within the limits, that JSONB can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonObject(String);

impl JsonObject {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        JsonObject("{}".to_owned())
    }
}

/// The most digits behind the point that Postgres' `numeric` holds.
const MAX_SCALE: i64 = 16_383;
/// The most digits before the point that Postgres' `numeric` holds.
const MAX_WEIGHT: i64 = 131_072;

/// Reads a JSON object; an empty text is `{}`. The error is words to put behind the field's name.
///
/// # Errors
/// What is wrong with the text, with the position where there is one.
pub fn parse(text: String, limits: &Limits) -> Result<JsonObject, String> {
    if text.is_empty() {
        return Ok(JsonObject::default());
    }
    if text.len() > limits.max_json_bytes {
        return Err(too_large(limits, text.len()));
    }
    // Also refuses bad syntax, arrays and scalars, all with their position.
    serde_json::from_str::<BTreeMap<String, &RawValue>>(&text).map_err(|error| not_an_object(&error))?;
    let size = measure(&text, limits.max_json_depth)?;
    if size > limits.max_json_bytes {
        return Err(too_large(limits, size));
    }
    Ok(JsonObject(text))
}

/// Checks an object that Postgres has merged: a good part on a good part may be too large together. The
/// error is words to put behind the field's name.
///
/// # Errors
/// The size, where it is over the limit.
pub fn check_merged(stored: &str, limits: &Limits) -> Result<(), String> {
    let size = measure(stored, limits.max_json_depth)?;
    if size > limits.max_json_bytes {
        return Err(format!(
            "would be too large when merged: {}",
            too_large(limits, size)
        ));
    }
    Ok(())
}

/// serde's words for a wrong type quote the value, whatever its length.
fn not_an_object(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => format!(
            "must be a JSON object, is something else at line {} column {}",
            error.line(),
            error.column()
        ),
        _ => format!("must be a JSON object: {error}"),
    }
}

fn too_large(limits: &Limits, size: usize) -> String {
    format!(
        "must have at most {} bytes, has {size} (numbers count in full)",
        limits.max_json_bytes
    )
}

/// The size of good JSON without its white space and with its numbers written out in full; an error for
/// what JSONB can't hold or what is too deep.
fn measure(text: &str, max_depth: usize) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut size) = (0, 0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b'"' => string_end(bytes, at)?,
            b'-' | b'0'..=b'9' => number_end(bytes, at),
            _ => at + 1,
        };
        size += match byte {
            b' ' | b'\t' | b'\n' | b'\r' => 0,
            b'-' | b'0'..=b'9' => expanded_length(&text[at..end])
                .ok_or_else(|| format!("has a number that the database can't hold, at byte {at}"))?,
            _ => end - at,
        };
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max_depth {
            return Err(format!(
                "must have at most {max_depth} levels; byte {at} goes deeper"
            ));
        }
        at = end;
    }
    Ok(size)
}

/// The place behind the closing quote of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, String> {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => at = unicode_escape_end(bytes, at)?,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(bytes.len())
}

/// The place behind the `\uXXXX`, or the surrogate pair of two, that begins at `at`.
fn unicode_escape_end(bytes: &[u8], at: usize) -> Result<usize, String> {
    match escaped_unit(bytes, at) {
        Some(0) => Err(format!("must not contain \\u0000, as at byte {at}")),
        Some(0xD800..=0xDBFF) => match escaped_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(format!("has a lone surrogate at byte {at}")),
        },
        Some(0xDC00..=0xDFFF) => Err(format!("has a lone surrogate at byte {at}")),
        _ => Ok(at + 6),
    }
}

fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    let length = rest
        .iter()
        .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
    start + length.unwrap_or(rest.len())
}

/// How long a number is when written without an exponent, or `None` if `numeric` can't hold it.
fn expanded_length(number: &str) -> Option<usize> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.parse::<i32>().ok()?)),
        None => (number, None),
    };
    let unsigned = mantissa.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let shift = i64::from(exponent.unwrap_or(0));
    let before = (i64::try_from(whole.len()).ok()? + shift).max(1);
    let behind = (i64::try_from(fraction.len()).ok()? - shift).max(0);
    if before > MAX_WEIGHT || behind > MAX_SCALE {
        return None;
    }
    if exponent.is_none() {
        return Some(number.len());
    }
    let sign = mantissa.len() - unsigned.len();
    let point = usize::from(behind > 0);
    Some(sign + point + usize::try_from(before + behind).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_default(text: &str) -> Result<JsonObject, String> {
        parse(text.to_owned(), &Limits::default())
    }

    #[test]
    fn what_jsonb_cannot_hold_is_refused_with_its_place() {
        for (text, words) in [
            (r#"{"a":"\u0000"}"#, "\\u0000, as at byte 6"),
            (r#"{"a":"\ud83d"}"#, "lone surrogate at byte 6"),
            (r#"{"a":"\ude00x"}"#, "lone surrogate"),
            (r#"{"\ud83dA":1}"#, "line 1 column"),
            (
                r#"{"a":1e131073}"#,
                "number that the database can't hold, at byte 5",
            ),
            (r#"{"a":1e-16384}"#, "can't hold"),
            (r#"{"a":1e99999999999999999999}"#, "can't hold"),
            (r#"{"a":1e131071}"#, "at most 65536 bytes"),
            ("[]", "JSON object"),
            ("3", "JSON object"),
            ("null", "JSON object"),
            (r#"{"a":1"#, "line 1 column 6"),
            (r#"{"a":1} x"#, "trailing characters"),
        ] {
            let error = parse_default(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn good_objects_pass_unchanged() {
        for text in [
            "{}",
            r#"{"a":"\ud83d\ude00","b":[1,-2.5e10,{"c":null}],"\\u0000":"\\"}"#,
            "{\n  \"n\": 9007199254740993\n}",
        ] {
            assert_eq!(parse_default(text).expect(text).as_str(), text);
        }
        assert_eq!(parse_default("").expect("empty").as_str(), "{}");
    }

    #[test]
    fn depth_and_size_hold_at_their_edges() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(parse_default(&nested(32)).is_ok());
        assert!(
            parse_default(&nested(33))
                .expect_err("deep")
                .contains("at most 32 levels")
        );

        let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(parse_default(&sized(65_536)).is_ok());
        assert!(parse_default(&sized(65_537)).is_err());
    }

    #[test]
    fn the_size_of_a_merged_object_leaves_out_the_spaces_that_jsonb_writes() {
        let limits = Limits {
            max_json_bytes: 12,
            ..Limits::default()
        };
        assert!(check_merged(r#"{"a": 1, "b": 2}"#, &limits).is_err());
        let limits = Limits {
            max_json_bytes: 13,
            ..Limits::default()
        };
        assert!(check_merged(r#"{"a": 1, "b": 2}"#, &limits).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in ".*") {
            let _ = parse_default(&text);
        }

        #[test]
        fn any_escapes_and_numbers_are_answered_without_a_panic(text in r#"\{"a":("(\\u[0-9a-fD]{4}|\\\\|x)*"|-?[0-9]{1,3}(\.[0-9]{1,3})?(e[+-]?[0-9]{1,6})?)\}"#) {
            let _ = parse_default(&text);
        }
    }
}
