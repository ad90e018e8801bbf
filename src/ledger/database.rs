//! The questions that the append path asks of a database, so that its decisions can be tried without one: PostgreSQL
//! answers by the statements of [`statements`](mod@super::statements), and in tests a database that fails by a seed's
//! plan.

use std::{collections::HashMap, fmt::Display, future::Future};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Unit,
    decide::{IdLookup, Insertion, LockedSession},
};
use crate::domain::{Error, message::Receipt};

/// A database, or a pool of connections to one.
pub(super) trait Database: Clone + Send + Sync + 'static {
    /// The reason why it didn't do something.
    type Failure: DatabaseFailure;
    /// The transactions of this database.
    type Tx: Transaction<Failure = Self::Failure>;

    /// Stores units of which nobody has looked up what is stored, in a transaction of its own. Units of sessions that
    /// don't exist, that aren't their callers', or that somebody else has locked, are left out.
    fn append(&self, units: &[&Unit]) -> impl Future<Output = Result<AppendedRows, Self::Failure>> + Send;

    /// Raises the counters of the units' sessions, those that are their callers', to the last seq that is stored.
    fn raise_last_seq(&self, units: &[&Unit]) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Begins a transaction, in which every statement sees what is committed by then.
    fn begin(&self) -> impl Future<Output = Result<Self::Tx, Self::Failure>> + Send;
}

/// A transaction. Its locks last until it ends.
pub(super) trait Transaction: Send + Sync {
    /// The same failures as the database's.
    type Failure: DatabaseFailure;

    /// Locks the sessions that exist, and are their callers', and reads them.
    fn lock(
        &self,
        units: &[&Unit],
        lock_wait: LockWait,
    ) -> impl Future<Output = Result<HashMap<Uuid, LockedSession>, Self::Failure>> + Send;

    /// Reads what is stored under the units' message ids.
    fn look_up(&self, units: &[&Unit]) -> impl Future<Output = Result<IdLookup, Self::Failure>> + Send;

    /// Stores messages at the ends of sessions that are locked.
    fn insert(
        &self,
        insertions: &[Insertion<'_>],
    ) -> impl Future<Output = Result<AppendedRows, Self::Failure>> + Send;

    /// Commits if `result` is good, and rolls back otherwise.
    fn end<T: Send>(
        self,
        result: Result<T, Self::Failure>,
    ) -> impl Future<Output = Result<T, Self::Failure>> + Send;
}

/// The choice about a session that somebody else has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockWait {
    /// Leave its units alone.
    Skip,
    /// Wait for it, as long as the transaction's lock_timeout lets us.
    Wait,
}

/// The reason why a database didn't do something.
pub(super) trait DatabaseFailure: Display + Send + Sync {
    /// The remedy that the append path tries.
    fn remedy(&self) -> Remedy;
    /// The error that callers are told where nothing can be done about it.
    fn into_error(self) -> Error;
}

/// The remedy for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// An id is stored already: decide under the locks.
    Slowly,
    /// A seq is taken: raise the counters, then again.
    RaiseLastSeq,
    /// The transaction is known not to have happened, or it is safe to run it once more: message ids make
    /// sure that nothing is stored twice. (That they aren't there proves nothing after a lost connection;
    /// the locks wait for the lost transaction.)
    Again,
    /// Something in the data, or somebody's own trigger or constraint: find out which unit, and let the others
    /// pass.
    Divide,
    /// A lock isn't to be had. Where sessions' locks aren't waited for, it is one that somebody's own trigger wants:
    /// as [`Remedy::Divide`]. Else the session's was waited for long enough.
    Blocked,
    /// No remedy: the units fail.
    GiveUp,
}

impl Remedy {
    /// What made it necessary, as the metrics tell it.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Remedy::Slowly => "id_stored",
            Remedy::RaiseLastSeq => "seq_taken",
            Remedy::Again => "transaction_failed",
            Remedy::Divide => "refused",
            Remedy::Blocked => "locked",
            Remedy::GiveUp => "failed",
        }
    }
}

/// The rows that were stored, by row id.
#[derive(Debug, Default)]
pub(super) struct AppendedRows {
    rows: HashMap<Uuid, AppendedRow>,
}

/// A row that was stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendedRow {
    pub(super) id: Uuid,
    pub(super) session_id: Uuid,
    pub(super) seq: i64,
    pub(super) created_at: Timestamp,
}

impl FromIterator<AppendedRow> for AppendedRows {
    fn from_iter<T: IntoIterator<Item = AppendedRow>>(rows: T) -> AppendedRows {
        AppendedRows {
            rows: rows.into_iter().map(|row| (row.id, row)).collect(),
        }
    }
}

impl AppendedRows {
    /// The receipts of a unit whose messages are stored under these row ids; `None` where its session was left out.
    /// Another unit's message may be stored under the same id then, in another session.
    pub(super) fn receipts(
        &self,
        unit: &Unit,
        row_ids: impl IntoIterator<Item = Uuid>,
    ) -> Option<Vec<Receipt>> {
        let receipts = row_ids.into_iter().zip(&unit.messages).map(|(id, message)| {
            let row = self.rows.get(&id)?;
            (row.session_id == unit.session_id).then_some(Receipt {
                message_id: message.id,
                session_id: unit.session_id,
                seq: row.seq,
                created_at: row.created_at,
                deduplicated: false,
            })
        });
        receipts.collect()
    }
}
