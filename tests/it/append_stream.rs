//! `StreamAppendMessages`: each promise of the contract is a test of that name.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use pb::{append_result::Result as Of, message_service_client::MessageServiceClient};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Endpoint};

use crate::harness::*;

type EntryFrames = mpsc::Sender<pb::StreamAppendMessagesRequest>;
type EntryAnswers = Streaming<pb::StreamAppendMessagesResponse>;

fn entry(session_id: &str, message: pb::NewMessage) -> pb::AppendEntry {
    pb::AppendEntry {
        session_id: session_id.to_owned(),
        message: Some(message),
    }
}

fn frame(entries: Vec<pb::AppendEntry>) -> pb::StreamAppendMessagesRequest {
    pb::StreamAppendMessagesRequest { entries }
}

/// A stream that is open in both directions.
async fn open(server: &TestServer) -> (EntryFrames, EntryAnswers) {
    let (frames, requests) = mpsc::channel(1);
    let answers = server
        .messages()
        .stream_append_messages(ReceiverStream::new(requests))
        .await;
    (frames, answers.expect("a stream").into_inner())
}

/// Sends frames, closes, and reads all results.
async fn send_all(server: &TestServer, frames: Vec<pb::StreamAppendMessagesRequest>) -> Vec<Of> {
    let answers = server
        .messages()
        .stream_append_messages(stream::iter(frames))
        .await;
    let mut answers = answers.expect("a stream").into_inner();
    let mut results = Vec::new();
    while let Some(answer) = answers.message().await.expect("a frame") {
        results.extend(
            answer
                .results
                .into_iter()
                .map(|result| result.result.expect("a result")),
        );
    }
    results
}

fn receipt(result: &Of) -> &pb::Receipt {
    match result {
        Of::Receipt(receipt) => receipt,
        Of::Error(error) => panic!("refused: {error:?}"),
    }
}

#[tokio::test]
async fn every_entry_is_answered_once_in_the_order_sent() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut sessions = Vec::new();
    for _ in 0..7 {
        sessions.push(new_session(&server).await);
    }
    let sent: Vec<pb::AppendEntry> = (0..1000)
        .map(|i: usize| entry(&sessions[i % 7], text_with_id(&id(), &format!("message {i}"))))
        .collect();
    let frames = sent.chunks(13).map(|entries| frame(entries.to_vec())).collect();
    let results = send_all(&server, frames).await;
    assert_eq!(results.len(), sent.len());
    let mut last: HashMap<&str, i64> = HashMap::new();
    for (result, entry) in results.iter().zip(&sent) {
        let receipt = receipt(result);
        assert_eq!(receipt.message_id, entry.message.as_ref().unwrap().message_id());
        assert_eq!(receipt.session_id, entry.session_id);
        assert!(!receipt.deduplicated);
        let seq = last.entry(&entry.session_id).or_default();
        *seq += 1;
        assert_eq!(receipt.seq, *seq, "stored in the order sent");
    }
    for (s, session) in sessions.iter().enumerate() {
        let contents: Vec<String> = messages_of(&server, session)
            .await
            .into_iter()
            .map(|message| message.content)
            .collect();
        let expected: Vec<String> = (s..1000).step_by(7).map(|i| format!("message {i}")).collect();
        assert_eq!(contents, expected);
    }
}

#[tokio::test]
async fn a_bad_entry_harms_no_neighbour() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let used = id();
    append(&server, &session, text_with_id(&used, "first"))
        .await
        .unwrap();
    let no_role = pb::NewMessage {
        content: "x".into(),
        ..Default::default()
    };
    let entries = vec![
        entry(&session, text("good 1")),
        entry("no uuid", no_role),
        entry(&session, text("good 2")),
        entry(&id(), text("for nobody")),
        entry(&session, text_with_id(&used, "another payload")),
        entry(&session, text_with_id(&used, "first")),
        pb::AppendEntry {
            session_id: session.clone(),
            message: None,
        },
        entry(&session, text("good 3")),
    ];
    let results = send_all(&server, vec![frame(entries)]).await;
    let summary: Vec<(i32, String)> = results
        .iter()
        .map(|result| match result {
            Of::Receipt(receipt) => (0, receipt.seq.to_string()),
            Of::Error(error) => (error.code, error.reason.clone()),
        })
        .collect();
    let expected = [
        (0, "2"),
        (Code::InvalidArgument.into(), "INVALID_FIELD"),
        (0, "3"),
        (Code::NotFound.into(), "SESSION_NOT_FOUND"),
        (Code::AlreadyExists.into(), "MESSAGE_ID_REUSED"),
        (0, "1"),
        (Code::InvalidArgument.into(), "INVALID_FIELD"),
        (0, "4"),
    ];
    assert_eq!(summary, expected.map(|(code, word)| (code, word.to_owned())));
    let Of::Error(bad) = &results[1] else {
        panic!("{:?}", results[1])
    };
    assert!(
        bad.message.contains("session_id") && bad.message.contains("message.role"),
        "{}",
        bad.message
    );
    assert!(receipt(&results[5]).deduplicated);
}

#[tokio::test]
async fn half_close_drains() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let (frames, mut answers) = open(&server).await;
    for i in 0..300 {
        frames
            .send(frame(vec![entry(&session, text(&i.to_string()))]))
            .await
            .unwrap();
    }
    // Closed before a single answer has been read.
    drop(frames);
    let mut answered = 0;
    while let Some(answer) = answers.message().await.expect("no error at the end") {
        answered += answer.results.len();
    }
    assert_eq!(answered, 300);
    assert_eq!(messages_of(&server, &session).await.len(), 300);
}

#[tokio::test]
async fn a_lone_entry_is_answered_while_the_stream_stays_open() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let (frames, mut answers) = open(&server).await;
    for seq in 1..=3 {
        frames
            .send(frame(vec![entry(&session, text("alone"))]))
            .await
            .unwrap();
        let answer = answers.message().await.unwrap().expect("an answer");
        assert_eq!(answer.results.len(), 1);
        assert_eq!(receipt(answer.results[0].result.as_ref().unwrap()).seq, seq);
    }
}

#[tokio::test]
async fn shutdown_acknowledges_what_committed_and_no_more() {
    let database = TestDatabase::new().await;
    let mut server = start(&database).await;
    let session = new_session(&server).await;
    let (frames, mut answers) = open(&server).await;
    let endless = tokio::spawn({
        let session = session.clone();
        async move {
            while frames
                .send(frame(vec![entry(&session, text("more"))]))
                .await
                .is_ok()
            {}
        }
    });
    let mut acknowledged = Vec::new();
    let end = loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                acknowledged.extend(
                    answer
                        .results
                        .iter()
                        .map(|result| receipt(result.result.as_ref().unwrap()).seq),
                );
                if acknowledged.len() > 100 {
                    server.ask_to_stop();
                }
            }
            Ok(None) => panic!("ended without a status"),
            Err(status) => break status,
        }
    };
    let refusal = refusal_of(&end);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::Unavailable, "SHUTTING_DOWN")
    );
    server.stop().await;
    endless.await.unwrap();
    let stored: Vec<i64> = database
        .client()
        .await
        .query("SELECT seq FROM messages ORDER BY seq", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(acknowledged, stored);
}

#[tokio::test]
async fn a_client_that_never_reads_is_slowed_down_and_not_cut_off() {
    const ALL: usize = 20_000;
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    // Of a client that doesn't take in many answers by itself.
    let address = format!("http://{}", server.address);
    let narrow = Endpoint::from_shared(address)
        .unwrap()
        .initial_stream_window_size(64 << 10)
        .connect_lazy();
    let (frames, requests) = mpsc::channel(1);
    let answers = MessageServiceClient::new(narrow)
        .stream_append_messages(ReceiverStream::new(requests))
        .await;
    let mut answers = answers.expect("a stream").into_inner();
    let next = |i: usize| frame(vec![entry(&session, text(&i.to_string()))]);
    let mut sent = 0;
    // A frame that finds no room for this long finds none at all: nobody reads.
    while time::timeout(Duration::from_secs(2), frames.reserve())
        .await
        .is_ok_and(|room| {
            room.expect("an open stream").send(next(sent));
            sent += 1;
            sent < ALL
        })
    {}
    assert!(
        sent < ALL / 2,
        "the server took {sent} entries from a client that reads no answers"
    );

    let sending = tokio::spawn({
        let rest: Vec<_> = (sent..ALL).map(next).collect();
        async move {
            for frame in rest {
                frames.send(frame).await.expect("an open stream");
            }
        }
    });
    let mut seq = 0;
    while let Some(answer) = answers.message().await.expect("no error") {
        for result in answer.results {
            seq += 1;
            assert_eq!(receipt(result.result.as_ref().unwrap()).seq, seq);
        }
    }
    sending.await.unwrap();
    assert_eq!(usize::try_from(seq), Ok(ALL));
}

#[tokio::test]
async fn a_client_that_vanishes_loses_nothing_acknowledged() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let ids: Vec<String> = (0..400).map(|_| id()).collect();
    let (frames, mut answers) = open(&server).await;
    let sending = tokio::spawn({
        let entries: Vec<_> = ids
            .iter()
            .map(|id| entry(&session, text_with_id(id, "kept")))
            .collect();
        async move {
            for entry in entries {
                if frames.send(frame(vec![entry])).await.is_err() {
                    return;
                }
            }
        }
    });
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 150 {
        let answer = answers.message().await.unwrap().expect("an answer");
        acknowledged.extend(
            answer
                .results
                .iter()
                .map(|r| receipt(r.result.as_ref().unwrap()).message_id.clone()),
        );
    }
    // Gone in the middle of it.
    drop(answers);
    sending.await.unwrap();
    let stored: Vec<String> = messages_of(&server, &session)
        .await
        .into_iter()
        .map(|message| message.id)
        .collect();
    assert!(stored.len() >= acknowledged.len());
    assert_eq!(stored[..acknowledged.len()], acknowledged[..]);

    // Sent once more as a whole: each is stored once, in the order of the first time.
    let entries = ids
        .iter()
        .map(|id| entry(&session, text_with_id(id, "kept")))
        .collect();
    let results = send_all(&server, vec![frame(entries)]).await;
    assert_eq!(results.len(), 400);
    let seqs: Vec<i64> = results.iter().map(|result| receipt(result).seq).collect();
    assert_eq!(seqs, (1..=400).collect::<Vec<i64>>());
}

#[tokio::test]
async fn resending_a_whole_stream_deduplicates_all() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let another = start(&database).await;
    let sessions = [new_session(&server).await, new_session(&server).await];
    let entries: Vec<_> = (0..500)
        .map(|i: usize| entry(&sessions[i % 2], text_with_id(&id(), &i.to_string())))
        .collect();
    let frames: Vec<_> = entries
        .chunks(50)
        .map(|entries| frame(entries.to_vec()))
        .collect();
    let first = send_all(&server, frames.clone()).await;
    let second = send_all(&another, frames).await;
    assert_eq!(second.len(), 500);
    for (first, second) in first.iter().zip(&second) {
        let (first, second) = (receipt(first), receipt(second));
        assert!(!first.deduplicated && second.deduplicated);
        assert_eq!(
            *second,
            pb::Receipt {
                deduplicated: true,
                ..first.clone()
            }
        );
    }
    assert_eq!(messages_of(&server, &sessions[0]).await.len(), 250);
}

#[tokio::test]
async fn many_streams_to_one_session_leave_no_gap() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    let streams = (0..8_usize).map(|s| {
        let (server, session) = (&servers[s % 2], &session);
        async move {
            let frames = (0..100)
                .map(|i| frame(vec![entry(session, text(&format!("{s}:{i}")))]))
                .collect();
            send_all(server, frames).await
        }
    });
    let results: Vec<Vec<Of>> = futures_util::future::join_all(streams).await;
    for results in &results {
        let seqs: Vec<i64> = results.iter().map(|result| receipt(result).seq).collect();
        assert!(seqs.is_sorted(), "a stream's entries are stored in its order");
    }
    let messages = messages_of(&servers[0], &session).await;
    let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=800).collect::<Vec<i64>>());
    let all: Vec<_> = stream::iter(&messages)
        .map(|message| message.create_time)
        .collect()
        .await;
    assert!(all.windows(2).all(|pair| {
        let key = |time: &Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
        key(&pair[0]) < key(&pair[1])
    }));
}
