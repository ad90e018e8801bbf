//! Locks: whoever a row isn't there for neither waits for its lock nor takes it.

use std::time::Duration;

use chatledger::{
    auth::{Caller, Reach},
    domain::{Error, Result},
    ledger::Unit,
};
use tokio::time;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    Expected, came_of, rooms,
    trials::{IsolationTrial, TRIALS},
    world::{Belongings, Rooms, TENANT, caller, message},
};
use crate::harness::{TestDatabase, waiting};

/// Locks everything that an owner has, as somebody's forgotten transaction would, until the client's transaction ends.
async fn lock_all(client: &Client, of: &Belongings) {
    let sql = format!(
        "BEGIN;
         SELECT FROM users WHERE id = '{user}' FOR UPDATE;
         SELECT FROM user_profiles WHERE user_id = '{user}' FOR UPDATE;
         SELECT FROM chat_sessions WHERE id IN ('{session}', '{anonymous}') FOR UPDATE;
         SELECT FROM messages WHERE session_id = '{session}' FOR UPDATE;
         SELECT FROM message_citations WHERE session_id = '{session}' FOR UPDATE;
         SELECT FROM documents WHERE id = '{document}' FOR UPDATE",
        user = of.user_id,
        session = of.session_id,
        anonymous = of.anonymous_id,
        document = of.document_id
    );
    client.batch_execute(&sql).await.expect("the locks");
}

/// These change the rows by hand before they try, and would wait for the locks themselves; and the id of a document is the tenant's
/// own, so that a neighbour makes a new one.
fn is_left_out(trial: &IsolationTrial) -> bool {
    matches!(trial.name, "append_above_a_given_seq" | "delete_large_session")
}

/// Tries everything on what is locked. Whoever waits is told to come back, after 5 s, which is none of the answers.
async fn try_all_locked(
    who: impl Fn(&Belongings) -> Caller,
    expected: impl Fn(&IsolationTrial) -> Option<Expected>,
) {
    let database = TestDatabase::new().await;
    Box::pin(async {
        let rooms = rooms(&database).await;
        let holder = database.client().await;
        for trial in TRIALS.iter().filter(|trial| !is_left_out(trial)) {
            let Some(expected) = expected(trial) else { continue };
            let of = Belongings::new(&rooms).await;
            lock_all(&holder, &of).await;
            let tried = (trial.run)(&rooms, &of, who(&of));
            let result = time::timeout(Duration::from_secs(4), tried).await;
            let result = result.unwrap_or_else(|_| panic!("{} waits for a lock", trial.name));
            assert_eq!(came_of(&result), expected, "{}", trial.name);
            holder.batch_execute("ROLLBACK").await.expect("the end");
        }
    })
    .await;
}

#[tokio::test]
async fn another_tenant_waits_for_no_lock() {
    try_all_locked(|_| caller("other", None), |_| Some(Expected::Nothing)).await;
}

#[tokio::test]
async fn another_end_user_waits_for_no_lock() {
    let stranger = Uuid::now_v7();
    let expected = |trial: &IsolationTrial| match trial.action.of_end_user() {
        Reach::Own => Some(Expected::Nothing),
        Reach::Tenant => None,
        Reach::Nothing => Some(Expected::Refusal),
    };
    try_all_locked(|_| caller(TENANT, Some(stranger)), expected).await;
}

/// An append of somebody, with an id that is stored already, or an expected seq, or neither.
async fn append(
    rooms: &Rooms,
    of: &Belongings,
    who: Caller,
    stored: bool,
    expected: Option<i64>,
) -> Result<()> {
    let mut new = message("second brokers", None);
    if stored {
        new.id = of.message_id;
    }
    let unit = Unit {
        caller: who,
        session_id: of.session_id,
        messages: vec![new],
        expected_last_seq: expected,
    };
    rooms.ledger.append(unit).await.map(drop)
}

#[tokio::test]
async fn behind_an_owner_who_waits_a_stranger_does_not() {
    let database = TestDatabase::new().await;
    let rooms = rooms(&database).await;
    let of = Belongings::new(&rooms).await;
    let holder = database.client().await;
    lock_all(&holder, &of).await;
    // The owner's append is set aside, and waits for the session's lock.
    let owners = append(&rooms, &of, caller(TENANT, None), false, None);
    let strangers = async {
        waiting(&database, 1).await;
        for who in [
            caller("other", None),
            caller("other", Some(of.user_id)),
            caller(TENANT, Some(Uuid::now_v7())),
        ] {
            for (stored, expected) in [(false, None), (true, None), (false, Some(2)), (true, Some(7))] {
                let tried = append(&rooms, &of, who.clone(), stored, expected);
                let result = time::timeout(Duration::from_secs(4), tried)
                    .await
                    .expect("no wait");
                assert!(matches!(result, Err(Error::NotFound(_))), "{result:?}");
            }
        }
        holder.batch_execute("ROLLBACK").await.expect("the end");
    };
    let (stored, ()) = tokio::join!(owners, strangers);
    stored.expect("a receipt");
}

#[tokio::test]
async fn a_stranger_in_the_batch_does_not_hold_the_owner_up() {
    let database = TestDatabase::new().await;
    let rooms = rooms(&database).await;
    let of = Belongings::new(&rooms).await;
    // At the same moment, into one batch or several: each hears its own answer.
    let (stranger, owner) = (caller("other", None), caller(TENANT, None));
    for round in 0..20 {
        let stored = round % 2 == 0;
        let (refused, receipt, again) = tokio::join!(
            append(&rooms, &of, stranger.clone(), stored, None),
            append(&rooms, &of, owner.clone(), false, None),
            append(&rooms, &of, stranger.clone(), false, Some(2)),
        );
        assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
        assert!(matches!(again, Err(Error::NotFound(_))), "{again:?}");
        receipt.expect("a receipt");
    }
}
