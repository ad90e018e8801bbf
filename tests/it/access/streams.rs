//! Streams that outlive the credentials they were opened with.
//!
//! Time is the tests' own here: it is looked again after half a minute.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::world::*;
use crate::harness::*;

/// How long the contract gives a stream whose key was revoked.
const WITHIN: Duration = Duration::from_mins(1);

async fn watched(server: &TestServer, bearer: &str, session_id: &str) -> TestWatch {
    let request = pb::WatchMessagesRequest {
        session_id: session_id.to_owned(),
        after_seq: 0,
    };
    let watch = server
        .messages()
        .watch_messages(by(bearer, request))
        .await
        .expect("a watch");
    TestWatch(watch.into_inner())
}

async fn session(server: &TestServer, bearer: &str) -> String {
    let created = server
        .sessions()
        .create_session(by(bearer, pb::CreateSessionRequest::default()))
        .await;
    created
        .expect("a session")
        .into_inner()
        .session
        .expect("a session")
        .id
}

async fn end_of(watch: &mut TestWatch) -> Status {
    loop {
        match watch.0.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_revoked_key_s_streams_end_within_a_minute_and_others_go_on() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let (revoked, other) = (
        key(&database, "default", &["write"]).await,
        key(&database, "default", &["write"]).await,
    );
    let session = session(&server, &revoked).await;
    let (mut ends, mut stays) = (
        watched(&server, &revoked, &session).await,
        watched(&server, &other, &session).await,
    );
    let (entries, requests) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    let appends = server
        .messages()
        .stream_append_messages(by(&revoked, stream))
        .await;
    let mut appends = appends.expect("a stream").into_inner();
    change_key(&database, &revoked, "revoked_at = now()").await;
    let status = timeout(WITHIN, end_of(&mut ends)).await.expect("its end in time");
    assert_eq!(status.code(), Code::Unauthenticated);
    let ended = timeout(WITHIN, appends.message()).await.expect("its end in time");
    assert_eq!(ended.expect_err("revoked").code(), Code::Unauthenticated);
    drop(entries);
    append_by(&server, &other, &session).await;
    assert_eq!(stays.message().await.seq, 1);
}

async fn append_by(server: &TestServer, bearer: &str, session_id: &str) {
    let request = pb::AppendMessageRequest {
        session_id: session_id.to_owned(),
        message: Some(text("hello")),
    };
    server
        .messages()
        .append_message(by(bearer, request))
        .await
        .expect("a receipt");
}

#[tokio::test]
async fn a_token_s_streams_end_with_it() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let end = Timestamp::now().as_second() + 3;
    let token = token("worker", json!({"scope": "write", "exp": end}));
    let session = session(&server, &token).await;
    let mut watch = watched(&server, &token, &session).await;
    let status = timeout(WITHIN, end_of(&mut watch))
        .await
        .expect("its end in time");
    assert_eq!(status.code(), Code::Unauthenticated);
    // Not before: a second of leeway is its own.
    assert!(Timestamp::now().as_second() >= end);
}
