//! The append path's statements, and what PostgreSQL's failures mean for it.

use std::collections::HashMap;

use tokio_postgres::{Row, error::SqlState, types::Type};
use uuid::Uuid;

use super::{
    Unit,
    batch::{APPEND_CITED, APPEND_UNCITED, Batch},
    database::{AppendedRow, AppendedRows, Database, DatabaseFailure, LockWait, Remedy, Transaction},
    decide::{IdLookup, Insertion, LockedSession, MessagePlace, StoredMessage},
};
use crate::{domain::Error, store::is_refusal};
use chatledger_postgres::{Db, DbError, Sql, Time, Tx};

/// In id order, as every statement that locks sessions does. Whose they are is looked at afterwards: one
/// batch may hold units of different callers.
macro_rules! lock {
    ($locked:literal) => {
        Sql {
            text: concat!(
                "SELECT id, tenant_id, user_id, last_seq FROM chat_sessions WHERE id = ANY($1)
                ORDER BY id FOR NO KEY UPDATE",
                $locked
            ),
            params: &[Type::UUID_ARRAY],
        }
    };
}

static LOCK: Sql = lock!("");
static LOCK_FREE: Sql = lock!(" SKIP LOCKED");

static LOOKUP: Sql = Sql {
    text: include_str!("sql/lookup.sql"),
    params: &[
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::BYTEA_ARRAY,
    ],
};

/// Where a seq was given by hand that the counter hadn't reached. The rows lock, so the counter can't move
/// meanwhile.
static RAISE_LAST_SEQ: Sql = Sql {
    text: "WITH locked AS (
            SELECT id FROM chat_sessions WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)
        UPDATE chat_sessions s SET last_seq = greatest(
            s.last_seq, (SELECT max(seq) FROM messages m WHERE m.session_id = s.id))
        FROM locked WHERE s.id = locked.id",
    params: &[Type::UUID_ARRAY],
};

/// All statements, for the test that prepares them.
pub(super) static ALL: [&Sql; 6] = [
    &APPEND_CITED,
    &APPEND_UNCITED,
    &LOCK,
    &LOCK_FREE,
    &LOOKUP,
    &RAISE_LAST_SEQ,
];

impl Database for Db {
    type Failure = DbError;
    type Tx = Tx;

    async fn append(&self, units: &[&Unit]) -> Result<AppendedRows, DbError> {
        let mut batch = Batch::optimistic();
        for unit in units {
            batch.add(unit, unit.messages.iter().map(|message| message.id));
        }
        Ok(appended(&self.write(None, batch.sql(), &batch.params()).await?))
    }

    async fn raise_last_seq(&self, session_ids: &[Uuid]) -> Result<(), DbError> {
        self.write(None, &RAISE_LAST_SEQ, &[&session_ids]).await.map(drop)
    }

    async fn begin(&self) -> Result<Tx, DbError> {
        Db::begin(self, None).await
    }
}

impl Transaction for Tx {
    type Failure = DbError;

    async fn lock(
        &self,
        units: &[&Unit],
        lock_wait: LockWait,
    ) -> Result<HashMap<Uuid, LockedSession>, DbError> {
        let mut ids: Vec<Uuid> = units.iter().map(|unit| unit.session_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let sql = match lock_wait {
            LockWait::Skip => &LOCK_FREE,
            LockWait::Wait => &LOCK,
        };
        let rows = self.query(sql, &[&ids]).await?;
        let sessions = rows.iter().map(|row| {
            let session = LockedSession {
                tenant: row.get(1),
                user_id: row.get(2),
                last_seq: row.get(3),
            };
            (row.get(0), session)
        });
        Ok(sessions.collect())
    }

    /// Read by a statement of its own: a snapshot from before the wait for the locks would miss what a concurrent
    /// retry has stored.
    async fn look_up(&self, units: &[&Unit]) -> Result<IdLookup, DbError> {
        let places: Vec<MessagePlace> = units
            .iter()
            .enumerate()
            .flat_map(|(u, unit)| (0..unit.messages.len()).map(move |m| (u, m)))
            .collect();
        let messages = || places.iter().map(|&(u, m)| &units[u].messages[m]);
        let sessions: Vec<Uuid> = places.iter().map(|&(u, _)| units[u].session_id).collect();
        let ids: Vec<Uuid> = messages().map(|message| message.id).collect();
        let roles: Vec<&str> = messages().map(|message| message.role.as_str()).collect();
        let contents: Vec<&str> = messages().map(|message| message.content.as_str()).collect();
        let selected: Vec<Option<&str>> = messages()
            .map(|message| message.selected_text.as_deref())
            .collect();
        let payloads: Vec<Option<&[u8]>> = messages().map(|message| message.payload.as_deref()).collect();
        let rows = self
            .query(
                &LOOKUP,
                &[&sessions, &ids, &roles, &contents, &selected, &payloads],
            )
            .await?;
        Ok(lookup_of(&places, &rows))
    }

    async fn insert(&self, insertions: &[Insertion<'_>]) -> Result<AppendedRows, DbError> {
        let mut batch = Batch::default();
        for insertion in insertions {
            batch.add(insertion.unit, insertion.row_ids.iter().copied());
        }
        Ok(appended(&self.query(batch.sql(), &batch.params()).await?))
    }

    async fn end<T: Send>(self, result: Result<T, DbError>) -> Result<T, DbError> {
        Tx::end(self, result).await
    }
}

/// The rows that appending answers.
fn appended(rows: &[Row]) -> AppendedRows {
    let rows = rows.iter().map(|row| AppendedRow {
        id: row.get(0),
        session_id: row.get(1),
        seq: row.get(2),
        created_at: row.get::<_, Time>(3).0,
    });
    rows.collect()
}

/// The rows that [`LOOKUP`] answers about the messages at these places.
fn lookup_of(places: &[MessagePlace], rows: &[Row]) -> IdLookup {
    let mut lookup = IdLookup::default();
    for row in rows {
        let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
        let Some(&place) = places.get(place) else { continue };
        lookup.spare.insert(place, row.get(6));
        match row.get::<_, Option<bool>>(1) {
            Some(true) => {
                let stored = StoredMessage {
                    seq: row.get(2),
                    created_at: row.get::<_, Time>(3).0,
                    deleted: row.get(4),
                    same: row.get(5),
                };
                lookup.stored.insert(place, stored);
            }
            Some(false) => {
                lookup.elsewhere.insert(place);
            }
            None => {}
        }
    }
    lookup
}

impl DatabaseFailure for DbError {
    fn remedy(&self) -> Remedy {
        let (DbError::Sql(sql) | DbError::Stale(sql)) = self else {
            return Remedy::GiveUp;
        };
        if self.is_unavailable() {
            return Remedy::Again;
        }
        let constraint = sql.as_db_error().and_then(|error| error.constraint());
        match sql.code() {
            Some(&SqlState::UNIQUE_VIOLATION) if constraint == Some("messages_session_seq_key") => {
                Remedy::RaiseLastSeq
            }
            Some(&SqlState::UNIQUE_VIOLATION) => Remedy::Slowly,
            Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE) => Remedy::Again,
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Remedy::Blocked,
            Some(code) if is_refusal(code) || is_data_exception(code) => Remedy::Divide,
            _ => Remedy::GiveUp,
        }
    }

    fn into_error(self) -> Error {
        match &self {
            // The statement's own check of what it has stored; or a trigger, since what comes with a unit is checked.
            DbError::Sql(sql) if sql.code().is_some_and(is_data_exception) => {
                Error::DatabaseRefused { constraint: None }
            }
            _ => Error::from(self),
        }
    }
}

/// Class 22: data exception. 54: a limit of PostgreSQL's, such as an index row's. 55: such as an object that a
/// trigger needs isn't in the state for it. 38 and 39: of functions in other languages.
fn is_data_exception(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("22" | "54" | "55" | "38" | "39"))
        && *code != SqlState::LOCK_NOT_AVAILABLE
}
