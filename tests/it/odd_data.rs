//! Data that is ordinary, or that others wrote by hand, and that no answer may be INTERNAL for.

use tonic::Code;

use crate::{
    adopt::adopt,
    harness::*,
    import::{import, source_of, sources, succeeds, texts},
};

#[tokio::test]
async fn no_query_is_an_internal_error() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    append(&server, &session, text("a robot"))
        .await
        .expect("a receipt");
    let queries = [
        "-".repeat(40),
        "- ".repeat(400),
        "-a ".repeat(500),
        "a or ".repeat(800),
        "\"".to_owned(),
        "\\".repeat(33),
        "' | & ! ( ) <-> :* ".repeat(20),
        "x".repeat(4000),
        "\"a b\" ".repeat(600),
        "or".to_owned(),
        "\u{1F916} \u{200B}".to_owned(),
    ];
    for query in queries {
        let request = pb::SearchMessagesRequest {
            session_id: Some(session.clone()),
            query: query.clone(),
            ..Default::default()
        };
        if let Err(status) = server.messages().search_messages(request).await {
            let refusal = refusal_of(&status);
            assert_eq!(refusal.reason, "INVALID_FIELD", "{query}: {status:?}");
        }
    }
}

#[tokio::test]
async fn scores_beyond_1e100_are_refused_and_reports_survive_those_in_the_tables() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for score in [1.1e100, -1e200, f64::NAN, f64::INFINITY] {
        let cited = pb::NewMessage {
            citations: vec![citation("d", "c", score)],
            ..text("x")
        };
        assert_invalid(
            append(&server, &session, cited).await,
            &["message.citations[0].score"],
        );
    }
    let cited = pb::NewMessage {
        citations: vec![citation("d", "c", 0.5), citation("e", "c", 1e100)],
        ..text("x")
    };
    append(&server, &session, cited).await.expect("a receipt");
    let sql = "INSERT INTO message_citations (message_id, document_id, chunk_id, score, citation_index)
        SELECT m.id, 'd', 'c', score, 10 + n FROM messages m,
            unnest(ARRAY[1e200, -1e200, 'NaN', 'Infinity', '-Infinity', NULL]::float8[]) WITH ORDINALITY AS s (score, n)";
    database
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect("citations");
    let top = answer(
        server
            .analytics()
            .list_top_documents(pb::ListTopDocumentsRequest {
                since: None,
                limit: 10,
            })
            .await,
    );
    assert_eq!(top.documents[0].document_id, "d");
    assert_eq!(
        (top.documents[0].citation_count, top.documents[0].mean_score),
        (7, 0.5)
    );
    assert_eq!(messages_of(&server, &session).await[0].citations.len(), 8);
}

#[tokio::test]
async fn times_and_counters_by_hand_end_no_list_and_no_report() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let hand = database.client().await;
    for time in [
        "infinity",
        "-infinity",
        "294276-12-31 23:59:59+00",
        "4713-01-02 00:00:00+00 BC",
    ] {
        let user = new_user(&server).await.id;
        let session = new_session_of(&server, Some(&user)).await.id;
        append(&server, &session, text("x")).await.expect("a receipt");
        let sql = format!(
            "UPDATE users SET created_at = '{time}', updated_at = '{time}' WHERE id = '{user}';
            UPDATE chat_sessions SET created_at = '{time}', updated_at = '{time}', last_message_at = '{time}',
                last_seq = 9223372036854775807 WHERE id = '{session}';
            UPDATE messages SET created_at = '{time}' WHERE session_id = '{session}';
            INSERT INTO documents (id, title, created_at, updated_at) VALUES ('{session}', 'd', '{time}', '{time}')"
        );
        hand.batch_execute(&sql).await.expect("odd times");
        messages_of(&server, &session).await;
        get_session(&server, &session).await;
        let owner = Some(pb::list_sessions_request::Owner::UserId(user.clone()));
        let request = pb::ListSessionsRequest {
            owner,
            page_size: 1,
            ..Default::default()
        };
        answer(server.sessions().list_sessions(request).await);
        // The counter has no room for another message, which is this session's trouble only.
        assert_refused(
            append(&server, &session, text("y")).await,
            Code::FailedPrecondition,
            "DATABASE_REFUSED",
        );
        append(&server, &new_session(&server).await, text("y"))
            .await
            .expect("a receipt");
    }
    answer(server.users().list_users(pb::ListUsersRequest::default()).await);
    answer(
        server
            .documents()
            .list_documents(pb::ListDocumentsRequest::default())
            .await,
    );
    answer(
        server
            .analytics()
            .list_daily_volume(pb::ListDailyVolumeRequest::default())
            .await,
    );
    answer(
        server
            .analytics()
            .list_user_activity(pb::ListUserActivityRequest::default())
            .await,
    );
    let lengths = pb::GetSessionLengthDistributionRequest::default();
    answer(server.analytics().get_session_length_distribution(lengths).await);
}

#[tokio::test]
async fn emails_that_only_look_alike_are_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for odd in [
        "\u{200B}",
        "\u{AD}",
        "\u{202E}",
        "\u{FEFF}",
        "\u{2060}",
        "\u{E0041}",
        "\u{3164}",
    ] {
        let request = pb::CreateUserRequest {
            email: format!("ada{odd}@example.com"),
            ..Default::default()
        };
        assert_invalid(server.users().create_user(request).await, &["email"]);
    }
}

const PEOPLE: &str = "ALTER TABLE users ADD is_active text;
    UPDATE users SET is_active = (ARRAY['f', 'no', '0', 'False', 'off', 'true', '1', 'Yes'])[substring(email from '\\d+')::int]";
/// Of the eight above, by number.
const ACTIVE: [&str; 8] = ["f", "f", "f", "f", "f", "t", "t", "t"];
const WHO: &str = "SELECT left(is_active::text, 1) FROM users ORDER BY substring(email from '\\d+')::int";

#[tokio::test]
async fn an_import_lets_nobody_in_who_was_not() {
    let source = source_of(&sources::rag_uuid(8, 1, 1)).await;
    let client = source.client().await;
    client.batch_execute(PEOPLE).await.expect("people");
    let target = TestDatabase::new().await;
    succeeds(import(&source, &target)).await;
    assert_eq!(texts(&target.client().await, WHO).await, ACTIVE);

    client
        .batch_execute("UPDATE users SET is_active = 'suspended'")
        .await
        .expect("a word");
    let target = TestDatabase::new().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(said.contains("there is no place for is_active"), "{said}");
    assert_eq!(texts(&target.client().await, WHO).await, ["f"; 8]);

    let numbers = "ALTER TABLE users ALTER is_active TYPE smallint USING 0";
    client.batch_execute(numbers).await.expect("numbers");
    let target = TestDatabase::new().await;
    succeeds(import(&source, &target)).await;
    assert_eq!(texts(&target.client().await, WHO).await, ["f"; 8]);
}

#[tokio::test]
async fn adopting_changes_neither_null_json_nor_who_is_active() {
    let database = source_of(&sources::rag_uuid(8, 8, 20)).await;
    let client = database.client().await;
    let nulls = "UPDATE chat_sessions SET metadata = NULL; UPDATE messages SET metadata = NULL;
        UPDATE user_profiles SET preferences = NULL;
        UPDATE chat_sessions SET metadata = 'null' WHERE id = (SELECT id FROM chat_sessions LIMIT 1)";
    client.batch_execute(nulls).await.expect("nulls");
    client.batch_execute(PEOPLE).await.expect("people");
    succeeds(adopt(&database)).await;
    assert_eq!(texts(&client, WHO).await, ACTIVE);
    for column in [
        "chat_sessions.metadata",
        "messages.metadata",
        "user_profiles.preferences",
    ] {
        let (table, name) = column.split_once('.').expect("a column");
        let found = texts(&client, &format!("SELECT DISTINCT {name}::text FROM {table}")).await;
        // The profile has a column that has no place of its own.
        let empty = if name == "preferences" {
            r#"{"timezone": "Asia/Karachi"}"#
        } else {
            "{}"
        };
        assert_eq!(found, [empty], "{column}");
    }
}

#[tokio::test]
async fn a_server_with_nothing_to_migrate_waits_for_nobody() {
    let database = TestDatabase::new().await;
    let holder = database.client().await;
    let lock = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({})",
        i64::from_be_bytes(*b"chatledg")
    );
    holder.batch_execute(&lock).await.expect("the lock");
    database.migrate(chatledger::migrations::Scope::All).await;
    holder.batch_execute("COMMIT").await.expect("held until now");
}
