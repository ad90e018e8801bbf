//! Commits units together: the fast path first, the slow path where that can't do it, and what is done
//! about the database's failures.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Outcome, Unit, UnitLine,
    database::{AppendedRows, Database, DatabaseFailure, LockWait, Remedy, Transaction},
    decide::decide,
};
use crate::{domain::Error, metrics::metrics, telemetry};

/// The number of times that a batch is run before its units fail: each time, somebody else has interfered.
const MAX_ATTEMPTS: usize = 8;

/// Appends units to their sessions, in the order given, and answers each. Units of one session get their
/// seqs in that order. Ids that are given twice, in this call, an earlier one or one on another server, are
/// stored once.
pub(super) async fn append<D: Database>(db: &D, units: &[&Unit]) -> Vec<Outcome> {
    let mut outcomes = append_free(db, units).await;
    let skipped: Vec<usize> = (0..units.len()).filter(|&u| outcomes[u].is_none()).collect();
    if !skipped.is_empty() {
        let waiting: Vec<&Unit> = skipped.iter().map(|&u| units[u]).collect();
        let waited = run(db, &waiting, LockWait::Wait).await;
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

/// Appends units as [`append`] does, without waiting for sessions that somebody else has locked: their units, and those
/// of sessions that don't exist, are skipped and answered `None`.
pub(super) async fn append_free<D: Database>(db: &D, units: &[&Unit]) -> Vec<Option<Outcome>> {
    run(db, units, LockWait::Skip).await
}

async fn run<D: Database>(db: &D, units: &[&Unit], lock_wait: LockWait) -> Vec<Option<Outcome>> {
    if units.is_empty() {
        return Vec::new();
    }
    let counted = &metrics().append;
    let rows = units.iter().map(|unit| unit.messages.len()).sum();
    let mut slowly = lock_wait == LockWait::Wait || !fast_path_suits(units);
    let mut attempt = 1;
    loop {
        let (began, path) = (Instant::now(), if slowly { "slow" } else { "fast" });
        let result = if slowly {
            append_slowly(db, units, lock_wait).await
        } else {
            append_fast(db, units).await
        };
        let failure = match result {
            Ok(outcomes) => {
                counted.batch(rows, path, began.elapsed());
                return outcomes;
            }
            Err(failure) => failure,
        };
        counted
            .retries
            .with_label_values(&[failure.remedy().cause()])
            .inc();
        match failure.remedy() {
            Remedy::Divide if units.len() > 1 => return divided(db, units, lock_wait).await,
            Remedy::Blocked if units.len() > 1 && lock_wait == LockWait::Skip => {
                return divided(db, units, lock_wait).await;
            }
            // Nobody interferes as often as that: a unit is in its own way.
            Remedy::Slowly if attempt == MAX_ATTEMPTS && units.len() > 1 => {
                return divided(db, units, lock_wait).await;
            }
            Remedy::Divide | Remedy::Blocked | Remedy::GiveUp => return fail_all(units, failure),
            _ if attempt == MAX_ATTEMPTS => return fail_all(units, failure),
            Remedy::Slowly | Remedy::Again => slowly = true,
            Remedy::RaiseLastSeq => {
                if let Err(failure) = db.raise_last_seq(units).await {
                    return fail_all(units, failure);
                }
            }
        }
        tracing::debug!(attempt, error = %failure, "appending again");
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

async fn append_fast<D: Database>(db: &D, units: &[&Unit]) -> Result<Vec<Option<Outcome>>, D::Failure> {
    let appended = db.append(units).await?;
    let outcomes = units.iter().map(|unit| {
        let row_ids = unit.messages.iter().map(|message| message.id);
        appended.receipts(unit, row_ids).map(Ok)
    });
    Ok(outcomes.collect())
}

/// The slow path: under the sessions' locks, in one transaction.
async fn append_slowly<D: Database>(
    db: &D,
    units: &[&Unit],
    lock_wait: LockWait,
) -> Result<Vec<Option<Outcome>>, D::Failure> {
    telemetry::note_slow_path();
    let tx = db.begin().await?;
    let outcomes = append_in(&tx, units, lock_wait).await;
    tx.end(outcomes).await
}

async fn append_in<T: Transaction>(
    tx: &T,
    units: &[&Unit],
    lock_wait: LockWait,
) -> Result<Vec<Option<Outcome>>, T::Failure> {
    let sessions = tx.lock(units, lock_wait).await?;
    let lookup = tx.look_up(units).await?;
    let decisions = decide(units, lock_wait, sessions, &lookup);
    let appended = if decisions.insertions().is_empty() {
        AppendedRows::default()
    } else {
        tx.insert(decisions.insertions()).await?
    };
    Ok(decisions.outcomes(&appended))
}

/// Runs each half by itself, to find who is in the way. Boxed, since `run` calls it and is called by it.
fn divided<'a, D: Database>(
    db: &'a D,
    units: &'a [&'a Unit],
    lock_wait: LockWait,
) -> BoxFuture<'a, Vec<Option<Outcome>>> {
    Box::pin(async move {
        let (first, second) = units.split_at(units.len() / 2);
        let mut outcomes = run(db, first, lock_wait).await;
        // Who comes after a unit that was skipped, or refused for the moment, would overtake it.
        let mut stopped: HashMap<UnitLine, Option<Outcome>> = HashMap::new();
        for (unit, outcome) in first.iter().zip(&outcomes) {
            match outcome {
                None => drop(stopped.insert(unit.line(), None)),
                Some(Err(error)) if error.is_passing() => {
                    stopped.insert(unit.line(), Some(Err(error.clone())));
                }
                Some(_) => {}
            }
        }
        let free: Vec<&Unit> = second
            .iter()
            .copied()
            .filter(|unit| !stopped.contains_key(&unit.line()))
            .collect();
        let mut ran = run(db, &free, lock_wait).await.into_iter();
        outcomes.extend(second.iter().map(|unit| match stopped.get(&unit.line()) {
            Some(outcome) => outcome.clone(),
            None => ran.next().flatten(),
        }));
        outcomes
    })
}

fn fail_all(units: &[&Unit], failure: impl DatabaseFailure) -> Vec<Option<Outcome>> {
    let error = failure.into_error();
    units.iter().map(|_| Some(Err(error.clone()))).collect()
}
