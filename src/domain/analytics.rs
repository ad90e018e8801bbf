//! Reports: what a team asks of its tables.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Check, FieldPath};

/// A document and how often it was cited.
#[derive(Clone, Debug, PartialEq)]
pub struct TopDocument {
    /// The document's key.
    pub document_id: String,
    /// The document's title; empty where it isn't registered.
    pub title: String,
    /// How many citations name it.
    pub citation_count: i64,
    /// The mean of their scores.
    pub mean_score: f64,
}

/// How much one user chatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserActivity {
    /// The user.
    pub user_id: Uuid,
    /// The user's email; empty where users aren't kept.
    pub email: String,
    /// How many sessions.
    pub session_count: i64,
    /// How many messages were ever appended to them.
    pub message_count: i64,
    /// The moment when one of them was last appended to, or created.
    pub last_active_at: Option<Timestamp>,
}

/// One day's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyVolume {
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// How many messages were appended.
    pub message_count: i64,
    /// How many sessions they were appended to.
    pub session_count: i64,
}

/// How many sessions have a length within a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LengthBucket {
    /// The range.
    pub label: String,
    /// How many sessions.
    pub session_count: i64,
}

/// The time zone of days where none is asked for.
pub const DEFAULT_TIME_ZONE: &str = "UTC";
/// The longest name of a time zone, in characters: those in the time zone database have 32 at most.
const MAX_TIME_ZONE: usize = 64;

/// Checks the name of a time zone. Whether there is such a zone is the database's to say.
pub fn check_time_zone(check: &mut Check<'_>, at: &FieldPath<'_>, name: &str) {
    check.required_chars(at, name, MAX_TIME_ZONE);
}
