//! What the load tester's verification finds, with damage planted by SQL between the appends and the reading.

use std::{sync::Arc, time::Duration};

use chatledger_bench::{
    AppendMode, BenchProgress, ContentSizes, Halt, LedgerVerification, Load, Workload, WorkloadOptions,
    append, create_sessions, verify,
};
use chatledger_client::ServerTarget;
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::harness::*;

/// How long to append: some messages will have been stored by then.
const DURATION: Duration = Duration::from_millis(100);

/// Appends to two sessions, runs `damage`, and verifies.
fn verified_after(damage: &str) -> LocalBoxFuture<'_, LedgerVerification> {
    Box::pin(async move {
        let database = TestDatabase::new().await;
        let server = start(&database).await;
        let workload = Arc::new(Workload::new(&WorkloadOptions {
            seed: 1,
            sessions: 2,
            content: ContentSizes::Fixed(20),
            citations: 1,
        }));
        let target = ServerTarget::parse(&format!("http://{}", server.address)).expect("a target");
        let channel = target.connect().await.expect("a connection");
        create_sessions(&channel, &workload).await.expect("sessions");
        let load = Load {
            mode: AppendMode::Stream,
            in_flight: 10,
            streams: 1,
            connections: 1,
            frame_entries: 10,
            batch_messages: 1,
            rate: None,
            warm_up: Duration::ZERO,
            duration: DURATION,
        };
        let (_stop, halt) = watch::channel(false);
        let halt = Halt::new(halt);
        let ran = append(&target, &workload, &load, true, &halt, BenchProgress::hidden()).await;
        let ran = ran.expect("appends");
        assert!(ran.answers.acknowledged() > 5, "{}", ran.answers.acknowledged());
        let client = database.client().await;
        client.batch_execute(damage).await.expect("the damage");
        let verified = verify(&channel, &workload, ran.answers, &BenchProgress::hidden()).await;
        server.stop().await;
        verified.expect("readable sessions")
    })
}

/// A message in the middle of a session, as a condition.
const ONE: &str = "seq = 2 AND session_id = (SELECT min(session_id::text)::uuid FROM messages)";

#[track_caller]
fn assert_found(verified: &LedgerVerification, part: &str) {
    assert!(!verified.ok && verified.problem_count > 0, "{verified:?}");
    assert!(
        verified.problems.iter().any(|problem| problem.contains(part)),
        "{verified:?}"
    );
}

#[tokio::test]
async fn whole_sessions_are_fine() {
    let verified = verified_after("").await;
    assert!(verified.ok && verified.problem_count == 0, "{verified:?}");
    assert_eq!(verified.sessions, 2);
}

#[tokio::test]
async fn a_lost_message_is_found() {
    let verified = verified_after(&format!("DELETE FROM messages WHERE {ONE}")).await;
    assert_found(&verified, "was acknowledged at seq 2 and isn't there");
    assert_found(&verified, "seq 3 comes after 1");
    assert_eq!(verified.problem_count, 2, "{verified:?}");
}

#[tokio::test]
async fn messages_out_of_order_are_found() {
    let session = "session_id = (SELECT min(session_id::text)::uuid FROM messages)";
    let verified = verified_after(&format!(
        "UPDATE messages SET seq = 1000000 WHERE seq = 1 AND {session};
         UPDATE messages SET seq = 1 WHERE seq = 2 AND {session};
         UPDATE messages SET seq = 2 WHERE seq = 1000000 AND {session};"
    ))
    .await;
    assert_found(&verified, "instead of");
    assert_eq!(verified.problem_count, 2, "{verified:?}");
}

#[tokio::test]
async fn what_nobody_sent_is_found() {
    let verified = verified_after(
        "INSERT INTO messages (session_id, role, content) SELECT min(session_id::text)::uuid, 'user', 'x' FROM messages",
    )
    .await;
    assert_found(&verified, "isn't ours");
}

#[tokio::test]
async fn other_contents_and_citations_are_found() {
    let verified = verified_after(&format!("UPDATE messages SET content = 'other' WHERE {ONE}")).await;
    assert_found(&verified, "another content");
    assert_eq!(verified.problem_count, 1, "{verified:?}");
    let one = format!("message_id IN (SELECT id FROM messages WHERE {ONE})");
    let verified = verified_after(&format!("DELETE FROM message_citations WHERE {one}")).await;
    assert_found(&verified, "other citations");
}
