//! Rows of somebody else's tables, read with patience: columns may be missing, or be called or typed in
//! another way. A row comes as the JSON that PostgreSQL makes of it.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use uuid::Uuid;

use super::record::{Json, parse_as};

/// The namespace from which keys that aren't UUIDs get theirs: made for this purpose, at random.
const NAMESPACE: Uuid = Uuid::from_u128(0x8d2f_6a51_07c4_4b0e_9a63_5be1_c2d7_40f9);
/// Epoch times above this are milliseconds: as seconds they would be after the year 5000.
const MILLIS_FROM: f64 = 1e11;

/// The words that PostgreSQL reads as true, and numbers and texts of programs.
pub(crate) const TRUE: &[&str] = &["true", "t", "yes", "y", "on", "1", "1.0", "active", "enabled"];
/// The same for false.
pub(crate) const FALSE: &[&str] = &[
    "false", "f", "no", "n", "off", "0", "0.0", "", "inactive", "disabled",
];

/// The things that reading needs to know of the source.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Tells the source's integer keys from those of other sources.
    pub name: String,
    /// The zone of times without an offset.
    pub time_zone: TimeZone,
}

impl Origin {
    /// A row's id: its own, where that is a UUID, else a UUIDv5 of the source, the table and the key.
    #[must_use]
    pub fn id(&self, table: &str, key: &str) -> Uuid {
        Uuid::try_parse(key)
            .unwrap_or_else(|_| Uuid::new_v5(&NAMESPACE, format!("{}\n{table}\n{key}", self.name).as_bytes()))
    }

    /// A time in any form that databases and programs write. Microseconds, as PostgreSQL keeps them.
    #[must_use]
    pub fn time(&self, text: &str) -> Option<Timestamp> {
        let time = text.parse::<Timestamp>().ok().or_else(|| {
            let civil = text.parse::<DateTime>().ok()?;
            Some(civil.to_zoned(self.time_zone.clone()).ok()?.timestamp())
        });
        let time = time.or_else(|| epoch(text.parse().ok()?))?;
        Timestamp::from_microsecond(time.as_microsecond()).ok()
    }
}

#[allow(clippy::cast_possible_truncation)] // saturates, and is then no timestamp
fn epoch(number: f64) -> Option<Timestamp> {
    if !number.is_finite() {
        return None;
    }
    let seconds = if number.abs() >= MILLIS_FROM {
        number / 1e3
    } else {
        number
    };
    Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
}

/// A row: what hasn't been taken of it yet.
pub(crate) struct SourceRow(BTreeMap<String, Json>);

impl SourceRow {
    /// Reads a JSON object; its nulls are as good as absent.
    pub(crate) fn parse(text: &str) -> Result<SourceRow, String> {
        let mut fields: BTreeMap<String, Json> = parse_as(text)?;
        fields.retain(|_, value| value.get() != "null");
        Ok(SourceRow(fields))
    }

    /// Takes the first of these fields that is there.
    pub(crate) fn json(&mut self, names: &[&str]) -> Option<Json> {
        names.iter().find_map(|name| self.0.remove(*name))
    }

    /// The field as text; of what is no string, its JSON.
    pub(crate) fn text(&mut self, names: &[&str]) -> Option<String> {
        self.json(names).map(|value| plain(&value))
    }

    /// The field as a time. What can't be read as one stays in the row.
    pub(crate) fn time(&mut self, names: &[&str], origin: &Origin) -> Option<Timestamp> {
        let (name, time) = names.iter().find_map(|name| {
            let time = origin.time(&plain(self.0.get(*name)?))?;
            Some((*name, time))
        })?;
        self.0.remove(name);
        Some(time)
    }

    /// The field as a number.
    pub(crate) fn number<T: std::str::FromStr>(&mut self, names: &[&str]) -> Option<T> {
        self.text(names)?.parse().ok()
    }

    /// The field as whether something is so, in the words that databases and programs have for it. What is none of them
    /// stays in the row.
    pub(crate) fn truth(&mut self, names: &[&str]) -> Option<bool> {
        let (name, truth) = names.iter().find_map(|name| {
            let text = plain(self.0.get(*name)?).trim().to_lowercase();
            let truth = match text.as_str() {
                word if TRUE.contains(&word) => true,
                word if FALSE.contains(&word) => false,
                _ => return None,
            };
            Some((*name, truth))
        })?;
        self.0.remove(name);
        Some(truth)
    }

    /// Whether one of these fields is there.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.contains_key(*name))
    }

    /// The names of the fields that nobody has taken.
    pub(crate) fn names(self) -> Vec<String> {
        self.0.into_keys().collect()
    }

    /// The fields that nobody has taken.
    pub(crate) fn rest(self) -> BTreeMap<String, Json> {
        self.0
    }
}

fn plain(value: &Json) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_forms_are_one() {
        let origin = Origin {
            name: String::new(),
            time_zone: TimeZone::get("Asia/Karachi").expect("a zone"),
        };
        let expected: Timestamp = "2024-01-15T10:30:00.25Z".parse().expect("a time");
        for text in [
            "2024-01-15T10:30:00.250000+00:00",
            "2024-01-15 15:30:00.25",
            "2024-01-15T15:30:00.2500009",
            "1705314600.25",
            "1705314600250",
        ] {
            assert_eq!(origin.time(text), Some(expected), "{text}");
        }
        assert_eq!(origin.time("yesterday"), None);
        assert_eq!(origin.time("infinity"), None);
        assert_eq!(origin.time("NaN"), None);
    }

    #[test]
    fn truth_has_many_words_and_what_is_none_of_them_stays() {
        for (json, expected) in [
            ("true", Some(true)),
            ("1", Some(true)),
            (r#"" Yes ""#, Some(true)),
            ("false", Some(false)),
            ("0", Some(false)),
            (r#""f""#, Some(false)),
            (r#""False""#, Some(false)),
            (r#""no""#, Some(false)),
            (r#""suspended""#, None),
            ("2", None),
        ] {
            let mut row = SourceRow::parse(&format!(r#"{{"is_active": {json}}}"#)).expect("a row");
            assert_eq!(row.truth(&["is_active"]), expected, "{json}");
            assert_eq!(row.has(&["is_active"]), expected.is_none(), "{json}");
        }
    }

    #[test]
    fn uuids_are_kept_and_other_keys_depend_on_source_and_table() {
        let origin = |name: &str| Origin {
            name: name.to_owned(),
            time_zone: TimeZone::UTC,
        };
        let id = Uuid::now_v7();
        assert_eq!(origin("a").id("users", &id.to_string()), id);
        let derived = origin("a").id("users", "42");
        assert_eq!(derived.get_version_num(), 5);
        assert_eq!(derived, origin("a").id("users", "42"));
        assert_ne!(derived, origin("b").id("users", "42"));
        assert_ne!(derived, origin("a").id("chat_sessions", "42"));
    }
}
