//! Row-level security, by roles of other programs: what they see, and what they try.

mod attacks;
mod by_hand;
mod hosts;
mod lifecycle;

use tokio_postgres::{Client, error::SqlState};

use crate::harness::{TestDatabase, process::chatledger};

/// The tenants, each with a user whose number they share, its session, and what is in that.
const TENANTS: [&str; 2] = ["acme", "umbrella"];

/// An id, as tests write it: the kind, the tenant's number, and the row's.
fn id(kind: u32, tenant: usize, number: u32) -> String {
    format!("{kind:08x}-0000-4000-8000-{tenant:04}{number:08}")
}

const USER: u32 = 1;
const SESSION: u32 = 2;
const MESSAGE: u32 = 3;

/// Runs `chatledger migrate` over a database.
fn migrate(database: &TestDatabase, args: &[&str]) -> (bool, String) {
    let output = chatledger()
        .env("DATABASE_URL", database.url())
        .arg("migrate")
        .args(args)
        .output()
        .expect("chatledger");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn install(database: &TestDatabase) {
    let (ok, said) = migrate(database, &["up", "--with", "rls"]);
    assert!(ok, "{said}");
}

/// A database with the policies and rows of two tenants: each has the users 1 and 2, with a profile, a session of two messages and
/// a citation each, an anonymous session, and a document.
async fn filled() -> TestDatabase {
    let database = TestDatabase::new().await;
    install(&database);
    let client = database.client().await;
    for (number, tenant) in TENANTS.iter().enumerate() {
        let mut sql = format!(
            "INSERT INTO documents (tenant_id, id, title) VALUES ('{tenant}', 'module-1', '{tenant} module');
             INSERT INTO chat_sessions (tenant_id, id, title) VALUES ('{tenant}', '{}', '{tenant} nobody');
             INSERT INTO chatledger_report_days VALUES ('{tenant}', 'UTC', '2026-01-01', 1, 1);",
            id(SESSION, number, 9)
        );
        for user in [1, 2] {
            let (user_id, session, message) = (
                id(USER, number, user),
                id(SESSION, number, user),
                id(MESSAGE, number, user),
            );
            let of_user = format!(
                "INSERT INTO users (tenant_id, id, email, hashed_password)
                    VALUES ('{tenant}', '{user_id}', 'user{user}@example.com', '{tenant} hash');
                 INSERT INTO user_profiles (user_id, learning_goals) VALUES ('{user_id}', '{tenant} goals');
                 INSERT INTO chat_sessions (tenant_id, id, user_id, title)
                    VALUES ('{tenant}', '{session}', '{user_id}', '{tenant} title {user}');
                 INSERT INTO messages (id, session_id, role, content)
                    VALUES ('{message}', '{session}', 'user', '{tenant} content {user}');
                 INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'assistant', '{tenant} answer');
                 INSERT INTO message_citations (message_id, document_id) VALUES ('{message}', 'module-1');"
            );
            sql.push_str(&of_user);
        }
        client.batch_execute(&sql).await.expect("rows");
    }
    database
}

/// A connection of a role with these grants, in which its name is `app`.
async fn role_with(database: &TestDatabase, kind: &str, grants: &str) -> Client {
    let role = format!("{kind}_{}", database.name);
    let client = database.client().await;
    client
        .batch_execute(&format!("CREATE ROLE {role}"))
        .await
        .expect("a role");
    let grants = grants.replace(" TO app;", &format!(" TO {role};"));
    client.batch_execute(&grants).await.expect("grants");
    client
        .batch_execute(&format!("SET ROLE {role}"))
        .await
        .expect("the role");
    client
}

/// The blocks of SQL of a document.
fn blocks(document: &str) -> impl Iterator<Item = &str> {
    let rest = document.split("```sql\n").skip(1);
    rest.filter_map(|rest| rest.split("```").next())
}

const DOCUMENT: &str = include_str!("../../docs/security.md");

/// The role of the document.
async fn app(database: &TestDatabase) -> Client {
    let grants = blocks(DOCUMENT).find(|block| block.starts_with("GRANT SELECT"));
    role_with(database, "app", grants.expect("the grants")).await
}

/// A role that may do everything with all the tables that has policies, but for reading hashes.
async fn mallory(database: &TestDatabase) -> Client {
    let grants = "GRANT SELECT, INSERT, UPDATE, DELETE ON user_profiles, messages, message_citations, documents, chatledger_reports,
            chatledger_report_days, chatledger_report_session_days, chatledger_report_documents, chatledger_report_document_days,
            chatledger_report_document_months, chatledger_report_sessions, chatledger_report_lengths,
            chatledger_report_message_changes, chatledger_report_citation_changes, chatledger_report_session_changes,
            chat_sessions TO app;
        GRANT INSERT, UPDATE, DELETE ON users TO app;
        GRANT SELECT (id, tenant_id, email, external_id, name, is_active, created_at, updated_at) ON users TO app;
        GRANT CREATE ON SCHEMA public TO app;";
    role_with(database, "mallory", grants).await
}

/// Asks for a tenant and an end user from now on.
async fn ask_for(client: &Client, tenant: &str, end_user: &str) {
    let sql =
        "SELECT set_config('chatledger.tenant', $1, false), set_config('chatledger.end_user', $2, false)";
    client
        .execute(sql, &[&tenant, &end_user])
        .await
        .expect("settings");
}

/// How many rows a query answers, that all are of whom `mark` is about.
async fn count(client: &Client, from: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {from}");
    client.query_one(&sql, &[]).await.expect(&sql).get(0)
}

/// The tables with policies, and how many rows an end user and a service see of a tenant that `filled` has made.
const SIGHTS: [(&str, i64, i64); 7] = [
    ("users", 1, 2),
    ("user_profiles", 1, 2),
    ("chat_sessions", 1, 3),
    ("messages", 2, 4),
    ("message_citations", 1, 2),
    ("documents", 1, 1),
    ("chatledger_report_days", 0, 1),
];

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>, code: &SqlState) {
    let error = result.expect_err("a refusal");
    assert_eq!(error.code(), Some(code), "{error:?}");
}

#[tokio::test]
async fn who_does_not_say_for_whom_it_asks_sees_nothing() {
    let database = filled().await;
    let client = mallory(&database).await;
    for settings in [
        "RESET ALL",
        "SET chatledger.tenant = 'acme'",
        "SET chatledger.tenant = ''; SET chatledger.end_user = '*'",
        "SET chatledger.tenant = 'acme'; SET chatledger.end_user = ''",
        "SET chatledger.tenant = 'ACME'; SET chatledger.end_user = '*'",
    ] {
        client.batch_execute(settings).await.expect("settings");
        for (table, ..) in SIGHTS {
            assert_eq!(count(&client, table).await, 0, "{table} after {settings}");
        }
    }
    // What is set for a transaction is over with it.
    let local = "BEGIN; RESET ALL; SELECT set_config('chatledger.tenant', 'acme', true), set_config('chatledger.end_user', '*', true)";
    client.batch_execute(local).await.expect("settings");
    assert_eq!(count(&client, "chat_sessions").await, 3);
    client.batch_execute("COMMIT").await.expect("the end");
    assert_eq!(count(&client, "chat_sessions").await, 0);
    // A user's id that is none tells nothing either.
    ask_for(&client, "acme", "x' OR true").await;
    refused(
        client.query("SELECT id FROM chat_sessions", &[]).await,
        &SqlState::INVALID_TEXT_REPRESENTATION,
    );
}

#[tokio::test]
async fn each_sees_its_own_of_every_table() {
    let database = filled().await;
    let client = mallory(&database).await;
    for (number, tenant) in TENANTS.iter().enumerate() {
        for (end_user, is_service) in [(id(USER, number, 1), false), ("*".to_owned(), true)] {
            ask_for(&client, tenant, &end_user).await;
            for (table, own, all) in SIGHTS {
                let expected = if is_service { all } else { own };
                assert_eq!(
                    count(&client, table).await,
                    expected,
                    "{table} of {tenant} for {end_user}"
                );
            }
            let foreign = TENANTS[1 - number];
            for texts in [
                "title FROM chat_sessions",
                "content FROM messages",
                "learning_goals FROM user_profiles",
                "title FROM documents",
            ] {
                let rows = client.query(&format!("SELECT {texts}"), &[]).await.expect("rows");
                for row in rows {
                    let text: String = row.get(0);
                    assert!(text.starts_with(tenant) && !text.contains(foreign), "{text}");
                }
            }
        }
        // The end user of another tenant, whose id is known.
        ask_for(&client, tenant, &id(USER, 1 - number, 1)).await;
        for (table, ..) in SIGHTS.iter().filter(|(table, ..)| *table != "documents") {
            assert_eq!(count(&client, table).await, 0, "{table}");
        }
    }
    for table in ["chatledger_reports", "chatledger_report_session_changes"] {
        assert_eq!(count(&client, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn the_grants_of_the_document_show_no_hashes() {
    let database = filled().await;
    let client = app(&database).await;
    ask_for(&client, "acme", "*").await;
    assert_eq!(count(&client, "users").await, 2);
    for query in [
        "SELECT hashed_password FROM users",
        "SELECT * FROM users",
        "SELECT u FROM users u",
        "SELECT 1 FROM users WHERE hashed_password IS NOT NULL",
        "SELECT claim_hash FROM chat_sessions",
        "COPY users TO STDOUT",
        "TRUNCATE users",
        "DELETE FROM users",
        "INSERT INTO messages (session_id, seq, role, content) VALUES (gen_random_uuid(), 1, 'user', '')",
    ] {
        refused(
            client.batch_execute(query).await,
            &SqlState::INSUFFICIENT_PRIVILEGE,
        );
    }
    let (ok, said) = migrate(&database, &["verify"]);
    assert!(ok && !said.contains("can read"), "{said}");
}
