//! Commits units together: the fast path first, the slow path where that can't do it, and what is done
//! about the database's failures.

use std::collections::HashMap;

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
    store::is_refusal,
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
    /// Something in the data, or somebody's own trigger or constraint: find out which unit, and let the others
    /// pass.
    Divide,
    /// A lock isn't to be had. Where sessions' locks aren't waited for, it is one that somebody's own trigger wants:
    /// as [`Remedy::Divide`]. Else the session's was waited for long enough.
    Blocked,
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
    if units.is_empty() {
        return Vec::new();
    }
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
            Remedy::Divide if units.len() > 1 => return divided(db, units, deadline, held).await,
            Remedy::Blocked if units.len() > 1 && held == Held::Skip => {
                return divided(db, units, deadline, held).await;
            }
            // Nobody interferes as often as that: a unit is in its own way.
            Remedy::Slowly if attempt == MAX_ATTEMPTS && units.len() > 1 => {
                return divided(db, units, deadline, held).await;
            }
            Remedy::Divide | Remedy::Blocked | Remedy::GiveUp => return fail_all(units, error),
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
    let rows: Vec<_> = units.iter().map(|unit| batch.add(unit, &no_row_ids)).collect();
    let appended = Appended::read(&db.write(deadline, &APPEND, &batch.params()).await?);
    let outcomes = units.iter().zip(rows);
    Ok(outcomes
        .map(|(unit, rows)| appended.receipts(batch.ids(rows), unit).map(Ok))
        .collect())
}

/// Runs each half by itself, to find who is in the way. Boxed, since `run` calls it and is called by it.
fn divided<'a>(
    db: &'a Db,
    units: &'a [&'a Unit],
    deadline: Option<Instant>,
    held: Held,
) -> BoxFuture<'a, Vec<Option<Outcome>>> {
    Box::pin(async move {
        let (first, second) = units.split_at(units.len() / 2);
        let mut outcomes = run(db, first, deadline, held).await;
        // Who comes after a unit that was skipped, or refused for the moment, would overtake it.
        let mut stopped: HashMap<Uuid, Option<Outcome>> = HashMap::new();
        for (unit, outcome) in first.iter().zip(&outcomes) {
            match outcome {
                None => drop(stopped.insert(unit.session_id, None)),
                Some(Err(error)) if error.is_passing() => {
                    stopped.insert(unit.session_id, Some(Err(error.clone())));
                }
                Some(_) => {}
            }
        }
        let free: Vec<&Unit> = second
            .iter()
            .copied()
            .filter(|unit| !stopped.contains_key(&unit.session_id))
            .collect();
        let mut ran = run(db, &free, deadline, held).await.into_iter();
        outcomes.extend(second.iter().map(|unit| match stopped.get(&unit.session_id) {
            Some(outcome) => outcome.clone(),
            None => ran.next().flatten(),
        }));
        outcomes
    })
}

async fn raise_last_seq(db: &Db, units: &[&Unit], deadline: Option<Instant>) -> Result<(), DbError> {
    let ids: Vec<Uuid> = units.iter().map(|unit| unit.session_id).collect();
    db.write(deadline, &RAISE_LAST_SEQ, &[&ids]).await.map(drop)
}

fn fail_all(units: &[&Unit], error: DbError) -> Vec<Option<Outcome>> {
    let error = match &error {
        // The statement's own check of what it has stored; or a trigger, since what comes with a unit is checked.
        DbError::Sql(sql) if is_data_exception(sql.code()) => Error::DatabaseRefused { constraint: None },
        _ => Error::from(error),
    };
    units.iter().map(|_| Some(Err(error.clone()))).collect()
}

fn remedy(error: &DbError) -> Remedy {
    let (DbError::Sql(sql) | DbError::Stale(sql)) = error else {
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
        Some(&SqlState::LOCK_NOT_AVAILABLE) => Remedy::Blocked,
        Some(code) if is_refusal(code) || is_data_exception(Some(code)) => Remedy::Divide,
        _ => Remedy::GiveUp,
    }
}

/// Class 22: data exception. 54: a limit of PostgreSQL's, such as an index row's. 55: such as an object that a
/// trigger needs isn't in the state for it.
fn is_data_exception(code: Option<&SqlState>) -> bool {
    code.is_some_and(|code| {
        matches!(code.code().get(..2), Some("22" | "54" | "55" | "38" | "39"))
            && *code != SqlState::LOCK_NOT_AVAILABLE
    })
}
