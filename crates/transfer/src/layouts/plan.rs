//! How a source is read: statements, and the functions that read their rows.

use crate::{
    record::{Record, RecordKind},
    row::Origin,
};

/// Counts no messages.
pub(super) const NOTHING: &str = "SELECT 0::bigint";

/// The function that makes a row a record.
pub(crate) type RowReader = fn(&Origin, &str, Option<&str>) -> Result<Record, String>;

/// A statement, and the function that reads its rows.
pub(crate) struct RowQuery {
    /// The statement.
    pub sql: String,
    /// The function that makes its rows records.
    pub read: RowReader,
    /// The kind of those records, for rows that can't be read.
    pub kind: RecordKind,
}

/// The way that a source is read.
pub(crate) struct ReadPlan {
    /// Documents, users and profiles, in this order, where there are any.
    pub before: Vec<RowQuery>,
    /// Sessions and messages, both in the order of the sessions.
    pub chats: Option<(RowQuery, RowQuery)>,
    /// The statement that counts the messages, for the progress bar.
    pub count: String,
    /// Counts the citations whose message is missing, where there can be some.
    pub(crate) lost_citations: Option<String>,
}
