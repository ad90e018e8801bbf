//! How a source is read: statements, and the functions that read their rows.

use crate::{
    record::{Record, RecordKind},
    row::Origin,
};

/// Counts no messages.
pub(super) const NOTHING: &str = "SELECT 0::bigint";

/// What a row becomes.
pub(crate) type RowReader = fn(&Origin, &str, Option<&str>) -> Result<Record, String>;

/// A statement, and the function that reads its rows.
pub(crate) struct RowQuery {
    /// The statement.
    pub sql: String,
    /// What a row of it becomes.
    pub read: RowReader,
    /// What that is, for rows that can't be read.
    pub kind: RecordKind,
}

/// How a source is read.
pub(crate) struct ReadPlan {
    /// Documents, users and profiles, in this order, where there are any.
    pub before: Vec<RowQuery>,
    /// Sessions and messages, both in the order of the sessions.
    pub chats: Option<(RowQuery, RowQuery)>,
    /// How many messages there are, for the progress bar.
    pub count: String,
    /// Counts the citations whose message is missing, where there can be some.
    pub(crate) lost_citations: Option<String>,
}
