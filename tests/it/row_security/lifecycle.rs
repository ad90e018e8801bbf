//! The set there and back, and the server beside it.

use chatledger::migrations::Scope;

use super::{app, ask_for, count, filled, install, mallory, migrate};
use crate::harness::{process::chatledger, *};

#[tokio::test]
async fn the_server_is_subject_to_none_of_it() {
    let database = filled().await;
    let server = start(&database).await;
    let user = new_user(&server).await;
    let session = new_session_of(&server, Some(&user.id)).await.id;
    append(&server, &session, text("one")).await.expect("a receipt");
    let list = pb::ListMessagesRequest {
        session_id: session,
        ..Default::default()
    };
    assert_eq!(
        answer(server.messages().list_messages(list).await).messages.len(),
        1
    );
    let client = app(&database).await;
    ask_for(&client, "default", &user.id).await;
    assert_eq!(count(&client, "messages").await, 1);
    server.stop().await;
}

#[tokio::test]
async fn it_is_taken_back_without_a_loss_and_verify_tells_what_is_missing() {
    let database = filled().await;
    let owner = database.client().await;
    let (ok, said) = migrate(&database, &["verify"]);
    assert!(ok, "{said}");
    for (break_it, words) in [
        (
            "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
            "row-level security of messages: is missing",
        ),
        (
            "DROP POLICY chatledger_all ON chat_sessions",
            "policy chat_sessions.chatledger_all: is missing",
        ),
        (
            "ALTER POLICY chatledger_read ON users USING (true)",
            "policy users.chatledger_read: is different",
        ),
    ] {
        owner.batch_execute(break_it).await.expect("a change");
        let (ok, said) = migrate(&database, &["verify"]);
        assert!(!ok && said.contains(words), "{said}");
    }
    owner
        .batch_execute("DROP POLICY chatledger_read ON users")
        .await
        .expect("a change");
    let output = chatledger()
        .env("DATABASE_URL", database.url())
        .args(["migrate", "verify", "--fix-plan"])
        .output()
        .expect("chatledger");
    let plan = String::from_utf8(output.stdout).expect("text");
    // psql's own commands are for psql.
    let sql: Vec<&str> = plan.lines().filter(|line| !line.starts_with('\\')).collect();
    owner.batch_execute(&sql.join("\n")).await.expect("the plan");
    let (ok, said) = migrate(&database, &["verify"]);
    assert!(ok, "{said}");
    // A policy of the team's own is its own business.
    owner
        .batch_execute("CREATE POLICY mine ON users FOR SELECT USING (false)")
        .await
        .expect("a policy");
    assert!(migrate(&database, &["verify"]).0);
    owner
        .batch_execute("DROP POLICY mine ON users")
        .await
        .expect("a policy");

    let client = mallory(&database).await;
    assert_eq!(count(&client, "messages").await, 0);
    let (ok, said) = migrate(&database, &["down", "--set", "rls", "--to", "0"]);
    assert!(ok, "{said}");
    let left = "(SELECT polname FROM pg_policy UNION ALL SELECT relname FROM pg_class WHERE relrowsecurity AND relname NOT IN ('api_keys', 'audit_events')
        UNION ALL SELECT proname FROM pg_proc WHERE proname IN ('chatledger_tenant', 'chatledger_end_user', 'chatledger_is_service')) a";
    assert_eq!(count(&owner, left).await, 0);
    assert_eq!(count(&client, "messages").await, 8);
    assert!(migrate(&database, &["verify"]).0);
    install(&database);
    assert_eq!(count(&client, "messages").await, 0);
}

/// The tables with row-level security; keys and the audit have it always, without a policy: they are the owner's alone.
const SECURED: &str = "pg_class WHERE relrowsecurity AND relname NOT IN ('api_keys', 'audit_events')";

#[tokio::test]
async fn each_scope_has_what_it_has() {
    for (scope, name, tables) in [(Scope::Chat, "chat", 15), (Scope::Auth, "auth", 2)] {
        let database = TestDatabase::empty().await;
        database.migrate(scope).await;
        let (ok, said) = migrate(&database, &["up", "--scope", name, "--with", "rls"]);
        assert!(ok, "{said}");
        let client = database.client().await;
        assert_eq!(count(&client, SECURED).await, tables, "{name}");
        let (ok, said) = migrate(&database, &["verify"]);
        assert!(ok, "{said}");
        let (ok, said) = migrate(&database, &["down", "--scope", name, "--set", "rls", "--to", "0"]);
        assert!(ok, "{said}");
        assert_eq!(count(&client, SECURED).await, 0, "{name}");
    }
}
