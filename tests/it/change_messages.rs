//! GetMessage, UpdateMessage, DeleteMessage and ClearMessages.

use tonic::Code;

use crate::harness::*;

async fn update(
    server: &TestServer,
    session: &str,
    message: &str,
    json: &str,
    mode: pb::JsonMode,
) -> Result<pb::Message, tonic::Status> {
    let request = pb::UpdateMessageRequest {
        session_id: session.to_owned(),
        message_id: message.to_owned(),
        metadata_json: json.to_owned(),
        metadata_mode: mode.into(),
    };
    let response = server.messages().update_message(request).await?;
    Ok(response.into_inner().message.expect("a message"))
}

/// A server, a session, and the id of a message with everything in it.
async fn one_message(database: &TestDatabase) -> (TestServer, String, String) {
    let server = start(database).await;
    let session = new_session(&server).await;
    let message = pb::NewMessage {
        selected_text: Some("selected".to_owned()),
        payload: Some(vec![1, 2, 3].into()),
        metadata_json: r#"{"keep": 1, "change": {"a": 1}, "remove": true}"#.to_owned(),
        citations: vec![citation("d", "c", 0.5), citation("e", "", 0.25)],
        ..text("secret words")
    };
    let receipt = append(&server, &session, message).await.expect("a receipt");
    (server, session, receipt.message_id)
}

#[tokio::test]
async fn an_update_merges_metadata_and_leaves_the_rest() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    let before = get_message(&server, &session, &message).await.expect("a message");
    let given = r#"{"change": {"b": 2}, "remove": null, "add": [1, null], "absent": null}"#;
    for mode in [pb::JsonMode::Merge, pb::JsonMode::Unspecified] {
        let updated = update(&server, &session, &message, given, mode)
            .await
            .expect("a message");
        let expected = pb::Message {
            metadata_json: r#"{"add": [1, null], "keep": 1, "change": {"b": 2}}"#.to_owned(),
            ..before.clone()
        };
        assert_eq!(updated, expected);
        let read = get_message(&server, &session, &message).await.expect("a message");
        assert_eq!(read, updated);
    }
    let updated = update(&server, &session, &message, "", pb::JsonMode::Merge)
        .await
        .expect("a message");
    assert!(updated.metadata_json.contains("keep"));
}

#[tokio::test]
async fn an_update_replaces_metadata_on_request() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    for (given, expected) in [(r#"{"x": null}"#, r#"{"x": null}"#), ("", "{}")] {
        let updated = update(&server, &session, &message, given, pb::JsonMode::Replace)
            .await
            .expect("a message");
        assert_eq!(updated.metadata_json, expected);
    }
}

#[tokio::test]
async fn the_limit_on_json_holds_for_what_a_merge_makes() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    let half = |key: &str| format!(r#"{{"{key}": "{}"}}"#, "x".repeat(40_000));
    update(&server, &session, &message, &half("a"), pb::JsonMode::Merge)
        .await
        .expect("a message");
    assert_invalid(
        update(&server, &session, &message, &half("b"), pb::JsonMode::Merge).await,
        &["metadata_json"],
    );
    let read = get_message(&server, &session, &message).await.expect("a message");
    assert!(read.metadata_json.contains(r#""a""#) && !read.metadata_json.contains(r#""b""#));
    update(&server, &session, &message, &half("b"), pb::JsonMode::Replace)
        .await
        .expect("a message");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_bad_requests_are_told_in_full() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    let other_session = new_session(&server).await;
    let deleted = append(&server, &session, text("x")).await.expect("a receipt");
    delete_message(&server, &session, &deleted.message_id)
        .await
        .expect("a deletion");
    let nowhere = id();
    for (session, message, reason) in [
        (&nowhere, &message, "SESSION_NOT_FOUND"),
        (&session, &nowhere, "MESSAGE_NOT_FOUND"),
        (&other_session, &message, "MESSAGE_NOT_FOUND"),
        (&session, &deleted.message_id, "MESSAGE_NOT_FOUND"),
    ] {
        let code = Code::NotFound;
        assert_refused(get_message(&server, session, message).await, code, reason);
        assert_refused(delete_message(&server, session, message).await, code, reason);
        assert_refused(
            update(&server, session, message, "{}", pb::JsonMode::Merge).await,
            code,
            reason,
        );
    }
    assert_refused(
        clear_messages(&server, &nowhere).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    let ids = ["session_id", "message_id"];
    assert_invalid(get_message(&server, "x", "").await, &ids);
    assert_invalid(delete_message(&server, "", "x").await, &ids);
    assert_invalid(clear_messages(&server, "x").await, &["session_id"]);
    let request = pb::UpdateMessageRequest {
        metadata_json: "[".to_owned(),
        metadata_mode: 9,
        ..Default::default()
    };
    assert_invalid(
        server.messages().update_message(request).await,
        &["session_id", "message_id", "metadata_json", "metadata_mode"],
    );
}

#[tokio::test]
async fn a_deleted_message_leaves_only_its_place() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    let kept = append(&server, &session, text("kept")).await.expect("a receipt");
    delete_message(&server, &session, &message)
        .await
        .expect("a deletion");
    let messages = messages_of(&server, &session).await;
    assert_eq!(seqs(&messages), [2]);
    assert_eq!(messages[0].id, kept.message_id);
    assert_eq!(get_session(&server, &session).await.last_seq, 2);
    let next = append(&server, &session, text("next")).await.expect("a receipt");
    assert_eq!(next.seq, 3);

    let client = database.client().await;
    let row = client
        .query_one(
            "SELECT content, selected_text, metadata::text, payload, deleted_at IS NOT NULL, id::text,
                (SELECT count(*) FROM message_citations)
             FROM messages WHERE seq = 1",
            &[],
        )
        .await
        .expect("the row");
    assert_eq!(row.get::<_, &str>(0), "");
    assert_eq!(row.get::<_, Option<&str>>(1), None);
    assert_eq!(row.get::<_, &str>(2), "{}");
    assert_eq!(row.get::<_, Option<&[u8]>>(3), None);
    assert!(row.get::<_, bool>(4));
    assert_eq!(row.get::<_, &str>(5), message);
    assert_eq!(row.get::<_, i64>(6), 0);
}

#[tokio::test]
async fn clearing_deletes_what_is_there_and_counts_it() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    let other = new_session(&server).await;
    append(&server, &other, text("another session's"))
        .await
        .expect("a receipt");
    append_batch(&server, &session, vec![text("x"); 4], None)
        .await
        .expect("receipts");
    delete_message(&server, &session, &message)
        .await
        .expect("a deletion");
    assert_eq!(clear_messages(&server, &session).await.expect("a count"), 4);
    assert_eq!(clear_messages(&server, &session).await.expect("a count"), 0);
    assert_eq!(messages_of(&server, &session).await, []);
    assert_eq!(messages_of(&server, &other).await.len(), 1);
    assert_eq!(get_session(&server, &session).await.last_seq, 5);
    let next = append(&server, &session, text("next")).await.expect("a receipt");
    assert_eq!(next.seq, 6);
    assert_eq!(seqs(&messages_of(&server, &session).await), [6]);
    let left: i64 = database
        .client()
        .await
        .query_one(
            "SELECT (SELECT count(*) FROM message_citations) + (SELECT count(*) FROM messages
                WHERE deleted_at IS NOT NULL AND (content <> '' OR metadata <> '{}'))",
            &[],
        )
        .await
        .expect("a count")
        .get(0);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_that_meet_all_count() {
    let database = TestDatabase::new().await;
    let (server, session, message) = one_message(&database).await;
    let updates = (0..16).map(|n| {
        let (server, session, message) = (&server, &session, &message);
        async move {
            update(
                server,
                session,
                message,
                &format!(r#"{{"key {n}": {n}}}"#),
                pb::JsonMode::Merge,
            )
            .await
            .expect("a message")
        }
    });
    futures_util::future::join_all(updates).await;
    let read = get_message(&server, &session, &message).await.expect("a message");
    for n in 0..16 {
        assert!(read.metadata_json.contains(&format!(r#""key {n}": {n}"#)));
    }
}
