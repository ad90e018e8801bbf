//! What is deleted with what, looked at in the tables.

use crate::harness::*;

/// How many users, profiles, sessions, messages, citations and documents there are.
async fn counts(database: &TestDatabase) -> [i64; 6] {
    let sql = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM user_profiles),
        (SELECT count(*) FROM chat_sessions), (SELECT count(*) FROM messages),
        (SELECT count(*) FROM message_citations), (SELECT count(*) FROM documents)";
    let row = database.client().await.query_one(sql, &[]).await.expect("counts");
    std::array::from_fn(|n| row.get(n))
}

/// A session of a user with two messages and three citations.
async fn conversation(server: &TestServer, user_id: Option<&str>) -> String {
    let session = new_session_of(server, user_id).await.id;
    let mut question = text("where?");
    question.citations = vec![citation("module-1", "a", 0.1)];
    let mut reply = text("there [1][2]");
    reply.citations = vec![citation("module-1", "b", 0.2), citation("module-2", "c", 0.3)];
    append_batch(server, &session, vec![question, reply], None)
        .await
        .expect("receipts");
    session
}

async fn user_with_profile(server: &TestServer) -> String {
    let request = pb::CreateUserRequest {
        email: format!("{}@example.com", id()),
        profile: Some(pb::Profile::default()),
        ..Default::default()
    };
    answer(server.users().create_user(request).await)
        .user
        .expect("a user")
        .id
}

#[tokio::test]
async fn a_user_takes_profile_sessions_messages_and_citations_along() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::UpsertDocumentRequest {
        document: Some(pb::Document {
            id: "module-1".into(),
            ..Default::default()
        }),
    };
    answer(server.documents().upsert_document(request).await);
    let ada = user_with_profile(&server).await;
    let eve = user_with_profile(&server).await;
    conversation(&server, Some(&ada)).await;
    let deleted_message = conversation(&server, Some(&ada)).await;
    // A message that was emptied is still a row.
    let messages = messages_of(&server, &deleted_message).await;
    let request = pb::DeleteMessageRequest {
        session_id: deleted_message.clone(),
        message_id: messages[0].id.clone(),
    };
    answer(server.messages().delete_message(request).await);
    // What was claimed is the user's as well.
    let claimed = conversation(&server, None).await;
    let request = pb::ClaimSessionsRequest {
        user_id: ada.clone(),
        session_ids: vec![claimed],
        claim_secrets: Vec::new(),
    };
    answer(server.sessions().claim_sessions(request).await);
    let eves = conversation(&server, Some(&eve)).await;
    let nobodys = conversation(&server, None).await;
    assert_eq!(counts(&database).await, [2, 2, 5, 10, 14, 1]);

    answer(
        server
            .users()
            .delete_user(pb::DeleteUserRequest { user_id: ada })
            .await,
    );
    assert_eq!(counts(&database).await, [1, 1, 2, 4, 6, 1]);
    for session in [eves, nobodys] {
        let messages = messages_of(&server, &session).await;
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[1].citations.len(), 2);
    }
}

#[tokio::test]
async fn a_session_takes_messages_and_citations_along() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = user_with_profile(&server).await;
    let gone = conversation(&server, Some(&ada)).await;
    let kept = conversation(&server, Some(&ada)).await;
    let request = pb::DeleteSessionRequest { session_id: gone };
    answer(server.sessions().delete_session(request).await);
    assert_eq!(counts(&database).await, [1, 1, 1, 2, 3, 0]);
    assert_eq!(messages_of(&server, &kept).await.len(), 2);
}

#[tokio::test]
async fn what_is_large_is_deleted_whole_with_its_session_or_its_user() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (ada, eve) = (user_with_profile(&server).await, user_with_profile(&server).await);
    let of_ada = [
        conversation(&server, Some(&ada)).await,
        conversation(&server, Some(&ada)).await,
    ];
    let eves = conversation(&server, Some(&eve)).await;
    let client = database.client().await;
    for session in of_ada.iter().chain([&eves]) {
        let sql = format!(
            "INSERT INTO messages (session_id, role, content) SELECT '{session}', 'user', 'x'
            FROM generate_series(1, 2500)"
        );
        client.batch_execute(&sql).await.expect("messages");
    }
    assert_eq!(counts(&database).await, [2, 2, 3, 7506, 9, 0]);
    let request = pb::DeleteSessionRequest {
        session_id: of_ada[0].clone(),
    };
    answer(server.sessions().delete_session(request).await);
    assert_eq!(counts(&database).await, [2, 2, 2, 5004, 6, 0]);
    let request = pb::DeleteUserRequest { user_id: ada };
    answer(server.users().delete_user(request).await);
    assert_eq!(counts(&database).await, [1, 1, 1, 2502, 3, 0]);
}

#[tokio::test]
async fn every_foreign_key_has_an_index() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    // Some index begins with the key's columns, in whichever order.
    let sql = "SELECT conname::text FROM pg_constraint c WHERE contype = 'f' AND NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL
        AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)";
    let without = client.query(sql, &[]).await.expect("the constraints");
    let names: Vec<String> = without.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, Vec::<String>::new());
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    let row = client.query_one(keys, &[]).await.expect("a count");
    assert!(row.get::<_, i64>(0) >= 4);
}
