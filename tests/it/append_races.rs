//! Appends that meet: writers, servers and readers at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use tokio::sync::Barrier;

use crate::harness::*;

const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_make_one_sequence_and_a_reader_never_sees_one_appear_below() {
    const EACH: usize = 40;
    let database = TestDatabase::new().await;
    let servers = Arc::new([start(&database).await, start(&database).await]);
    let session = new_session(&servers[0]).await;
    let done = Arc::new(AtomicBool::new(false));

    let reader = tokio::spawn({
        let (servers, session, done) = (Arc::clone(&servers), session.clone(), Arc::clone(&done));
        async move {
            let mut seen: Vec<(i64, String)> = Vec::new();
            for round in 0.. {
                let last_round = done.load(Ordering::SeqCst);
                let messages = messages_of(&servers[round % 2], &session).await;
                assert_gapless(&messages);
                let now: Vec<_> = messages.into_iter().map(|m| (m.seq, m.id)).collect();
                // What was there is still there, at its place; what is new is behind it.
                assert_eq!(now[..seen.len()], seen);
                seen = now;
                if last_round {
                    break;
                }
            }
            seen.len()
        }
    });
    let writers = (0..WRITERS).map(|writer| {
        let (servers, session) = (Arc::clone(&servers), session.clone());
        tokio::spawn(async move {
            let mut last = 0;
            for n in 0..EACH {
                let server = &servers[(writer + n) % 2];
                let text = text_with_id(&id(), &format!("{writer}:{n}"));
                // Some as batches of two, some with a retry straight after.
                if n % 4 == 0 {
                    let batch = vec![text.clone(), text_with_id(&id(), &format!("{writer}:{n}+"))];
                    let receipts = append_batch(server, &session, batch, None)
                        .await
                        .expect("receipts");
                    assert_eq!(receipts[1].seq, receipts[0].seq + 1);
                    assert!(receipts[0].seq > last);
                    last = receipts[1].seq;
                } else {
                    let receipt = append(server, &session, text.clone()).await.expect("a receipt");
                    assert!(receipt.seq > last, "a writer's own messages are in its order");
                    last = receipt.seq;
                }
                if n % 8 == 1 {
                    let retry = append(&servers[n % 2], &session, text).await.expect("a receipt");
                    assert_eq!((retry.seq, retry.deduplicated), (last, true));
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
    done.store(true, Ordering::SeqCst);
    let total = WRITERS * (EACH + EACH / 4);
    assert_eq!(reader.await.expect("the reader"), total);
    assert_eq!(
        get_session(&servers[0], &session).await.last_seq,
        i64::try_from(total).expect("a number")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_given_the_same_id_at_the_same_moment_store_it_once() {
    const ROUNDS: i64 = 60;
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    for round in 1..=ROUNDS {
        let message = text_with_id(&id(), &format!("round {round}"));
        let (a, b) = tokio::join!(
            append(&servers[0], &session, message.clone()),
            append(&servers[1], &session, message.clone()),
        );
        let (a, b) = (a.expect("a receipt"), b.expect("a receipt"));
        assert_eq!((a.seq, b.seq), (round, round));
        assert_eq!(a.create_time, b.create_time);
        assert!(a.deduplicated != b.deduplicated, "exactly one was first");
    }
    let messages = messages_of(&servers[0], &session).await;
    assert_gapless(&messages);
    assert_eq!(get_session(&servers[0], &session).await.last_seq, ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_payloads_with_one_id_at_the_same_moment_one_is_refused() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    for round in 1..=30 {
        let message_id = id();
        let (a, b) = tokio::join!(
            append(&servers[0], &session, text_with_id(&message_id, "a")),
            append(&servers[1], &session, text_with_id(&message_id, "b")),
        );
        let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
        let receipt = won.expect("a receipt");
        assert_eq!((receipt.seq, receipt.deduplicated), (round, false));
        assert_refused(lost, tonic::Code::AlreadyExists, "MESSAGE_ID_REUSED");
    }
    assert_gapless(&messages_of(&servers[0], &session).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_share_ids_at_the_same_moment_are_stored_as_one_or_refused() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    let mut stored = 0;
    for _ in 0..30 {
        let ids = [id(), id(), id()];
        let batch = |order: [usize; 2]| order.map(|n| text_with_id(&ids[n], "x")).to_vec();
        // They share the middle one, in opposite places: the later batch has some of its ids stored.
        let (a, b) = tokio::join!(
            append_batch(&servers[0], &session, batch([0, 1]), None),
            append_batch(&servers[1], &session, batch([1, 2]), None),
        );
        let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
        let receipts = won.expect("receipts");
        assert_eq!(receipts[0].seq, stored + 1);
        assert_refused(lost, tonic::Code::AlreadyExists, "MESSAGE_ID_REUSED");
        stored += 2;
    }
    let messages = messages_of(&servers[0], &session).await;
    assert_gapless(&messages);
    assert_eq!(messages.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_for_two_sessions_at_the_same_moment_is_stored_in_both() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let sessions = [new_session(&servers[0]).await, new_session(&servers[0]).await];
    for round in 1..=30 {
        let ids = [id(), id()];
        // In opposite orders, so that each holds what the other waits for.
        let message = |n: usize| pb::NewMessage {
            citations: vec![citation("d", "c", 0.5)],
            ..text_with_id(&ids[n], "x")
        };
        let batch = |order: [usize; 2]| order.map(message).to_vec();
        let (a, b) = tokio::join!(
            append_batch(&servers[0], &sessions[0], batch([0, 1]), None),
            append_batch(&servers[1], &sessions[1], batch([1, 0]), None),
        );
        for receipts in [a, b] {
            let receipts = receipts.expect("receipts");
            assert_eq!((receipts[0].seq, receipts[1].seq), (2 * round - 1, 2 * round));
            assert!(receipts.iter().all(|receipt| !receipt.deduplicated));
        }
    }
    for session in &sessions {
        let messages = messages_of(&servers[0], session).await;
        assert_gapless(&messages);
        assert_eq!(messages.len(), 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writers_that_expect_the_same_last_seq_one_wins() {
    let database = TestDatabase::new().await;
    let servers = Arc::new([start(&database).await, start(&database).await]);
    let session = new_session(&servers[0]).await;
    for round in 0..10_i64 {
        let barrier = Arc::new(Barrier::new(WRITERS));
        let writers = (0..WRITERS).map(|writer| {
            let (servers, session, barrier) = (Arc::clone(&servers), session.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                append_batch(&servers[writer % 2], &session, vec![text("x")], Some(round)).await
            })
        });
        let mut won = 0;
        for outcome in join_all(writers).await {
            match outcome.expect("a writer") {
                Ok(receipts) => {
                    assert_eq!(receipts[0].seq, round + 1);
                    won += 1;
                }
                Err(status) => {
                    let refusal = refusal_of(&status);
                    assert_eq!(refusal.reason, "SEQUENCE_CONFLICT");
                    assert_eq!(refusal.metadata["last_seq"], (round + 1).to_string());
                }
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_meets_a_deletion_never_stores_the_message_twice() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    for round in 1..=30 {
        let message = text_with_id(&id(), "x");
        append(&servers[0], &session, message.clone())
            .await
            .expect("a receipt");
        let (deleted, retried) = tokio::join!(
            delete_message(&servers[0], &session, message.message_id()),
            append(&servers[1], &session, message.clone()),
        );
        deleted.expect("a deletion");
        match retried {
            Ok(receipt) => assert_eq!((receipt.seq, receipt.deduplicated), (round, true)),
            Err(status) => assert_eq!(refusal_of(&status).reason, "MESSAGE_DELETED"),
        }
        assert_eq!(get_session(&servers[0], &session).await.last_seq, round);
    }
    assert_eq!(messages_of(&servers[0], &session).await, []);
}
