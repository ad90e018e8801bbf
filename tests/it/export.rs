//! `chatledger export`, and the way back.

use std::process::Command;

use chatledger::migrations::Scope;

use crate::{
    harness::{process::chatledger, *},
    import::{assert_same, import, output_of, source_of, sources, succeeds, texts},
};

fn export(database: &TestDatabase, flags: &[&str]) -> Command {
    let mut command = chatledger();
    command
        .args(["export", "--database-url", &database.url()])
        .args(flags);
    command
}

/// A database with everything that an export can meet.
async fn filled() -> TestDatabase {
    let source = source_of(&sources::rag_uuid(3, 6, 300)).await;
    let database = TestDatabase::empty().await;
    succeeds(import(&source, &database)).await;
    let client = database.client().await;
    client
        .batch_execute(
            "INSERT INTO documents (id, title, metadata) VALUES ('module-1', 'ROS 2', '{\"n\": 9007199254740993}'), ('B', '', '{}');
            UPDATE users SET hashed_password = '$2b$04$abc', external_id = 'auth0|1' WHERE email LIKE 'User1@%';
            UPDATE messages SET payload = '\\x00ff10' WHERE content LIKE 'Message 7 %';
            INSERT INTO chat_sessions (title, claim_hash) VALUES (E'nobody''s \"session\"\\n2', sha256('a secret'));",
        )
        .await
        .expect("more");
    let server = start(&database).await;
    let session = texts(
        &client,
        "SELECT id::text FROM chat_sessions WHERE user_id IS NULL",
    )
    .await
    .remove(0);
    let shared = texts(&client, "SELECT id::text FROM messages LIMIT 1")
        .await
        .remove(0);
    // The same message id as in another session, and a deleted message.
    for (id, content) in [
        (shared, "shared"),
        (uuid::Uuid::now_v7().to_string(), "secret"),
        (uuid::Uuid::now_v7().to_string(), "last"),
    ] {
        let request = pb::AppendMessageRequest {
            session_id: session.clone(),
            message: Some(pb::NewMessage {
                message_id: Some(id.clone()),
                role: pb::Role::Tool.into(),
                content: content.to_owned(),
                ..Default::default()
            }),
        };
        server.messages().append_message(request).await.expect("appended");
        if content == "secret" {
            let request = pb::DeleteMessageRequest {
                session_id: session.clone(),
                message_id: id,
            };
            server.messages().delete_message(request).await.expect("deleted");
        }
    }
    database
}

#[tokio::test]
async fn an_export_that_is_imported_exports_the_same_lines() {
    let first = filled().await;
    let lines = succeeds(export(&first, &["--all", "--password-hashes"])).await;
    let claim_hash = "984ca5162200734c592148f1820b71057f098573d138666b48663e4e30cd8d3a";
    assert!(lines.contains(claim_hash), "{lines}");
    let bare = succeeds(export(&first, &["--all"])).await;
    assert!(
        !bare.contains(claim_hash) && !bare.contains("$2b$"),
        "hashes that nobody has asked for"
    );
    assert!(lines.contains("$2b$04$abc") && !lines.contains("secret") && lines.contains("9007199254740993"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("all.jsonl");
    std::fs::write(&file, &lines).expect("a file");

    let second = TestDatabase::empty().await;
    let mut command = chatledger();
    command
        .args(["import", "--database-url", &second.url(), "--from"])
        .arg(&file);
    let said = succeeds(command).await;
    assert!(said.contains("counts and checksums agree"), "{said}");
    let again = succeeds(export(&second, &["--all", "--password-hashes"])).await;
    let split = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_same(&split(&again), &split(&lines));

    // From database to database, it is the same.
    let third = TestDatabase::empty().await;
    succeeds(import(&first, &third)).await;
    let again = succeeds(export(&third, &["--all", "--password-hashes"])).await;
    assert_same(&split(&again), &split(&lines));
}

#[tokio::test]
async fn a_message_that_differs_in_any_part_of_its_identity_is_no_repetition() {
    let first = filled().await;
    let plain = "UPDATE messages SET selected_text = NULL WHERE content LIKE 'Message 7 %'";
    first.client().await.batch_execute(plain).await.expect("a change");
    let second = TestDatabase::empty().await;
    succeeds(import(&first, &second)).await;
    let client = second.client().await;
    for (change, back) in [
        ("payload = '\\xff'", "payload = '\\x00ff10'"),
        ("payload = NULL", "payload = '\\x00ff10'"),
        ("selected_text = 'another'", "selected_text = NULL"),
        ("selected_text = ''", "selected_text = NULL"),
    ] {
        let set = |change| format!("UPDATE messages SET {change} WHERE content LIKE 'Message 7 %'");
        client.batch_execute(&set(change)).await.expect("a change");
        let output = output_of(import(&first, &second)).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{change}: {said}");
        let is_told = said.contains("conflict: 1 messages") && said.contains("1 sessions differ");
        assert!(is_told, "{change}: {said}");
        client.batch_execute(&set(back)).await.expect("a change");
    }
}

#[tokio::test]
async fn a_users_data_is_the_users_only() {
    let database = filled().await;
    let client = database.client().await;
    let user = texts(&client, "SELECT id::text FROM users WHERE email LIKE 'User1@%'")
        .await
        .remove(0);
    let lines = succeeds(export(&database, &["--user", &user])).await;
    let types = |kind: &str| {
        lines
            .lines()
            .filter(|line| line.starts_with(&format!("{{\"type\":\"{kind}\"")))
            .count()
    };
    let expected = texts(
        &client,
        &format!(
            "SELECT count(*)::text FROM messages m JOIN chat_sessions s ON s.id = m.session_id WHERE s.user_id = '{user}'"
        ),
    )
    .await;
    assert_eq!(
        (
            types("user"),
            types("profile"),
            types("session"),
            types("document")
        ),
        (1, 1, 2, 0)
    );
    assert_eq!(types("message").to_string(), expected[0]);
    assert!(!lines.contains("$2b$"), "a hash that nobody has asked for");
    assert!(!lines.contains("User2@"));

    let session = texts(&client, "SELECT id::text FROM chat_sessions LIMIT 1")
        .await
        .remove(0);
    let lines = succeeds(export(&database, &["--session", &session])).await;
    assert!(
        lines
            .lines()
            .skip(1)
            .all(|line| line.contains(&session) && line.contains("\"type\":\"message\""))
    );

    let output = output_of(export(&database, &["--session", &uuid::Uuid::nil().to_string()])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no such session"));
}

#[tokio::test]
async fn each_tenant_is_exported_by_itself() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let rows = "INSERT INTO users (tenant_id, email) VALUES ('acme', 'ada@acme.example'), ('default', 'ada@example.com');
        INSERT INTO chat_sessions (tenant_id, id, title) VALUES ('acme', '5e5510aa-0000-4000-8000-000000000001', 'ours')";
    client.batch_execute(rows).await.expect("rows");
    let ours = succeeds(export(&database, &["--all", "--tenant", "acme"])).await;
    assert!(ours.contains("ada@acme.example") && ours.contains("ours") && !ours.contains("ada@example.com"));
    let theirs = succeeds(export(&database, &["--all"])).await;
    assert!(theirs.contains("ada@example.com") && !theirs.contains("acme") && !theirs.contains("ours"));
    let none = succeeds(export(&database, &["--all", "--tenant", "o'hara\\"])).await;
    assert_eq!(none, "");
}

#[tokio::test]
async fn lines_that_are_no_records_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = TestDatabase::empty().await;
    for (text, words) in [
        ("{\"type\":\"pet\"}\n", "line 1: unknown variant `pet`"),
        ("\n{\"type\":\"user\"}\n", "line 2: missing field `id`"),
        ("{\"type\":\"session\",\"id\":", "line 1: EOF"),
    ] {
        let file = dir.path().join("lines.jsonl");
        std::fs::write(&file, text).expect("a file");
        let mut command = chatledger();
        command
            .args(["import", "--database-url", &target.url(), "--from"])
            .arg(&file);
        let output = output_of(command).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
}

#[tokio::test]
async fn what_a_scope_does_not_have_is_not_missed() {
    for (scope, name, insert, types) in [
        (
            Scope::Chat,
            "chat",
            "INSERT INTO chat_sessions (title) VALUES ('one'); INSERT INTO documents (id) VALUES ('d')",
            ["document", "session"].as_slice(),
        ),
        (
            Scope::Auth,
            "auth",
            "INSERT INTO users (email) VALUES ('ada@example.com')",
            &["user"],
        ),
    ] {
        let database = TestDatabase::empty().await;
        database.migrate(scope).await;
        let client = database.client().await;
        client.batch_execute(insert).await.expect("rows");
        let lines = succeeds(export(&database, &["--all"])).await;
        let found: Vec<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| line["type"].as_str().expect("a type").to_owned())
            .collect();
        assert_eq!(found, types);
        let target = TestDatabase::empty().await;
        let mut command = import(&database, &target);
        command.args(["--scope", name]);
        succeeds(command).await;
        assert_eq!(succeeds(export(&target, &["--all"])).await, lines);
    }
}
