//! Commits units together: the fast path first, the slow path where that can't do it, and what is done
//! about the database's failures.

use std::collections::{HashMap, HashSet};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_postgres::{error::SqlState, types::Type};
use uuid::Uuid;

use super::{
    Outcome, Unit,
    batch::{APPEND, Appended, Batch},
    decide::{Held, append_slowly},
};
use crate::{
    domain::Error,
    postgres::{Db, DbError, Sql},
};

/// Where a seq was given by hand that the counter hadn't reached. The rows lock, so the counter can't move
/// meanwhile.
pub(super) static RAISE_LAST_SEQ: Sql = Sql {
    text: "WITH locked AS (
            SELECT id FROM chat_sessions WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)
        UPDATE chat_sessions s SET last_seq = greatest(
            s.last_seq, (SELECT max(seq) FROM messages m WHERE m.session_id = s.id))
        FROM locked WHERE s.id = locked.id",
    params: &[Type::UUID_ARRAY],
};

/// How often a batch is run before its units fail: each time, somebody else has interfered.
const MAX_ATTEMPTS: usize = 8;

/// What to do about a failure of the database.
enum Remedy {
    /// An id is stored already: decide under the locks.
    Slowly,
    /// A seq is taken: raise the counters, then again.
    RaiseLastSeq,
    /// The transaction is known not to have happened, or it is safe to run it once more: message ids make
    /// sure that nothing is stored twice. (That they aren't there proves nothing after a lost connection;
    /// the locks wait for the lost transaction.)
    Again,
    /// Something in the data: find out which unit, and let the others pass.
    OneByOne,
    /// Nothing.
    GiveUp,
}

/// Appends units to their sessions, in the order given, and answers each. Units of one session get their
/// seqs in that order. Ids that are given twice, in this call, an earlier one or one on another server, are
/// stored once.
pub async fn append(db: &Db, units: &[&Unit], deadline: Option<Instant>) -> Vec<Outcome> {
    let mut outcomes = append_free(db, units, deadline).await;
    let skipped: Vec<usize> = (0..units.len()).filter(|&u| outcomes[u].is_none()).collect();
    if !skipped.is_empty() {
        let waiting: Vec<&Unit> = skipped.iter().map(|&u| units[u]).collect();
        let waited = run(db, &waiting, deadline, Held::Wait).await;
        for (u, outcome) in skipped.into_iter().zip(waited) {
            outcomes[u] = outcome;
        }
    }
    // Who waits skips nothing.
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or(Err(Error::Internal)))
        .collect()
}

/// As [`append`], without waiting for sessions that somebody else has locked: their units, and those of
/// sessions that don't exist, are skipped and answered `None`.
pub(super) async fn append_free(db: &Db, units: &[&Unit], deadline: Option<Instant>) -> Vec<Option<Outcome>> {
    run(db, units, deadline, Held::Skip).await
}

async fn run(db: &Db, units: &[&Unit], deadline: Option<Instant>, held: Held) -> Vec<Option<Outcome>> {
    let mut slowly = held == Held::Wait || !fast_path_suits(units);
    let mut attempt = 1;
    loop {
        let result = if slowly {
            append_slowly(db, units, deadline, held).await
        } else {
            append_fast(db, units, deadline).await
        };
        let error = match result {
            Ok(outcomes) => return outcomes,
            Err(error) => error,
        };
        match remedy(&error) {
            Remedy::OneByOne if units.len() > 1 => return one_by_one(db, units, deadline, held).await,
            // Nobody interferes as often as that: a unit is in its own way.
            Remedy::Slowly if attempt == MAX_ATTEMPTS && units.len() > 1 => {
                return one_by_one(db, units, deadline, held).await;
            }
            Remedy::OneByOne | Remedy::GiveUp => return fail_all(units, error),
            _ if attempt == MAX_ATTEMPTS => return fail_all(units, error),
            Remedy::Slowly | Remedy::Again => slowly = true,
            Remedy::RaiseLastSeq => {
                if let Err(error) = raise_last_seq(db, units, deadline).await {
                    return fail_all(units, error);
                }
            }
        }
        tracing::debug!(attempt, %error, "appending again");
        attempt += 1;
    }
}

/// The fast path can't look at counters, and takes one caller a session.
fn fast_path_suits(units: &[&Unit]) -> bool {
    let mut callers = HashMap::new();
    units.iter().all(|unit| {
        let caller = *callers.entry(unit.session_id).or_insert(&unit.caller);
        unit.expected_last_seq.is_none() && caller.sees_as(&unit.caller)
    })
}

async fn append_fast(
    db: &Db,
    units: &[&Unit],
    deadline: Option<Instant>,
) -> Result<Vec<Option<Outcome>>, DbError> {
    let mut batch = Batch::optimistic();
    let no_row_ids = HashMap::new();
    let tickets: Vec<_> = units.iter().map(|unit| batch.add(unit, &no_row_ids)).collect();
    let appended = Appended::read(&db.write(deadline, &APPEND, &batch.params()).await?);
    let outcomes = units.iter().zip(tickets);
    Ok(outcomes
        .map(|(unit, ticket)| appended.receipts(ticket, unit).map(Ok))
        .collect())
}

/// Boxed, since `run` calls it and is called by it.
fn one_by_one<'a>(
    db: &'a Db,
    units: &'a [&'a Unit],
    deadline: Option<Instant>,
    held: Held,
) -> BoxFuture<'a, Vec<Option<Outcome>>> {
    Box::pin(async move {
        let mut outcomes = Vec::with_capacity(units.len());
        let mut skipped = HashSet::new();
        for unit in units {
            // Behind a unit that was skipped, or they would change places.
            let outcome = if skipped.contains(&unit.session_id) {
                None
            } else {
                let outcomes = run(db, std::slice::from_ref(unit), deadline, held).await;
                outcomes.into_iter().next().flatten()
            };
            if outcome.is_none() {
                skipped.insert(unit.session_id);
            }
            outcomes.push(outcome);
        }
        outcomes
    })
}

async fn raise_last_seq(db: &Db, units: &[&Unit], deadline: Option<Instant>) -> Result<(), DbError> {
    let ids: Vec<Uuid> = units.iter().map(|unit| unit.session_id).collect();
    db.write(deadline, &RAISE_LAST_SEQ, &[&ids]).await.map(drop)
}

fn fail_all(units: &[&Unit], error: DbError) -> Vec<Option<Outcome>> {
    let error = Error::from(error);
    units.iter().map(|_| Some(Err(error.clone()))).collect()
}

fn remedy(error: &DbError) -> Remedy {
    let DbError::Sql(sql) = error else {
        return Remedy::GiveUp;
    };
    if error.is_unavailable() {
        return Remedy::Again;
    }
    let constraint = sql.as_db_error().and_then(|error| error.constraint());
    match sql.code() {
        Some(&SqlState::UNIQUE_VIOLATION) if constraint == Some("messages_session_seq_key") => {
            Remedy::RaiseLastSeq
        }
        Some(&SqlState::UNIQUE_VIOLATION) => Remedy::Slowly,
        Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE) => Remedy::Again,
        // Class 22: data exception; class 23: another constraint; 54: a limit of the program.
        Some(code) if matches!(code.code().get(..2), Some("22" | "23" | "54")) => Remedy::OneByOne,
        _ => Remedy::GiveUp,
    }
}
