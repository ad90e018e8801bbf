//! Short words for common requests, and for what is in a status.

use std::{collections::HashMap, fmt::Debug};

use pb::watch_messages_response::Event;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::{PATIENCE, TestServer, pb};

/// A new UUID as text.
pub fn id() -> String {
    Uuid::now_v7().to_string()
}

/// A user with some email.
pub async fn new_user(server: &TestServer) -> pb::User {
    let request = pb::CreateUserRequest {
        email: format!("{}@example.com", id()),
        ..Default::default()
    };
    let response = server.users().create_user(request).await.expect("a user");
    response.into_inner().user.expect("a user")
}

/// A session of nobody; its id.
pub async fn new_session(server: &TestServer) -> String {
    new_session_of(server, None).await.id
}

/// A session of a user, or of nobody.
pub async fn new_session_of(server: &TestServer, user_id: Option<&str>) -> pb::Session {
    let request = pb::CreateSessionRequest {
        user_id: user_id.map(str::to_owned),
        ..Default::default()
    };
    let response = server
        .sessions()
        .create_session(request)
        .await
        .expect("a session");
    response.into_inner().session.expect("a session")
}

/// A message of the user, without an id.
pub fn text(content: &str) -> pb::NewMessage {
    pb::NewMessage {
        role: pb::Role::User.into(),
        content: content.to_owned(),
        ..Default::default()
    }
}

/// A message of the user with an id.
pub fn text_with_id(message_id: &str, content: &str) -> pb::NewMessage {
    pb::NewMessage {
        message_id: Some(message_id.to_owned()),
        ..text(content)
    }
}

pub fn citation(document_id: &str, chunk_id: &str, score: f64) -> pb::Citation {
    pb::Citation {
        document_id: document_id.to_owned(),
        chunk_id: chunk_id.to_owned(),
        score,
        ..Default::default()
    }
}

/// Appends one message.
pub async fn append(
    server: &TestServer,
    session_id: &str,
    message: pb::NewMessage,
) -> Result<pb::Receipt, Status> {
    let request = pb::AppendMessageRequest {
        session_id: session_id.to_owned(),
        message: Some(message),
    };
    let response = server.messages().append_message(request).await?;
    Ok(response.into_inner().receipt.expect("a receipt"))
}

/// Appends several messages together.
pub async fn append_batch(
    server: &TestServer,
    session_id: &str,
    messages: Vec<pb::NewMessage>,
    expected_last_seq: Option<i64>,
) -> Result<Vec<pb::Receipt>, Status> {
    let request = pb::BatchAppendMessagesRequest {
        session_id: session_id.to_owned(),
        messages,
        expected_last_seq,
    };
    Ok(server
        .messages()
        .batch_append_messages(request)
        .await?
        .into_inner()
        .receipts)
}

/// All messages of a session, by seq.
pub async fn messages_of(server: &TestServer, session_id: &str) -> Vec<pb::Message> {
    let mut messages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListMessagesRequest {
            session_id: session_id.to_owned(),
            page_size: 500,
            page_token,
            ..Default::default()
        };
        let page = server
            .messages()
            .list_messages(request)
            .await
            .expect("a page")
            .into_inner();
        messages.extend(page.messages);
        if page.next_page_token.is_empty() {
            return messages;
        }
        page_token = page.next_page_token;
    }
}

/// One message by its id.
pub async fn get_message(
    server: &TestServer,
    session_id: &str,
    message_id: &str,
) -> Result<pb::Message, Status> {
    let request = pb::GetMessageRequest {
        session_id: session_id.to_owned(),
        message_id: message_id.to_owned(),
    };
    let response = server.messages().get_message(request).await?;
    Ok(response.into_inner().message.expect("a message"))
}

pub async fn delete_message(server: &TestServer, session_id: &str, message_id: &str) -> Result<(), Status> {
    let request = pb::DeleteMessageRequest {
        session_id: session_id.to_owned(),
        message_id: message_id.to_owned(),
    };
    server.messages().delete_message(request).await.map(drop)
}

/// Erases all messages of a session; how many there were.
pub async fn clear_messages(server: &TestServer, session_id: &str) -> Result<i64, Status> {
    let request = pb::ClearMessagesRequest {
        session_id: session_id.to_owned(),
    };
    let response = server.messages().clear_messages(request).await?;
    Ok(response.into_inner().deleted_count)
}

/// A watch of a session, or why there is none.
pub async fn open_watch(
    server: &TestServer,
    session_id: &str,
    after_seq: i64,
) -> Result<Streaming<pb::WatchMessagesResponse>, Status> {
    let request = pb::WatchMessagesRequest {
        session_id: session_id.to_owned(),
        after_seq,
    };
    Ok(server.messages().watch_messages(request).await?.into_inner())
}

/// A watch of a session.
pub async fn watch(server: &TestServer, session_id: &str, after_seq: i64) -> TestWatch {
    TestWatch(open_watch(server, session_id, after_seq).await.expect("a watch"))
}

/// A stream of a watch's events.
pub struct TestWatch(pub Streaming<pb::WatchMessagesResponse>);

impl TestWatch {
    /// The next one that isn't a heartbeat.
    pub async fn event(&mut self) -> Event {
        loop {
            let next = timeout(PATIENCE, self.0.message())
                .await
                .expect("an event in time");
            let next = next.expect("no error").expect("no end");
            match next.event.expect("an event") {
                Event::Heartbeat(_) => {}
                event => return event,
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> pb::Message {
        loop {
            if let Event::Message(message) = self.event().await {
                return message;
            }
        }
    }

    /// The next messages, up to the one with this seq.
    pub async fn messages_until(&mut self, seq: i64) -> Vec<pb::Message> {
        let mut messages = Vec::new();
        while messages.last().is_none_or(|last: &pb::Message| last.seq < seq) {
            messages.push(self.message().await);
        }
        messages
    }

    /// The status that it ends with, after whatever else comes.
    pub async fn end(&mut self) -> Result<(), Status> {
        loop {
            let next = timeout(PATIENCE, self.0.message()).await.expect("an end in time");
            if next?.is_none() {
                return Ok(());
            }
        }
    }
}

/// Adds citations to a message, and answers them as stored.
pub async fn add_citations(
    server: &TestServer,
    session_id: &str,
    message_id: &str,
    citations: Vec<pb::Citation>,
) -> Result<Vec<pb::Citation>, Status> {
    let request = pb::AddCitationsRequest {
        session_id: session_id.to_owned(),
        message_id: message_id.to_owned(),
        citations,
    };
    let response = server.citations().add_citations(request).await?;
    Ok(response.into_inner().citations)
}

/// A session by its id.
pub async fn get_session(server: &TestServer, session_id: &str) -> pb::Session {
    let request = pb::GetSessionRequest {
        session_id: session_id.to_owned(),
    };
    let response = server.sessions().get_session(request).await.expect("a session");
    response.into_inner().session.expect("a session")
}

/// The seqs of messages, in their order.
pub fn seqs(messages: &[pb::Message]) -> Vec<i64> {
    messages.iter().map(|message| message.seq).collect()
}

/// A time in microseconds, as the database keeps it.
pub fn micros(time: Option<&prost_types::Timestamp>) -> i64 {
    let time = time.expect("a time");
    time.seconds * 1_000_000 + i64::from(time.nanos / 1000)
}

/// Asserts that messages are 1, 2, 3, ... and that each is later than the one before.
#[track_caller]
pub fn assert_gapless(messages: &[pb::Message]) {
    assert_eq!(seqs(messages), (1..).take(messages.len()).collect::<Vec<i64>>());
    let times: Vec<i64> = messages
        .iter()
        .map(|message| micros(message.create_time.as_ref()))
        .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "times not in order: {times:?}");
}

/// What a program reads in a status. Every error has all of its domain's details.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub reason: String,
    pub metadata: HashMap<String, String>,
    /// The fields of the BadRequest, in order.
    pub fields: Vec<String>,
    /// Whether there is a RetryInfo.
    pub retry: bool,
}

/// The error of a call that must fail.
pub fn refusal<T: Debug>(result: Result<T, Status>) -> Refusal {
    let status = result.expect_err("a refusal");
    refusal_of(&status)
}

/// The parts of a status.
pub fn refusal_of(status: &Status) -> Refusal {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "chatledger");
    let bad = status.get_details_bad_request();
    Refusal {
        code: status.code(),
        reason: info.reason,
        metadata: info.metadata,
        fields: bad
            .into_iter()
            .flat_map(|bad| bad.field_violations)
            .map(|violation| violation.field)
            .collect(),
        retry: status.get_details_retry_info().is_some(),
    }
}

/// Asserts that a call fails with a code and a reason.
#[track_caller]
pub fn assert_refused<T: Debug>(result: Result<T, Status>, code: Code, reason: &str) {
    let refusal = refusal(result);
    assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason));
}

/// Asserts that a call fails since these fields are bad, and no others.
#[track_caller]
pub fn assert_invalid<T: Debug>(result: Result<T, Status>, fields: &[&str]) {
    let refusal = refusal(result);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::InvalidArgument, "INVALID_FIELD")
    );
    assert_eq!(refusal.fields, fields);
}

/// The answer of a call that must succeed.
#[track_caller]
pub fn answer<T>(result: Result<tonic::Response<T>, Status>) -> T {
    result.expect("an answer").into_inner()
}

/// A mask of these paths.
pub fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    })
}

/// A time that must be there, in nanoseconds since 1970.
#[track_caller]
pub fn nanos(time: Option<prost_types::Timestamp>) -> i128 {
    let time = time.expect("a time");
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

/// All pages of a list, each read with the token of the one before. `fetch` reads one by its token.
pub async fn pages_of<T>(mut fetch: impl AsyncFnMut(String) -> (Vec<T>, String)) -> Vec<Vec<T>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let (page, next) = fetch(token).await;
        pages.push(page);
        assert!(pages.len() < 1000, "a list without an end");
        if next.is_empty() {
            return pages;
        }
        token = next;
    }
}

/// A new session of a program.
pub async fn session_on(channel: &tonic::transport::Channel) -> String {
    let mut client = pb::session_service_client::SessionServiceClient::new(channel.clone());
    let response = client.create_session(pb::CreateSessionRequest::default()).await;
    answer(response).session.expect("a session").id
}
