//! ReadMessages: whole histories, of one moment, whatever their readers do.

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status, Streaming};

use crate::harness::{
    raw::{RawClient, frame},
    *,
};

const READ: &str = "/chatledger.v1.MessageService/ReadMessages";

fn read_of(session: &str) -> pb::ReadMessagesRequest {
    pb::ReadMessagesRequest {
        session_id: session.to_owned(),
        ..Default::default()
    }
}

async fn open(server: &TestServer, request: pb::ReadMessagesRequest) -> Streaming<pb::ReadMessagesResponse> {
    answer(server.messages().read_messages(request).await)
}

/// All that a stream has, and the largest of its frames in bytes.
async fn rest(mut stream: Streaming<pb::ReadMessagesResponse>) -> Result<(Vec<pb::Message>, usize), Status> {
    let (mut messages, mut largest) = (Vec::new(), 0);
    while let Some(frame) = stream.message().await? {
        assert!(!frame.messages.is_empty());
        assert!(frame.encoded_len() <= 1 << 20 || frame.messages.len() == 1);
        largest = largest.max(frame.encoded_len());
        messages.extend(frame.messages);
    }
    Ok((messages, largest))
}

async fn read(server: &TestServer, request: pb::ReadMessagesRequest) -> Vec<pb::Message> {
    rest(open(server, request).await).await.expect("a history").0
}

/// A session with so many messages of all kinds, of which some were erased.
async fn varied(server: &TestServer, count: usize) -> String {
    let session = new_session(server).await;
    let message = |n: usize| pb::NewMessage {
        role: i32::try_from(n % 4 + 1).expect("a role"),
        selected_text: n.is_multiple_of(5).then(|| format!("selected {n}")),
        metadata_json: format!("{{\"n\": {n}}}"),
        payload: n.is_multiple_of(3).then(|| format!("payload {n}").into()),
        citations: vec![citation("d", "c", 0.5); n % 7 / 2],
        ..text(&"é".repeat(n % 400))
    };
    let all: Vec<_> = (1..=count).map(message).collect();
    for some in all.chunks(500) {
        append_batch(server, &session, some.to_vec(), None)
            .await
            .expect("receipts");
    }
    let stored = messages_of(server, &session).await;
    for message in stored.iter().step_by(100) {
        delete_message(server, &session, &message.id)
            .await
            .expect("a deletion");
    }
    session
}

/// A session with 24 MiB, more than anybody reads ahead.
async fn large(server: &TestServer) -> String {
    let session = new_session(server).await;
    for n in 0..24 {
        let message = text(&char::from(b'a' + n).to_string().repeat(1 << 20));
        append(server, &session, message).await.expect("a receipt");
    }
    session
}

#[tokio::test]
async fn a_history_is_what_all_pages_have() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = varied(&server, 3000).await;
    let listed = messages_of(&server, &session).await;
    assert_eq!(listed.len(), 2970);
    let (all, largest) = rest(open(&server, read_of(&session)).await)
        .await
        .expect("a history");
    assert!(all == listed);
    assert!(largest < 1 << 20, "{largest}");

    let some = pb::ReadMessagesRequest {
        after_seq: Some(17),
        before_seq: Some(2018),
        roles: vec![pb::Role::User.into(), pb::Role::Tool.into()],
        omit_citations: true,
        ..read_of(&session)
    };
    let expected: Vec<_> = listed
        .iter()
        .filter(|m| m.seq > 17 && m.seq < 2018 && (m.role() == pb::Role::User || m.role() == pb::Role::Tool))
        .map(|m| pb::Message {
            citations: Vec::new(),
            ..m.clone()
        })
        .collect();
    assert!(expected.len() > 900);
    assert!(read(&server, some).await == expected);
    let none = pb::ReadMessagesRequest {
        after_seq: Some(3000),
        ..read_of(&session)
    };
    assert_eq!(read(&server, none).await, []);
    let empty = new_session(&server).await;
    assert_eq!(read(&server, read_of(&empty)).await, []);
    server.stop().await;
}

/// Pages and frames have limits of citations, and those of one message are never torn.
#[tokio::test]
async fn many_citations_make_smaller_pages_and_none_is_lost() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let message = |n: usize| pb::NewMessage {
        citations: vec![citation(&format!("d{n}"), "c", 0.5); 100 - n % 3],
        ..text("x")
    };
    let messages = (0..150).map(message).collect();
    append_batch(&server, &session, messages, None)
        .await
        .expect("receipts");
    // More than a page's and a frame's, by hand, in one message.
    let client = database.client().await;
    let by_hand = "INSERT INTO message_citations (message_id, document_id, citation_index)
        SELECT id, 'by hand', n FROM messages, generate_series(1001, 6000) n WHERE seq = 75";
    client.execute(by_hand, &[]).await.expect("SQL");
    let expected: Vec<usize> = (0..150)
        .map(|n| 100 - n % 3 + if n == 74 { 5000 } else { 0 })
        .collect();
    let counts = |messages: &[pb::Message]| messages.iter().map(|m| m.citations.len()).collect::<Vec<_>>();
    let history = read(&server, read_of(&session)).await;
    assert_eq!(counts(&history), expected);
    for message in &history {
        let indexes = message.citations.iter().map(|citation| citation.citation_index);
        assert!(indexes.is_sorted());
    }
    for (descending, page_size) in [(false, 500), (true, 500), (false, 1), (true, 1)] {
        let pages = pages_of(async |page_token| {
            let request = pb::ListMessagesRequest {
                session_id: session.clone(),
                page_size,
                page_token,
                order: i32::from(descending) + 1,
                ..Default::default()
            };
            let page = answer(server.messages().list_messages(request).await);
            (page.messages, page.next_page_token)
        })
        .await;
        assert!(pages.iter().all(|page| !page.is_empty()));
        let mut listed = pages.concat();
        if descending {
            listed.reverse();
        }
        assert!(listed == history);
    }
    server.stop().await;
}

#[tokio::test]
async fn of_messages_with_a_payload_nothing_else_is_read_where_that_is_asked_for() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = varied(&server, 30).await;
    let listed = messages_of(&server, &session).await;
    let expected: Vec<_> = listed
        .iter()
        .map(|m| match m.payload {
            None => m.clone(),
            Some(_) => pb::Message {
                content: String::new(),
                selected_text: None,
                metadata_json: String::new(),
                ..m.clone()
            },
        })
        .collect();
    let history = pb::ReadMessagesRequest {
        payload_only: true,
        ..read_of(&session)
    };
    assert_eq!(read(&server, history).await, expected);
    let page = pb::ListMessagesRequest {
        session_id: session.clone(),
        payload_only: true,
        ..Default::default()
    };
    assert_eq!(
        answer(server.messages().list_messages(page).await).messages,
        expected
    );
    server.stop().await;
}

#[tokio::test]
async fn a_history_is_of_one_moment() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = large(&server).await;
    let listed = messages_of(&server, &session).await;
    let mut stream = open(&server, read_of(&session)).await;
    let first = stream.message().await.expect("a frame").expect("no end").messages;
    // One that has been read, and one that hasn't.
    for gone in [&listed[0], &listed[23]] {
        delete_message(&server, &session, &gone.id)
            .await
            .expect("a deletion");
    }
    append(&server, &session, text("new")).await.expect("a receipt");
    let (others, _) = rest(stream).await.expect("the others");
    assert!([first, others].concat() == listed);
    let after = read(&server, read_of(&session)).await;
    assert_eq!(seqs(&after), (2..=23).chain([25]).collect::<Vec<i64>>());
    server.stop().await;
}

#[tokio::test]
async fn what_a_history_cannot_be_is_told_at_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let call = async |request| server.messages().read_messages(request).await;
    assert_refused(call(read_of(&id())).await, Code::NotFound, "SESSION_NOT_FOUND");
    let bad = pb::ReadMessagesRequest {
        after_seq: Some(-1),
        before_seq: Some(-1),
        roles: vec![0],
        ..read_of("x")
    };
    assert_invalid(
        call(bad).await,
        &["after_seq", "before_seq", "session_id", "roles[0]"],
    );
    server.stop().await;
}

#[tokio::test]
async fn who_takes_nothing_makes_room_for_who_waits() {
    let database = TestDatabase::new().await;
    // Two histories at a time, and no connection besides theirs.
    let server = start_with(&database, |options| options.db.pool_size = 2).await;
    let session = large(&server).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::connect(server.address).await;
        let request = frame(&read_of(&session).encode_to_vec());
        let response = client.begin(READ, &[], request, true).await.unread().await;
        idle.push((client, response.into_body()));
    }
    let small = pb::ReadMessagesRequest {
        after_seq: Some(23),
        ..read_of(&session)
    };
    assert_eq!(seqs(&read(&server, small).await), [24]);
    // One of them has been given up, and hears so when it goes on; what it has had is a beginning.
    let mut ends = Vec::new();
    for (_client, mut body) in idle {
        while let Some(data) = body.data().await {
            let data = data.expect("no reset");
            body.flow_control()
                .release_capacity(data.len())
                .expect("a window");
        }
        let trailers = body.trailers().await.expect("no reset").expect("trailers");
        ends.push(Status::from_header_map(&trailers).expect("a status").code());
    }
    assert!(ends.contains(&Code::ResourceExhausted), "{ends:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_leaves_gives_its_connection_back() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.db.pool_size = 2).await;
    let session = large(&server).await;
    for _ in 0..6 {
        let mut stream = open(&server, read_of(&session)).await;
        stream.message().await.expect("a frame").expect("no end");
        drop(stream);
    }
    assert_eq!(read(&server, read_of(&session)).await.len(), 24);
    let client = database.client().await;
    eventually("nobody holds a moment", async || {
        let open = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'ClientWrite'";
        let open: i64 = client.query_one(open, &[]).await.expect("SQL").get(0);
        (open == 0).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_broken_connection_ends_a_history_and_no_message_is_passed_over() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = large(&server).await;
    let mut stream = open(&server, read_of(&session)).await;
    let first = stream.message().await.expect("a frame").expect("no end").messages;
    let client = database.client().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'ClientWrite'";
    eventually("it is ended", async || {
        let ended = client.query(end, &[]).await.expect("SQL");
        (!ended.is_empty()).then_some(())
    })
    .await;
    let (mut seen, mut status) = (first, None);
    while status.is_none() {
        match stream.message().await {
            Ok(Some(frame)) => seen.extend(frame.messages),
            Ok(None) => panic!("an end, as if that were all"),
            Err(error) => status = Some(error),
        }
    }
    assert_eq!(status.expect("a status").code(), Code::Unavailable);
    let last = seen.last().expect("a message").seq;
    assert_eq!(seqs(&seen), (1..=last).collect::<Vec<i64>>());
    let others = pb::ReadMessagesRequest {
        after_seq: Some(last),
        ..read_of(&session)
    };
    assert_eq!(
        seqs(&read(&server, others).await),
        (last + 1..=24).collect::<Vec<i64>>()
    );
    server.stop().await;
}

#[tokio::test]
async fn unread_histories_hold_a_bounded_part_of_memory() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.memory_budget = 64 << 20;
        options.request_timeout = Duration::from_mins(2);
    })
    .await;
    let whole = server.memory.free();
    let session = large(&server).await;
    let mut greedy = RawClient::connect(server.address).await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        let request = frame(&read_of(&session).encode_to_vec());
        let call = greedy.begin(READ, &[], request, true).await;
        calls.push(tokio::spawn(call.unread()));
    }
    eventually("much is held", async || {
        (whole - server.memory.free() > (4 << 20)).then_some(())
    })
    .await;
    for _ in 0..3 {
        assert_eq!(read(&server, read_of(&session)).await.len(), 24);
    }
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    drop((greedy, calls));
    eventually("all is given back", async || {
        (server.memory.free() == whole).then_some(())
    })
    .await;
    server.stop().await;
}
