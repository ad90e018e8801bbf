//! Conversions between the contract's types and the domain's, in both directions. The only place that knows both.
//!
//! Towards the domain, a [`Check`] collects what is wrong with a request; towards the contract, nothing can
//! go wrong.

mod access;
mod citation;
mod document;
mod encode;
mod message;
mod profile;
mod session;
mod user;

pub(super) use access::{api_key_page, api_key_to_pb, new_api_key, principal_to_pb};
pub(super) use citation::{citation_filter, citations_to_add, placed_citation_to_pb};
pub(super) use document::{document_filter, document_to_pb, new_document};
pub(super) use encode::MessageList;
pub(super) use message::{
    message_change, message_filter, message_range, message_to_pb, new_message, new_messages, receipt_to_pb,
    search, search_hit_to_pb,
};
pub(super) use profile::{profile_change, profile_filter, profile_to_pb};
pub(super) use session::{claim, new_session, session_change, session_filter, session_to_pb};
pub(super) use user::{new_user, user_change, user_filter, user_key, user_to_pb};

use std::ops::RangeInclusive;

use jiff::Timestamp;
use prost_types::FieldMask;
use uuid::Uuid;

use super::pb;
use crate::{
    domain::{Check, FieldPath, JsonMode},
    telemetry,
};

/// The session that a request is about, which its span tells as well.
pub(super) fn session_id(check: &mut Check<'_>, text: &str) -> Uuid {
    telemetry::note_conversation(text);
    check.uuid(&FieldPath::ROOT.field("session_id"), text)
}

/// The same, where a request may be about one session.
fn optional_session_id(check: &mut Check<'_>, text: Option<&str>) -> Option<Uuid> {
    text.map(|text| session_id(check, text))
}

/// An id that the client chose, or a new one.
fn id_or_new(check: &mut Check<'_>, at: &FieldPath<'_>, text: Option<&str>) -> Uuid {
    check.optional_uuid(at, text).unwrap_or_else(Uuid::now_v7)
}

/// The seconds of a valid `google.protobuf.Timestamp`: from 0001-01-01T00:00:00Z up to 9999-12-31T23:59:59Z.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(super) fn time_to_pb(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
    .normalized()
}

/// A time to the microsecond, which is what the database keeps.
pub(super) fn time(
    check: &mut Check<'_>,
    at: &FieldPath<'_>,
    time: Option<prost_types::Timestamp>,
) -> Option<Timestamp> {
    let time = time?;
    if !TIMESTAMP_SECONDS.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        check.violation(
            at,
            "must be a time between the years 1 and 9999, with 0 to 999,999,999 nanos",
        );
        return None;
    }
    // jiff's times end some hours before the contract's, and nothing is stored with a time in the future.
    Some(Timestamp::new(time.seconds, time.nanos / 1000 * 1000).unwrap_or(Timestamp::MAX))
}

fn json_mode(check: &mut Check<'_>, at: &FieldPath<'_>, mode: i32) -> JsonMode {
    match pb::JsonMode::try_from(mode) {
        Ok(pb::JsonMode::Unspecified | pb::JsonMode::Merge) => JsonMode::Merge,
        Ok(pb::JsonMode::Replace) => JsonMode::Replace,
        Err(_) => {
            check.violation(at, format!("must be a JsonMode, is {mode}"));
            JsonMode::Merge
        }
    }
}

/// How many characters of a path that isn't known are shown: more than any known path has.
const MAX_SHOWN_PATH: usize = 40;

/// The fields that a request updates, as its update mask names them.
struct UpdateMask {
    paths: Option<Vec<String>>,
}

impl UpdateMask {
    /// Reads a mask whose paths must be among `known`.
    fn read(check: &mut Check<'_>, mask: Option<FieldMask>, known: &[&str]) -> UpdateMask {
        let paths = mask.map(|mask| mask.paths).filter(|paths| !paths.is_empty());
        let unknown = |path: &&String| *path != "*" && !known.contains(&path.as_str());
        if let Some(path) = paths.iter().flatten().find(unknown) {
            // A client may send anything: what goes back is short.
            let path: String = path.chars().take(MAX_SHOWN_PATH).collect();
            check.violation(
                &FieldPath::ROOT.field("update_mask"),
                format!("names {path:?}; it can name {} or *", known.join(", ")),
            );
        }
        UpdateMask { paths }
    }

    /// The new value of a field: `None` leaves it as it is, `Some(None)` clears it.
    #[allow(clippy::option_option)] // three cases, and all callers pass the inner Option on
    fn apply<T>(&self, field: &str, value: Option<T>) -> Option<Option<T>> {
        let named = match &self.paths {
            None => value.is_some(),
            Some(paths) => paths.iter().any(|path| path == field || path == "*"),
        };
        named.then_some(value)
    }

    /// The new value of a field that can't be cleared; with `*` it may be left out.
    fn apply_required<T>(&self, check: &mut Check<'_>, field: &str, value: Option<T>) -> Option<T> {
        let by_name = self.paths.iter().flatten().any(|path| path == field);
        if by_name && value.is_none() {
            check.violation(
                &FieldPath::ROOT.field(field),
                "is named in update_mask, and can't be cleared",
            );
        }
        self.apply(field, value).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Limits;

    #[test]
    fn times_survive_to_the_microsecond() {
        let limits = Limits::default();
        let mut check = Check::new(&limits, Timestamp::UNIX_EPOCH);
        let at = FieldPath::ROOT.field("t");
        for (seconds, nanos, kept) in [
            (0, 0, 0),
            (-1, 999_999_999, 999_999_000),
            (1_700_000_000, 1_999, 1_000),
        ] {
            let given = prost_types::Timestamp { seconds, nanos };
            let read = time(&mut check, &at, Some(given)).expect("a time");
            assert_eq!(time_to_pb(read), prost_types::Timestamp { seconds, nanos: kept });
        }
        for (seconds, nanos) in [
            (0, -1),
            (0, 1_000_000_000),
            (TIMESTAMP_SECONDS.start() - 1, 0),
            (i64::MAX, 0),
            (i64::MIN, 0),
        ] {
            assert!(time(&mut check, &at, Some(prost_types::Timestamp { seconds, nanos })).is_none());
        }
    }
}
