//! When the counts for reports are brought up to date: behind the commits, by one server at a time, and not at all while nobody
//! commits. What a fold is says [`Store::fold`].

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::{
    domain::Result,
    store::{FoldRequest, Folded, Store},
};
use chatledger_postgres::Db;

/// How long commits gather before they are folded in. A report reads what isn't yet by itself, within milliseconds.
const GATHER: Duration = Duration::from_secs(5);
/// The pause after a fold, in multiples of the time that it took: folding has a twentieth of a core at most.
const REST: u32 = 20;
/// The pause after a failure: the database is away, or its schema isn't up to date.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How many transactions a first fold takes. It is doubled while folds are quick, and halved where one was long.
const FIRST_STEP: i64 = 1 << 16;
const QUICK: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(5);

/// Folds in what is new, some seconds after somebody says that there is something. It never ends.
pub(crate) async fn fold_when_needed(store: Store) {
    let Ok(db) = store.db().beside("reports", 1) else {
        return; // one connection is not none
    };
    // What was committed before this server began.
    store.wake_folding();
    loop {
        store.folding_needed().await;
        time::sleep(GATHER).await;
        let began = Instant::now();
        let folded = catch_up(&store, &db, false).await;
        // It is needed for a moment only, and a database that sleeps when nobody is connected must be let go.
        db.close_own_idle();
        match folded {
            Ok(Folded::All) => {}
            // Whoever folds may have begun before our commits; and transactions that still run, in whichever database of the cluster,
            // may hold back what they don't concern.
            Ok(Folded::Busy | Folded::Partly | Folded::Held) => store.wake_folding(),
            Err(error) => {
                tracing::warn!(%error, "what reports keep can't be brought up to date");
                store.wake_folding();
                time::sleep(AFTER_FAILURE).await;
            }
        }
        time::sleep(began.elapsed().saturating_mul(REST).min(AFTER_FAILURE)).await;
    }
}

/// Folds until all is folded in that had ended when the last fold began, or somebody else folds. `forget`: from the beginning.
///
/// # Errors
/// The database's. What was folded in stays so.
pub async fn catch_up(store: &Store, db: &Db, forget: bool) -> Result<Folded> {
    let mut request = FoldRequest {
        transactions: FIRST_STEP,
        forget,
    };
    loop {
        let began = Instant::now();
        match store.fold(db, request).await? {
            Folded::Partly => {}
            end => return Ok(end),
        }
        request.forget = false;
        let took = began.elapsed();
        if took < QUICK {
            request.transactions = request.transactions.saturating_mul(2);
        } else if took > LONG {
            request.transactions = (request.transactions / 2).max(1);
        }
    }
}
