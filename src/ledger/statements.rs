//! The append path's statements, and what PostgreSQL's failures mean for it.

use std::{collections::HashMap, pin::pin};

use tokio_postgres::{Row, error::SqlState};
use uuid::Uuid;

use super::{
    Unit,
    batch::Batch,
    database::{AppendedRow, AppendedRows, Database, DatabaseFailure, LockWait, Remedy, Transaction},
    decide::{IdLookup, Insertion, LockedSession, MessagePlace, StoredMessage},
};
use crate::{
    domain::{Error, message::Identity},
    statements::{
        CallerFree, Viewer,
        append::{AppendUncited, KnownMessageRow, Lock, LockFree, Lookup, RaiseLastSeq},
        read_all,
    },
    store::is_refusal,
};
use chatledger_postgres::{Db, DbError, Sql, Tx, db::Params};

/// What statements of the append path are run on: a transaction, or whichever connection is free.
trait Connection {
    async fn rows(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, DbError>;
}

impl Connection for Db {
    async fn rows(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, DbError> {
        self.write(None, sql, params).await
    }
}

impl Connection for Tx {
    async fn rows(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, DbError> {
        self.query(sql, params).await
    }
}

async fn run<S: CallerFree>(on: &impl Connection, statement: &S) -> Result<Vec<S::Row>, DbError> {
    let params = statement.params(&Viewer::NOBODY);
    let run = pin!(on.rows(&S::DESCRIPTION.sql, &params));
    let rows = S::DESCRIPTION.follow(run).await?;
    Ok(read_all(statement, rows)?)
}

/// Stores a batch.
async fn store(on: &impl Connection, batch: &Batch<'_>) -> Result<AppendedRows, DbError> {
    let append = batch.append();
    let rows = if batch.has_citations() {
        run(on, &append).await?
    } else {
        run(on, &AppendUncited(append)).await?
    };
    let rows = rows.into_iter().map(|row| AppendedRow {
        id: row.id,
        session_id: row.session_id,
        seq: row.seq,
        created_at: row.created_at,
    });
    Ok(rows.collect())
}

/// The sessions of some units, each with those who name it, as columns.
struct LineColumns<'a> {
    session_ids: Vec<Uuid>,
    tenants: Vec<&'a str>,
    users: Vec<Option<Uuid>>,
}

impl LineColumns<'_> {
    fn lock(&self) -> Lock<'_> {
        Lock {
            session_ids: &self.session_ids,
            tenants: &self.tenants,
            users: &self.users,
        }
    }
}

fn lines_of<'a>(units: &[&'a Unit]) -> LineColumns<'a> {
    let mut lines: Vec<(Uuid, &str, Option<Uuid>)> = units
        .iter()
        .map(|unit| (unit.session_id, &*unit.caller.tenant, unit.caller.end_user))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    LineColumns {
        session_ids: lines.iter().map(|line| line.0).collect(),
        tenants: lines.iter().map(|line| line.1).collect(),
        users: lines.iter().map(|line| line.2).collect(),
    }
}

impl Database for Db {
    type Failure = DbError;
    type Tx = Tx;

    async fn append(&self, units: &[&Unit]) -> Result<AppendedRows, DbError> {
        let mut batch = Batch::optimistic();
        for unit in units {
            batch.add(unit, unit.messages.iter().map(|message| message.id));
        }
        store(self, &batch).await
    }

    async fn raise_last_seq(&self, units: &[&Unit]) -> Result<(), DbError> {
        let lines = lines_of(units);
        run(self, &RaiseLastSeq(lines.lock())).await.map(drop)
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
        let lines = lines_of(units);
        let lock = lines.lock();
        let rows = match lock_wait {
            LockWait::Skip => run(self, &LockFree(lock)).await?,
            LockWait::Wait => run(self, &lock).await?,
        };
        let sessions = rows.into_iter().map(|row| {
            let session = LockedSession {
                tenant: row.tenant_id,
                user_id: row.user_id,
                last_seq: row.last_seq,
            };
            (row.id, session)
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
        let identities: Vec<Identity<'_>> = places
            .iter()
            .map(|&(u, m)| units[u].messages[m].identity())
            .collect();
        let session_ids: Vec<Uuid> = places.iter().map(|&(u, _)| units[u].session_id).collect();
        let ids: Vec<Uuid> = places.iter().map(|&(u, m)| units[u].messages[m].id).collect();
        let roles: Vec<&str> = identities.iter().map(|of| of.role).collect();
        let contents: Vec<&str> = identities.iter().map(|of| of.content).collect();
        let selected_texts: Vec<Option<&str>> = identities.iter().map(|of| of.selected_text).collect();
        let payloads: Vec<Option<&[u8]>> = identities.iter().map(|of| of.payload).collect();
        let lookup = Lookup {
            session_ids: &session_ids,
            ids: &ids,
            roles: &roles,
            contents: &contents,
            selected_texts: &selected_texts,
            payloads: &payloads,
        };
        Ok(lookup_of(&places, run(self, &lookup).await?))
    }

    async fn insert(&self, insertions: &[Insertion<'_>]) -> Result<AppendedRows, DbError> {
        let mut batch = Batch::default();
        for insertion in insertions {
            batch.add(insertion.unit, insertion.row_ids.iter().copied());
        }
        store(self, &batch).await
    }

    async fn end<T: Send>(self, result: Result<T, DbError>) -> Result<T, DbError> {
        Tx::end(self, result).await
    }
}

/// What the look-up says about the messages at these places.
fn lookup_of(places: &[MessagePlace], rows: Vec<KnownMessageRow>) -> IdLookup {
    let mut lookup = IdLookup::default();
    for row in rows {
        let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
        let Some(&place) = places.get(place) else { continue };
        lookup.spare.insert(place, row.row_id);
        match (row.here, row.seq, row.created_at) {
            (Some(true), Some(seq), Some(created_at)) => {
                let stored = StoredMessage {
                    seq,
                    created_at,
                    deleted: row.deleted,
                    same: row.same,
                };
                lookup.stored.insert(place, stored);
            }
            (Some(false), ..) => {
                lookup.elsewhere.insert(place);
            }
            _ => {}
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
