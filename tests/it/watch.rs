//! `WatchMessages`: each promise of the contract is a test of that name.

use std::{collections::HashSet, time::Duration};

use futures_util::future::{join, join_all};
use pb::{message_service_client::MessageServiceClient, watch_messages_response::Event};
use tokio::time::timeout;
use tonic::{Code, transport::Endpoint};

use crate::harness::*;

/// Appends messages from several writers at once, each its own in order, and answers all receipts.
async fn write(servers: &[&TestServer], session: &str, writers: usize, each: usize) -> Vec<pb::Receipt> {
    let writers = (0..writers).map(|writer| async move {
        let server = servers[writer % servers.len()];
        let mut receipts = Vec::new();
        for i in 0..each {
            let message = text(&format!("{writer}:{i}"));
            receipts.push(append(server, session, message).await.expect("a receipt"));
        }
        receipts
    });
    join_all(writers).await.concat()
}

#[tokio::test]
async fn ordered() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    write(&[&server], &session, 2, 20).await;
    // One from the beginning, and one from the middle of what is stored.
    let watches = [
        watch(&server, &session, 0).await,
        watch(&server, &session, 30).await,
    ];
    let read = join_all(watches.into_iter().map(|mut watch| async move {
        let last = watch.messages_until(240).await;
        seqs(&last)
    }));
    let (read, _) = join(read, write(&[&server], &session, 4, 50)).await;
    assert_eq!(read[0], (1..=240).collect::<Vec<i64>>());
    assert_eq!(read[1], (31..=240).collect::<Vec<i64>>());
}

#[tokio::test]
async fn unique() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    let mut watch = watch(&servers[0], &session, 0).await;
    let ids: Vec<String> = (0..100).map(|_| id()).collect();
    // Every message is appended twice, by two servers at once.
    let twice = servers.iter().map(|server| {
        let (ids, session) = (&ids, &session);
        join_all(
            ids.iter()
                .map(async move |id| append(server, session, text_with_id(id, "once")).await.unwrap()),
        )
    });
    let (messages, _) = join(watch.messages_until(100), join_all(twice)).await;
    let told: HashSet<&String> = messages.iter().map(|message| &message.id).collect();
    assert_eq!((messages.len(), told), (100, ids.iter().collect()));
    // And nothing else after them.
    append(&servers[1], &session, text("the end")).await.unwrap();
    assert_eq!(watch.message().await.content, "the end");
}

#[tokio::test]
async fn reliable() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let behind = |options: &mut ServerOptions| {
        options.connector = proxy.connector(&database);
        options.listener = Some(proxy.connector(&database));
    };
    let server = start_with(&database, behind).await;
    let session = new_session(&server).await;
    let mut live = watch(&server, &session, 0).await;
    assert_eq!(live.event().await, Event::CaughtUp(pb::CaughtUp { last_seq: 0 }));

    let appends = async {
        for i in 0..60 {
            let message = pb::NewMessage {
                message_id: Some(id()),
                metadata_json: r#"{"b":[1, 2.50],"a": "é"}"#.into(),
                payload: Some(vec![0, 255, i].into()),
                selected_text: (i % 2 == 0).then(|| "selected".into()),
                citations: vec![citation("d1", "c1", 0.25), citation("d2", "", 0.5)],
                ..text(&format!("message {i}"))
            };
            eventually("an acknowledgement", async || {
                append(&server, &session, message.clone()).await.ok()
            })
            .await;
            if i % 10 == 5 {
                // All connections end, the one that listens too.
                proxy.break_all();
            }
        }
    };
    let (told, ()) = join(live.messages_until(60), appends).await;
    // What is told is what is read, to the last bit.
    let stored = eventually("the messages", async || {
        let request = pb::ListMessagesRequest {
            session_id: session.clone(),
            page_size: 500,
            ..Default::default()
        };
        let page = server.messages().list_messages(request).await.ok()?;
        Some(page.into_inner().messages)
    })
    .await;
    assert_eq!(told, stored);
    assert_eq!(told[0].citations.len(), 2);
}

#[tokio::test]
async fn resumable() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    let resuming = async {
        let mut seen = Vec::new();
        // Each watch is left after some messages, and the next one, on the other server, goes on.
        for some in 1.. {
            let last = seen.last().copied().unwrap_or(0);
            let mut watch = watch(&servers[some % 2], &session, last).await;
            for _ in 0..some.min(300 - seen.len()) {
                seen.push(watch.message().await.seq);
            }
            if seen.len() == 300 {
                break;
            }
        }
        seen
    };
    let (seen, _) = join(resuming, write(&[&servers[0], &servers[1]], &session, 3, 100)).await;
    assert_eq!(seen, (1..=300).collect::<Vec<i64>>());
}

#[tokio::test]
async fn caught_up_comes_once_behind_all_that_was_stored() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    // More than one page of the watch's own.
    for _ in 0..3 {
        append_batch(&server, &session, vec![text("stored"); 400], None)
            .await
            .unwrap();
    }
    let last = messages_of(&server, &session).await.pop().unwrap();
    delete_message(&server, &session, &last.id).await.unwrap();
    let mut watch = watch(&server, &session, 0).await;
    for seq in 1..1200 {
        assert_eq!(watch.message().await.seq, seq);
    }
    // The last one is gone, but its seq is passed.
    assert_eq!(
        watch.event().await,
        Event::CaughtUp(pb::CaughtUp { last_seq: 1200 })
    );
    append(&server, &session, text("live")).await.unwrap();
    let Event::Message(live) = watch.event().await else {
        panic!("a message")
    };
    assert_eq!(live.seq, 1201);
}

#[tokio::test]
async fn a_watch_may_begin_ahead_of_the_session() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let mut ahead = watch(&server, &session, 3).await;
    assert_eq!(ahead.event().await, Event::CaughtUp(pb::CaughtUp { last_seq: 0 }));
    let mut other = watch(&server, &session, 0).await;
    append_batch(&server, &session, vec![text("x"); 5], None)
        .await
        .unwrap();
    assert_eq!(seqs(&ahead.messages_until(5).await), [4, 5]);
    assert_eq!(seqs(&other.messages_until(5).await), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_watch_without_news_says_that_it_is_alive() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.watch.heartbeat = Duration::from_millis(20);
    })
    .await;
    let session = new_session(&server).await;
    append(&server, &session, text("one")).await.unwrap();
    let mut stream = open_watch(&server, &session, 0).await.unwrap();
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(stream.message().await.unwrap().unwrap().event.unwrap());
    }
    assert!(matches!(events[0], Event::Message(_)), "{events:?}");
    assert_eq!(events[1], Event::CaughtUp(pb::CaughtUp { last_seq: 1 }));
    assert_eq!(events[2], Event::Heartbeat(pb::Heartbeat { last_seq: 1 }));
    assert_eq!(events[3], Event::Heartbeat(pb::Heartbeat { last_seq: 1 }));
}

#[tokio::test]
async fn a_slow_watcher_beside_fast_ones() {
    const ALL: usize = 3000;
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    // It takes in little by itself, and isn't read from.
    let narrow = Endpoint::from_shared(format!("http://{}", server.address))
        .unwrap()
        .initial_stream_window_size(64 << 10)
        .connect_lazy();
    let request = pb::WatchMessagesRequest {
        session_id: session.clone(),
        after_seq: 0,
    };
    let slow = MessageServiceClient::new(narrow).watch_messages(request).await;
    let mut slow = TestWatch(slow.unwrap().into_inner());
    let fast = join_all((0..3).map(|_| watch(&server, &session, 0))).await;

    let content = "0123456789abcdef".repeat(64);
    let appends = async {
        for _ in 0..ALL / 500 {
            append_batch(&server, &session, vec![text(&content); 500], None)
                .await
                .unwrap();
        }
    };
    let all = i64::try_from(ALL).unwrap();
    let reads = join_all(
        fast.into_iter()
            .map(|mut watch| async move { watch.messages_until(all).await.len() }),
    );
    let (read, ()) = join(reads, appends).await;
    assert_eq!(read, [ALL; 3]);
    let late = slow.messages_until(all).await;
    assert_gapless(&late);
    assert!(late.iter().all(|message| message.content == content));
}

#[tokio::test]
async fn a_thousand_watchers_on_a_hundred_sessions() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let sessions = join_all((0..100).map(|_| new_session(&server))).await;
    let mut watches = Vec::new();
    for _ in 0..10 {
        // hyper lets a connection have 200 streams.
        let channel = Endpoint::from_shared(format!("http://{}", server.address))
            .unwrap()
            .connect_lazy();
        let mut client = MessageServiceClient::new(channel);
        for session in &sessions {
            let request = pb::WatchMessagesRequest {
                session_id: session.clone(),
                after_seq: 0,
            };
            watches.push(TestWatch(
                client.watch_messages(request).await.unwrap().into_inner(),
            ));
        }
    }
    assert_eq!(watches.len(), 1000);
    let reads = join_all(watches.into_iter().map(|mut watch| async move {
        let messages = watch.messages_until(20).await;
        assert_gapless(&messages);
        messages[0].session_id.clone()
    }));
    let only = [&server];
    let appends = join_all(sessions.iter().map(|session| write(&only, session, 1, 20)));
    let (read, _) = join(reads, appends).await;
    assert_eq!(read.iter().collect::<HashSet<_>>().len(), 100);
}

#[tokio::test]
async fn a_deleted_session_ends_its_watches() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    let mut watches = [
        watch(&servers[0], &session, 0).await,
        watch(&servers[1], &session, 0).await,
    ];
    let request = pb::DeleteSessionRequest {
        session_id: session.clone(),
    };
    servers[0].sessions().delete_session(request).await.unwrap();
    for watch in &mut watches {
        assert_refused(watch.end().await, Code::NotFound, "SESSION_NOT_FOUND");
    }
    assert_refused(
        open_watch(&servers[0], &session, 0).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    assert_invalid(
        open_watch(&server, "no uuid", -1).await,
        &["session_id", "after_seq"],
    );
    assert_refused(
        open_watch(&server, &id(), 0).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
}

#[tokio::test]
async fn shutdown_ends_a_watch() {
    let database = TestDatabase::new().await;
    let mut server = start(&database).await;
    let session = new_session(&server).await;
    let mut watch = watch(&server, &session, 0).await;
    watch.event().await;
    server.ask_to_stop();
    assert_refused(watch.end().await, Code::Unavailable, "SHUTTING_DOWN");
    server.stop().await;
}

#[tokio::test]
async fn a_seq_given_by_hand_is_not_told_before_those_below_it() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let mut watch = watch(&server, &session, 0).await;
    append(&server, &session, text("1")).await.unwrap();
    let insert =
        format!("INSERT INTO messages (session_id, seq, role, content) VALUES ('{session}', 3, 'user', '3')");
    database.client().await.batch_execute(&insert).await.unwrap();
    append(&server, &session, text("2")).await.unwrap();
    assert_eq!(seqs(&watch.messages_until(2).await), [1, 2]);
    // The next seq is taken: the counter is raised, and all three are stored in order.
    append(&server, &session, text("4")).await.unwrap();
    assert_eq!(seqs(&watch.messages_until(4).await), [3, 4]);
}

#[tokio::test]
async fn streams_have_a_limit_of_their_own() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.max_requests = 1;
        options.max_streams = 2;
    })
    .await;
    let session = new_session(&server).await;
    let first = watch(&server, &session, 0).await;
    let _second = watch(&server, &session, 0).await;
    assert_refused(
        open_watch(&server, &session, 0).await,
        Code::ResourceExhausted,
        "OVERLOADED",
    );
    // Requests have theirs.
    append(&server, &session, text("1")).await.unwrap();
    drop(first);
    eventually("room for another", async || {
        open_watch(&server, &session, 0).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_watch_does_not_end_with_the_time_of_a_request() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.request_timeout = Duration::from_millis(400);
    })
    .await;
    let session = new_session(&server).await;
    let mut watch = watch(&server, &session, 0).await;
    assert_eq!(watch.event().await, Event::CaughtUp(pb::CaughtUp { last_seq: 0 }));
    // Nothing comes for longer than that.
    assert!(timeout(Duration::from_millis(600), watch.event()).await.is_err());
    append(&server, &session, text("1")).await.unwrap();
    assert_eq!(watch.message().await.seq, 1);
}
