//! Group commit: what waits together is committed together, and nobody waits for somebody else's session.

use chatledger::ledger::LedgerOptions;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tonic::Code;

use crate::harness::*;

/// A server with a single lane, so that all sessions share it.
async fn one_lane(database: &TestDatabase) -> TestServer {
    start_with(database, |options| {
        options.ledger = LedgerOptions {
            lanes: 1,
            ..options.ledger.clone()
        }
    })
    .await
}

#[tokio::test]
async fn appends_that_wait_together_are_committed_together() {
    let database = TestDatabase::new().await;
    let server = one_lane(&database).await;
    let sessions = join_all((0..20).map(|_| new_session(&server))).await;
    let hand = database.client().await;
    hand.batch_execute("BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();

    let appends = join_all((0..400_usize).map(|i| append(&server, &sessions[i % 20], text("together"))));
    let release = async {
        let watcher = database.client().await;
        eventually("the lane waits", async || {
            let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            (!watcher.query(waiting, &[]).await.unwrap().is_empty()).then_some(())
        })
        .await;
        hand.batch_execute("COMMIT").await.unwrap();
    };
    let (receipts, ()) = tokio::join!(appends, release);
    assert!(receipts.iter().all(Result::is_ok));
    let count = "SELECT count(DISTINCT xmin::text), count(*) FROM messages";
    let row = hand.query_one(count, &[]).await.unwrap();
    let (commits, messages): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(messages, 400);
    assert!(commits < 200, "{commits} commits for 400 messages");
}

#[tokio::test]
async fn a_session_that_somebody_holds_does_not_hold_up_its_lane() {
    let database = TestDatabase::new().await;
    let server = one_lane(&database).await;
    let (held, free) = (new_session(&server).await, new_session(&server).await);
    let hand = database.client().await;
    hand.batch_execute(&format!(
        "BEGIN; SELECT FROM chat_sessions WHERE id = '{held}' FOR UPDATE"
    ))
    .await
    .unwrap();

    // Several, one behind the other: they must keep their order when they are stored at last.
    let waiting = async {
        let mut appends = Vec::new();
        for i in 0..10 {
            appends.push(append(&server, &held, text(&i.to_string())));
        }
        join_all(appends).await
    };
    let others = async {
        for seq in 1..=20 {
            assert_eq!(append(&server, &free, text("goes on")).await.unwrap().seq, seq);
        }
        hand.batch_execute("COMMIT").await.unwrap();
    };
    let (receipts, ()) = tokio::join!(waiting, others);
    let mut seqs: Vec<i64> = receipts.into_iter().map(|receipt| receipt.unwrap().seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=10).collect::<Vec<i64>>());
    // The session is back on its lane.
    assert_eq!(append(&server, &held, text("after")).await.unwrap().seq, 11);
}

#[tokio::test]
async fn a_full_queue_is_overloaded_and_says_when_to_try_again() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.ledger = LedgerOptions {
            lanes: 1,
            // One connection may have half of it.
            queue_rows: 6,
            ..options.ledger.clone()
        };
    })
    .await;
    let session = new_session(&server).await;
    let hand = database.client().await;
    hand.batch_execute(&format!(
        "BEGIN; SELECT FROM chat_sessions WHERE id = '{session}' FOR UPDATE"
    ))
    .await
    .unwrap();
    // While the session is held nothing is answered but refusals, and there is room for three.
    let mut appends: FuturesUnordered<_> = (0..13)
        .map(|_| append(&server, &session, text("waits")))
        .collect();
    for _ in 0..10 {
        let refusal = refusal(appends.next().await.expect("an answer"));
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::ResourceExhausted, "OVERLOADED")
        );
        assert!(refusal.retry, "RetryInfo");
    }
    hand.batch_execute("COMMIT").await.unwrap();
    let stored: Vec<_> = appends.collect().await;
    assert_eq!(stored.len(), 3);
    assert!(stored.iter().all(Result::is_ok));
    assert!(append(&server, &session, text("room again")).await.is_ok());
}
