//! Queries and updates that people already run on tables of these names.

use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::harness::*;

fn uuid(text: &str) -> Uuid {
    text.parse().expect("a UUID")
}

async fn strings(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

fn cited(content: &str, documents: &[&str]) -> pb::NewMessage {
    pb::NewMessage {
        role: pb::Role::Assistant.into(),
        citations: documents.iter().map(|d| citation(d, "c", 0.5)).collect(),
        ..text(content)
    }
}

#[tokio::test]
async fn a_conversation_with_its_citations_aggregated() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for message in [
        text("a question"),
        cited("an answer", &["module-1", "module-2"]),
        text("thanks"),
    ] {
        append(&server, &session, message).await.expect("a receipt");
    }
    append(&server, &new_session(&server).await, text("elsewhere"))
        .await
        .expect("a receipt");
    let client = database.client().await;
    let rows = client
        .query(
            "SELECT m.id, m.role, m.content, m.created_at,
                (json_agg(mc.document_id) FILTER (WHERE mc.id IS NOT NULL))::text as cited_docs
             FROM messages m
             LEFT JOIN message_citations mc ON m.id = mc.message_id
             WHERE m.session_id = $1
             GROUP BY m.id
             ORDER BY m.created_at ASC",
            &[&uuid(&session)],
        )
        .await
        .expect("rows");
    let messages = messages_of(&server, &session).await;
    assert_eq!(rows.len(), 3);
    for (row, message) in rows.iter().zip(&messages) {
        assert_eq!(row.get::<_, Uuid>(0).to_string(), message.id);
        assert_eq!(row.get::<_, &str>(2), message.content);
    }
    let roles: Vec<&str> = rows.iter().map(|row| row.get(1)).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    let documents: Vec<Option<Value>> = rows
        .iter()
        .map(|row| {
            let text: Option<&str> = row.get(4);
            text.map(|text| serde_json::from_str(text).expect("JSON"))
        })
        .collect();
    assert_eq!(documents, [None, Some(json!(["module-1", "module-2"])), None]);
}

#[tokio::test]
async fn recent_sessions_with_message_counts_and_last_message_time() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user = new_user(&server).await.id;
    let mut sessions = Vec::new();
    for count in [1, 3, 2] {
        let session = new_session_of(&server, Some(&user)).await.id;
        for _ in 0..count {
            append(&server, &session, text("x")).await.expect("a receipt");
        }
        sessions.push((session, count));
    }
    let empty = new_session_of(&server, Some(&user)).await.id;
    append(&server, &sessions[0].0, text("newest"))
        .await
        .expect("a receipt");
    sessions[0].1 = 2;
    let client = database.client().await;
    let rows = client
        .query(
            "SELECT s.id, s.title, s.created_at, COUNT(m.id) AS message_count,
                MAX(m.created_at) AS last_message_at
             FROM chat_sessions s
             LEFT JOIN messages m ON s.id = m.session_id
             WHERE s.user_id = $1
             GROUP BY s.id
             ORDER BY last_message_at DESC NULLS LAST
             LIMIT 10",
            &[&uuid(&user)],
        )
        .await
        .expect("rows");
    let found: Vec<(String, i64)> = rows
        .iter()
        .map(|row| (row.get::<_, Uuid>(0).to_string(), row.get(3)))
        .collect();
    let [first, second, third] = sessions.try_into().expect("three sessions");
    assert_eq!(found, [first, third, second, (empty, 0)]);
    for row in &rows {
        let session = get_session(&server, &row.get::<_, Uuid>(0).to_string()).await;
        let last: Option<jiff::Timestamp> = row.get(4);
        assert_eq!(
            last.map(jiff::Timestamp::as_microsecond),
            session.last_message_time.map(|time| micros(Some(&time)))
        );
    }
}

#[tokio::test]
async fn most_cited_documents_of_30_days() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for documents in [&["a", "b"][..], &["a", "c"], &["a", "b"]] {
        append(&server, &session, cited("x", documents))
            .await
            .expect("a receipt");
    }
    let old = pb::NewMessage {
        create_time: Some(prost_types::Timestamp {
            seconds: 1_600_000_000,
            nanos: 0,
        }),
        ..cited("old", &["old", "a"])
    };
    append(&server, &session, old).await.expect("a receipt");
    let client = database.client().await;
    let rows = client
        .query(
            "SELECT mc.document_id, COUNT(*) AS citation_count, AVG(mc.score) AS avg_score
             FROM message_citations mc
             JOIN messages m ON mc.message_id = m.id
             WHERE m.created_at >= NOW() - INTERVAL '30 days'
             GROUP BY mc.document_id
             ORDER BY citation_count DESC, mc.document_id
             LIMIT 20",
            &[],
        )
        .await
        .expect("rows");
    let found: Vec<(&str, i64, f64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(found, [("a", 3, 0.5), ("b", 2, 0.5), ("c", 1, 0.5)]);
    // The citations' own time tells the same.
    let recent = strings(
        &client,
        "SELECT DISTINCT document_id FROM message_citations
         WHERE created_at > NOW() - INTERVAL '30 days' ORDER BY document_id",
    )
    .await;
    assert_eq!(recent, ["a", "b", "c"]);
}

#[tokio::test]
async fn metadata_is_merged_and_searched_by_hand() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (session, other) = (new_session(&server).await, new_session(&server).await);
    let receipt = append(&server, &session, text("x")).await.expect("a receipt");
    append(&server, &other, text("y")).await.expect("a receipt");
    let client = database.client().await;
    let changed = client
        .execute(
            r#"UPDATE chat_sessions SET metadata = metadata || '{"personalized": true, "chapter": "module-1"}'::jsonb WHERE id = $1"#,
            &[&uuid(&session)],
        )
        .await
        .expect("an update");
    assert_eq!(changed, 1);
    for update in [
        r#"UPDATE messages SET metadata = metadata || '{"translated_to": "ur", "tokens": 1250}'::jsonb WHERE id = $1"#,
        r#"UPDATE messages SET metadata = metadata || '{"tokens": 1300}'::jsonb WHERE id = $1"#,
    ] {
        let changed = client
            .execute(update, &[&uuid(&receipt.message_id)])
            .await
            .expect("an update");
        assert_eq!(changed, 1);
    }
    let stored = get_session(&server, &session).await;
    assert_eq!(
        stored.metadata_json,
        r#"{"chapter": "module-1", "personalized": true}"#
    );
    let message = get_message(&server, &session, &receipt.message_id)
        .await
        .expect("a message");
    assert_eq!(
        message.metadata_json,
        r#"{"tokens": 1300, "translated_to": "ur"}"#
    );
    let found = strings(
        &client,
        r#"SELECT id::text FROM chat_sessions WHERE metadata @> '{"chapter": "module-1"}'"#,
    )
    .await;
    assert_eq!(found, [session]);
    let found = strings(
        &client,
        r#"SELECT id::text FROM messages WHERE metadata @> '{"translated_to": "ur"}'::jsonb"#,
    )
    .await;
    assert_eq!(found, [receipt.message_id]);
    let found = strings(
        &client,
        "SELECT content FROM messages WHERE metadata->>'tokens' = '1300'",
    )
    .await;
    assert_eq!(found, ["x"]);
}

#[tokio::test]
async fn preferences_are_asked_for_an_interest() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut emails = Vec::new();
    for interests in [r#"["robotics", "vision"]"#, r#"["vision"]"#, "[]"] {
        let email = format!("{}@example.com", id());
        let request = pb::CreateUserRequest {
            email: email.clone(),
            profile: Some(pb::Profile {
                preferences_json: format!(r#"{{"interests": {interests}}}"#),
                ..Default::default()
            }),
            ..Default::default()
        };
        server.users().create_user(request).await.expect("a user");
        emails.push(email);
    }
    new_user(&server).await;
    let client = database.client().await;
    let found = strings(
        &client,
        "SELECT u.email FROM users u JOIN user_profiles p ON u.id = p.user_id
         WHERE p.preferences->'interests' ? 'robotics'",
    )
    .await;
    assert_eq!(found, emails[..1]);
}

#[tokio::test]
async fn content_is_searched_by_full_text() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for content in ["Robots use DDS", "A robot arm", "Something else"] {
        append(&server, &session, text(content)).await.expect("a receipt");
    }
    let client = database.client().await;
    let found = strings(
        &client,
        "SELECT content FROM messages
         WHERE to_tsvector('english', content) @@ plainto_tsquery('english', 'robot')
         ORDER BY ts_rank(to_tsvector('english', content), plainto_tsquery('english', 'robot')) DESC, created_at",
    )
    .await;
    assert_eq!(found, ["Robots use DDS", "A robot arm"]);
}

#[tokio::test]
async fn nothing_is_orphaned_when_sessions_and_messages_are_deleted_by_hand() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (session, other) = (new_session(&server).await, new_session(&server).await);
    for session in [&session, &other] {
        append(&server, session, cited("x", &["a", "b"]))
            .await
            .expect("a receipt");
    }
    let client = database.client().await;
    client
        .execute("DELETE FROM chat_sessions WHERE id = $1", &[&uuid(&session)])
        .await
        .expect("a deletion");
    let orphans = "SELECT m.content FROM messages m
        LEFT JOIN chat_sessions s ON m.session_id = s.id
        WHERE s.id IS NULL";
    assert_eq!(strings(&client, orphans).await, [""; 0]);
    let left = "SELECT document_id FROM message_citations ORDER BY citation_index";
    assert_eq!(strings(&client, left).await, ["a", "b"]);
    client
        .execute("DELETE FROM messages WHERE session_id = $1", &[&uuid(&other)])
        .await
        .expect("a deletion");
    assert_eq!(strings(&client, left).await, [""; 0]);
    // Its seq isn't given again.
    let next = append(&server, &other, text("next")).await.expect("a receipt");
    assert_eq!(next.seq, 2);
}

#[tokio::test]
async fn other_tables_may_refer_to_messages_by_their_id() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let receipt = append(&server, &session, text("x")).await.expect("a receipt");
    let client = database.client().await;
    client
        .batch_execute(
            "CREATE TABLE feedback (message_id uuid REFERENCES messages (id) ON DELETE CASCADE, stars int);
             ALTER TABLE messages ADD COLUMN flagged boolean DEFAULT FALSE;
             CREATE INDEX idx_messages_flagged ON messages (flagged);",
        )
        .await
        .expect("a table");
    client
        .execute(
            "INSERT INTO feedback VALUES ($1, 5)",
            &[&uuid(&receipt.message_id)],
        )
        .await
        .expect("an insert");
    // The service goes on with tables that have more columns than it knows of.
    let next = append(&server, &session, cited("y", &["a"]))
        .await
        .expect("a receipt");
    assert_eq!(next.seq, 2);
    add_citations(&server, &session, &next.message_id, vec![citation("b", "", 0.5)])
        .await
        .expect("citations");
    delete_message(&server, &session, &receipt.message_id)
        .await
        .expect("a deletion");
    assert_eq!(messages_of(&server, &session).await.len(), 1);
    let request = pb::DeleteSessionRequest {
        session_id: session.clone(),
    };
    server
        .sessions()
        .delete_session(request)
        .await
        .expect("a deletion");
    let left: i64 = client
        .query_one("SELECT count(*) FROM feedback", &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(left, 0);
}
