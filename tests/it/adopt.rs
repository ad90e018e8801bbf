//! `chatledger migrate adopt`: tables that become ours where they are.

use std::process::Command;

use chatledger::migrations::Scope;

use crate::{
    harness::{
        process::{ServerProcess, chatledger},
        *,
    },
    import::{MESSAGES, assert_in_order, assert_same, output_of, source_of, sources, succeeds, texts},
};

/// `chatledger migrate adopt` over a database.
pub fn adopt(database: &TestDatabase) -> Command {
    let mut command = chatledger();
    command.args(["migrate", "adopt", "--database-url", &database.url()]);
    command
}

#[tokio::test]
async fn tables_become_ours_where_they_are() {
    let database = source_of(&sources::rag_uuid(3, 7, 900)).await;
    let client = database.client().await;
    let before = texts(&client, sources::RAG_UUID_MESSAGES).await;
    let said = succeeds(adopt(&database)).await;
    assert!(said.contains("before_chatledger"), "{said}");

    assert_same(&texts(&client, MESSAGES).await, &before);
    assert_in_order(&client).await;
    assert_eq!(
        texts(&client, "SELECT count(*)::text FROM before_chatledger.messages").await,
        ["900"]
    );
    let sessions = "SELECT concat_ws('|', id, user_id, title, metadata, created_at AT TIME ZONE 'UTC', updated_at AT TIME ZONE 'UTC')
        FROM chat_sessions ORDER BY id";
    let old = sessions
        .replace(" AT TIME ZONE 'UTC'", "")
        .replace("chat_sessions", "before_chatledger.chat_sessions");
    assert_same(&texts(&client, sessions).await, &texts(&client, &old).await);

    // It is a database like any other: a server migrates nothing, and appends.
    database.migrate(Scope::All).await;
    let server = start(&database).await;
    let session = texts(&client, "SELECT id::text FROM chat_sessions ORDER BY id LIMIT 1")
        .await
        .remove(0);
    let last = messages_of(&server, &session).await.len();
    let receipt = append(&server, &session, text("next")).await.expect("a receipt");
    assert_eq!(usize::try_from(receipt.seq).expect("a seq"), last + 1);

    let output = output_of(adopt(&database)).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("chatledger's already"));
}

#[tokio::test]
async fn what_does_not_fit_changes_nothing() {
    for (sql, words) in [
        (
            "CREATE TABLE orders (id int, user_id uuid CONSTRAINT orders_user REFERENCES users (id))",
            "orders_user of orders",
        ),
        ("CREATE VIEW recent AS SELECT * FROM messages", "view recent"),
        (
            "UPDATE users SET email = 'user1@EXAMPLE.com' WHERE email LIKE 'User2@%'",
            "users_email_key\" (SQLSTATE 23505): Key (tenant_id, lower(email))=(default, user1@example.com)",
        ),
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_session_id_fkey;
            UPDATE messages SET session_id = gen_random_uuid() WHERE id = md5('message3')::uuid",
            "messages has 50 rows, of which 49 fit",
        ),
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_role_check; UPDATE messages SET role = 'narrator' WHERE id = md5('message3')::uuid",
            "messages_role_check",
        ),
    ] {
        let database = source_of(&sources::rag_uuid(2, 3, 50)).await;
        let client = database.client().await;
        client.batch_execute(sql).await.expect("a change");
        let state = "SELECT format('%s.%s', c.relnamespace::regnamespace, c.relname) FROM pg_class c
            WHERE c.relnamespace::regnamespace::text !~ '^pg_|information_schema' ORDER BY 1";
        let before = texts(&client, state).await;
        let output = output_of(adopt(&database)).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains(words) && errors.contains("nothing was changed"),
            "{words}: {errors}"
        );
        assert_same(&texts(&client, state).await, &before);
    }
}

#[tokio::test]
async fn a_part_of_the_tables_can_be_adopted() {
    let database = source_of(&sources::rag_uuid(2, 3, 60)).await;
    let client = database.client().await;
    client
        .batch_execute(
            "ALTER TABLE messages ADD COLUMN user_id uuid, ADD COLUMN extra jsonb;
            ALTER TABLE message_citations ADD COLUMN snippet text;
            UPDATE messages SET user_id = md5('user1')::uuid, extra = '{\"a\": null}' WHERE id = md5('message3')::uuid",
        )
        .await
        .expect("more columns");
    let before = texts(&client, sources::RAG_UUID_MESSAGES).await;
    let owners = "SELECT concat_ws('|', id, user_id) FROM chat_sessions ORDER BY id";
    let owners_before = texts(&client, owners).await;
    let mut command = adopt(&database);
    command.args(["--scope", "chat", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&succeeds(command).await).expect("JSON");
    assert_eq!(
        said,
        serde_json::json!({
            "rows": {"chat_sessions": 3, "messages": 60, "message_citations": 30},
            "left_behind": ["message_citations.snippet"]
        })
    );
    assert_same(&texts(&client, MESSAGES).await, &before);
    // The application's users stay where they are, and the sessions theirs.
    assert_same(&texts(&client, owners).await, &owners_before);
    assert_eq!(
        texts(&client, "SELECT count(*)::text FROM public.users").await,
        ["2"]
    );
    let kept = "SELECT metadata::text FROM messages WHERE metadata ? 'extra'";
    let user = texts(&client, "SELECT md5('user1')::uuid::text").await.remove(0);
    assert_eq!(
        texts(&client, kept).await,
        [format!(
            r#"{{"extra": {{"a": null}}, "tokens": 3, "user_id": "{user}"}}"#
        )]
    );
    database.migrate(Scope::Chat).await;
}

#[tokio::test]
async fn a_server_that_met_the_old_tables_before_is_no_hindrance() {
    let database = source_of(&sources::rag_uuid(1, 1, 6)).await;
    let client = database.client().await;
    client
        .batch_execute(
            "ALTER TABLE messages DROP CONSTRAINT messages_role_check;
            UPDATE messages SET role = 'MessageRole.BOT' WHERE role = 'assistant'",
        )
        .await
        .expect("another name of a role");
    let mut up = chatledger();
    up.args(["migrate", "up", "--database-url", &database.url()]);
    let output = output_of(up).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("`migrate adopt`"), "{errors}");
    succeeds(adopt(&database)).await;
    let roles = texts(&client, "SELECT DISTINCT role FROM messages ORDER BY role").await;
    assert_eq!(roles, ["assistant", "user"]);
}

#[tokio::test]
async fn it_makes_way_for_others_until_it_gets_the_tables() {
    let database = source_of(&sources::rag_uuid(1, 1, 5)).await;
    let reader = database.client().await;
    reader
        .batch_execute("BEGIN; SELECT FROM messages")
        .await
        .expect("a long transaction");
    let mut command = adopt(&database);
    command.args(["--lock-timeout", "50ms"]);
    let mut process = ServerProcess::start(&mut command);
    process.says("again in").await;
    reader.batch_execute("COMMIT").await.expect("its end");
    assert!(process.ended().await.success(), "{}", process.stderr());
}
