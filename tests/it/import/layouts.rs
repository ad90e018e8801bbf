//! Each layout as it is meant to be.

use super::{sources::*, *};

#[tokio::test]
async fn a_rag_uuid_source_arrives_row_by_row() {
    let source = source_of(&rag_uuid(5, 12, 1500)).await;
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(said.contains("counts and checksums agree"), "{said}");

    let (from, to) = (source.client().await, target.client().await);
    assert_same(
        &texts(&to, MESSAGES).await,
        &texts(&from, RAG_UUID_MESSAGES).await,
    );
    assert_in_order(&to).await;
    for sql in [
        "SELECT concat_ws('|', id, email, name, created_at AT TIME ZONE 'UTC') FROM users ORDER BY id",
        "SELECT concat_ws('|', id, user_id, title, metadata, created_at AT TIME ZONE 'UTC', updated_at AT TIME ZONE 'UTC')
            FROM chat_sessions ORDER BY id",
        "SELECT concat_ws('|', id, metadata) FROM messages ORDER BY id",
        "SELECT concat_ws('|', user_id, software_background, experience_level, preferred_language)
            FROM user_profiles ORDER BY user_id",
    ] {
        let plain = sql.replace(" AT TIME ZONE 'UTC'", "");
        assert_same(&texts(&to, sql).await, &texts(&from, &plain).await);
    }
    // What has no column is kept.
    let kept = texts(&to, "SELECT DISTINCT preferences::text FROM user_profiles").await;
    assert_eq!(kept, [r#"{"theme": "dark", "timezone": "Asia/Karachi"}"#]);
}

#[tokio::test]
async fn times_without_an_offset_are_the_source_zones() {
    let source = source_of(&rag_uuid(1, 1, 3)).await;
    let target = TestDatabase::empty().await;
    let mut command = import(&source, &target);
    command.args(["--source-time-zone", "Asia/Karachi"]);
    succeeds(command).await;
    let (from, to) = (source.client().await, target.client().await);
    assert_same(
        &texts(
            &to,
            "SELECT (created_at AT TIME ZONE 'Asia/Karachi')::text FROM messages ORDER BY seq",
        )
        .await,
        &texts(&from, "SELECT created_at::text FROM messages ORDER BY created_at").await,
    );
}

#[tokio::test]
async fn a_jsonb_history_arrives_and_its_users_sign_in() {
    let hash = bcrypt::hash("correct horse", 4).expect("bcrypt");
    let source = source_of(&jsonb_history(3, 8, 100, &hash)).await;
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(said.contains("8 sessions, 800 messages"), "{said}");

    let (from, to) = (source.client().await, target.client().await);
    assert_same(
        &texts(
            &to,
            "SELECT concat_ws('|', u.email, m.seq, m.role, m.content, m.created_at AT TIME ZONE 'UTC')
            FROM messages m JOIN chat_sessions s ON s.id = m.session_id JOIN users u ON u.id = s.user_id
            ORDER BY m.content, m.seq",
        )
        .await,
        &texts(
            &from,
            "SELECT concat_ws('|', u.email, e.n, e.m->>'role', e.m->>'content', rtrim(e.m->>'timestamp', 'Z')::timestamp)
            FROM chat_sessions s JOIN users u ON u.id = s.user_id
                CROSS JOIN jsonb_array_elements(s.history) WITH ORDINALITY e (m, n)
            ORDER BY e.m->>'content', e.n",
        )
        .await,
    );
    assert_in_order(&to).await;
    let versions = texts(&to, "SELECT DISTINCT substr(id::text, 15, 1) FROM messages").await;
    assert_eq!(versions, ["5"]);

    let server = start(&target).await;
    let request = |email: &str, password: &str| pb::VerifyPasswordRequest {
        email: email.to_owned(),
        password: password.to_owned(),
    };
    let mut users = server.users();
    users
        .verify_password(request("U1@example.com", "correct horse"))
        .await
        .expect("signed in");
    users
        .verify_password(request("u1@example.com", "battery"))
        .await
        .expect_err("wrong");
    users
        .verify_password(request("u2@example.com", "correct horse"))
        .await
        .expect_err("inactive");
}

#[tokio::test]
async fn chat_messages_arrive_with_their_documents() {
    let source = source_of(&chat_messages(4, 9, 700)).await;
    let target = TestDatabase::empty().await;
    succeeds(import(&source, &target)).await;
    let (from, to) = (source.client().await, target.client().await);
    assert_same(
        &texts(
            &to,
            "SELECT concat_ws('|', s.title, m.seq, m.role, m.content, m.metadata->'sources'->>0, m.created_at)
            FROM messages m JOIN chat_sessions s ON s.id = m.session_id ORDER BY s.title, m.seq",
        )
        .await,
        &texts(
            &from,
            "SELECT concat_ws('|', s.title, row_number() OVER (PARTITION BY s.id ORDER BY m.created_at, m.id),
                lower(m.role::text), m.content, m.sources->>0, m.created_at)
            FROM chat_messages m JOIN chat_sessions s ON s.id = m.session_id ORDER BY s.title, m.created_at, m.id",
        )
        .await,
    );
    assert_same(
        &texts(
            &to,
            "SELECT concat_ws('|', id, title, source_uri, metadata) FROM documents ORDER BY id",
        )
        .await,
        &texts(
            &from,
            "SELECT concat_ws('|', id, title, source_url, doc_metadata::jsonb) FROM documents ORDER BY id",
        )
        .await,
    );
    assert_in_order(&to).await;
}

#[tokio::test]
async fn two_sources_with_the_same_integers_stay_apart() {
    let hash = "$2b$04$x";
    let (a, b) = (
        source_of(&jsonb_history(2, 2, 3, hash)).await,
        source_of(&jsonb_history(2, 3, 4, hash)).await,
    );
    let target = TestDatabase::empty().await;
    succeeds(import(&a, &target)).await;
    let said = succeeds(import(&b, &target)).await;
    // Their users have the same emails, and so they are the same people.
    assert!(said.contains("another user has this email"), "{said}");
    let to = target.client().await;
    let counts = texts(
        &to,
        "SELECT concat_ws(' ', (SELECT count(*) FROM users), (SELECT count(*) FROM chat_sessions WHERE user_id IS NOT NULL),
            (SELECT count(*) FROM messages))",
    );
    assert_eq!(counts.await, ["2 5 18"]);
}

#[tokio::test]
async fn what_cannot_be_recognized_is_said() {
    let target = TestDatabase::empty().await;
    for (sql, flags, words) in [
        ("CREATE TABLE pets (id int)", "", "it has pets"),
        ("SELECT 1", "", "no tables"),
        (
            "CREATE TABLE messages (id int); CREATE TABLE chat_messages (id int)",
            "",
            "rag-uuid or chat-messages",
        ),
        (
            "CREATE TABLE messages (id int)",
            "--layout rag-uuid",
            "no table chat_sessions",
        ),
        (
            "CREATE TABLE chat_sessions (id int)",
            "--layout jsonb-history",
            "column history",
        ),
    ] {
        let source = source_of(sql).await;
        let mut command = import(&source, &target);
        command.args(flags.split_whitespace());
        let output = output_of(command).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    let source = source_of(&rag_uuid(1, 1, 1)).await;
    let output = output_of(import(&source, &source)).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("the same database"), "{errors}");
}
