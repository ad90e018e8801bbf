//! What a tenant stores.

use futures_util::stream;
use pb::append_result::Result as Of;
use tonic::Status;

use super::{limit_of, limited};
use crate::harness::*;

async fn create(server: &TestServer) -> Result<(), Status> {
    let request = pb::CreateSessionRequest::default();
    server.sessions().create_session(request).await.map(drop)
}

#[tokio::test]
async fn beyond_the_quota_nothing_is_stored_and_deleting_makes_room() {
    let database = TestDatabase::new().await;
    let hard = "hard = { sessions = 2, messages = 3, bytes = 1000 }";
    // Counted once: what is on its way while it is counted again may count twice for a moment.
    let server = limited(&database, &format!("[storage]\ncount_every = '1h'\n{hard}\n")).await;
    let (session, other) = (new_session(&server).await, new_session(&server).await);
    assert_eq!(
        limit_of(create(&server).await, "QUOTA_EXCEEDED"),
        "storage.sessions"
    );
    let long = append(&server, &session, text(&"x".repeat(1001))).await;
    assert_eq!(limit_of(long, "QUOTA_EXCEEDED"), "storage.bytes");
    for _ in 0..2 {
        append(&server, &session, text("x")).await.expect("a message");
    }
    let batch = append_batch(&server, &session, vec![text("x"), text("x")], None).await;
    assert_eq!(limit_of(batch, "QUOTA_EXCEEDED"), "storage.messages");
    // In a stream, each entry by itself.
    let entry = || pb::AppendEntry {
        session_id: session.clone(),
        message: Some(text("x")),
    };
    let frame = pb::StreamAppendMessagesRequest {
        entries: vec![entry(), entry()],
    };
    let answers = server
        .messages()
        .stream_append_messages(stream::iter([frame]))
        .await;
    let mut answers = answer(answers);
    let mut results = Vec::new();
    while let Some(frame) = answers.message().await.expect("a frame") {
        results.extend(frame.results);
    }
    assert!(matches!(results[0].result, Some(Of::Receipt(_))), "{results:?}");
    match &results[1].result {
        Some(Of::Error(error)) => assert_eq!(error.reason, "QUOTA_EXCEEDED"),
        other => panic!("{other:?}"),
    }
    assert_eq!(messages_of(&server, &session).await.len(), 3);
    // What is stored already may be sent again.
    let stored = messages_of(&server, &session).await.remove(0);
    let again = append(&server, &session, text_with_id(&stored.id, "x")).await;
    assert!(again.expect("the first receipt").deduplicated);
    let repeated = pb::CreateSessionRequest {
        session_id: Some(session.clone()),
        ..Default::default()
    };
    answer(server.sessions().create_session(repeated).await);
    // Reading goes on, and deleting makes room, once it is counted.
    let server = limited(&database, &format!("[storage]\ncount_every = '20ms'\n{hard}\n")).await;
    let delete = pb::DeleteSessionRequest { session_id: session };
    answer(server.sessions().delete_session(delete).await);
    eventually("room for a session", async || create(&server).await.ok()).await;
    append(&server, &other, text("x"))
        .await
        .expect("room for a message");
}

#[tokio::test]
async fn what_was_stored_before_the_server_started_counts() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for _ in 0..5 {
        append(&server, &session, text("x")).await.expect("a message");
    }
    server.stop().await;
    let server = limited(&database, "[storage.tenants.default]\nhard = { messages = 5 }\n").await;
    let refused = append(&server, &session, text("x")).await;
    assert_eq!(limit_of(refused, "QUOTA_EXCEEDED"), "storage.messages");
}

#[tokio::test]
async fn a_soft_quota_is_logged_once_and_refuses_nothing() {
    let database = TestDatabase::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("limits.toml");
    std::fs::write(&path, "[storage]\nsoft = { sessions = 1 }\n").expect("written");
    let mut command = process::serve();
    command
        .arg("--limits-file")
        .arg(&path)
        .env("DATABASE_URL", database.url());
    let process = ServerProcess::start(&mut command);
    let mut sessions = pb::session_service_client::SessionServiceClient::new(process.channel());
    for _ in 0..4 {
        answer(sessions.create_session(pb::CreateSessionRequest::default()).await);
    }
    process.says("more than its soft quota").await;
    let stderr = process.stderr();
    assert_eq!(stderr.matches("soft quota").count(), 1, "{stderr}");
    assert!(stderr.contains("storage.sessions"), "{stderr}");
}
