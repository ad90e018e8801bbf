//! The append path: how messages get their place in a session.
//!
//! [`append`] commits units of messages, for any sessions, together: on the fast path by one statement, on
//! the slow path under the sessions' locks, unit by unit. A unit is stored as a whole or not at all, and a
//! bad one harms no other.

mod append;
mod batch;
mod decide;
mod lookup;

pub use append::append;

use uuid::Uuid;

use crate::{
    auth::Caller,
    domain::{
        Result,
        message::{NewMessage, Receipt},
    },
    postgres::Sql,
};

/// Messages for one session that are stored together, in order.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Who appends.
    pub caller: Caller,
    /// To which session.
    pub session_id: Uuid,
    /// The messages; at least one, and no id twice.
    pub messages: Vec<NewMessage>,
    /// Only if this is the session's last seq.
    pub expected_last_seq: Option<i64>,
}

/// What became of a unit: a receipt for each of its messages, or why it was not stored.
pub type Outcome = Result<Vec<Receipt>>;

/// Every statement of the append path, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    [
        &batch::APPEND,
        &decide::LOCK,
        &lookup::LOOKUP,
        &append::RAISE_LAST_SEQ,
    ]
    .into_iter()
}
