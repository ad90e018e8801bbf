//! Erasure: a person's words are looked for in every table and index, when the person is said to be gone.

use std::sync::Arc;

use chatledger::{
    domain::Limits,
    migrations::Scope,
    store::{FoldRequest, Store},
};
use chatledger_postgres::{Db, DbOptions};
use tokio_postgres::Client;

use crate::harness::{process::chatledger, *};

/// What stands in all that the person has said, and nowhere else.
const WORD: &str = "xanthippe";

/// What a person leaves in the ledger, and what is looked for.
struct Traces {
    user_id: String,
    session_id: String,
}

/// The rows of others, so that there are statistics of each table when the person's are gone.
const NEIGHBOURS: &str = "INSERT INTO chat_sessions (title) SELECT 'neighbour ' || n FROM generate_series(1, 50) n;
    INSERT INTO messages (session_id, role, content) SELECT id, 'user', title FROM chat_sessions WHERE title LIKE 'neighbour%';
    INSERT INTO message_citations (message_id, document_id) SELECT id, 'module-1' FROM messages";

/// A user with everything that can hold a text, in scope all, beside others.
async fn planted(server: &TestServer, database: &TestDatabase) -> Traces {
    let create = pb::CreateUserRequest {
        email: format!("{WORD}@example.com"),
        external_id: Some(format!("auth0|{WORD}")),
        name: Some(WORD.to_owned()),
        password: Some(format!("{WORD} as a password")),
        profile: Some(pb::Profile {
            software_background: Some(format!("{WORD} software")),
            hardware_background: Some(format!("{WORD} hardware")),
            learning_goals: Some(format!("{WORD} goals")),
            experience_level: Some(WORD.to_owned()),
            preferences_json: format!(r#"{{"{WORD}":"{WORD}"}}"#),
            ..Default::default()
        }),
        ..Default::default()
    };
    let user = answer(server.users().create_user(create).await)
        .user
        .expect("a user");
    let others = "INSERT INTO users (email, name) SELECT 'neighbour' || n || '@example.com', 'neighbour' FROM generate_series(1, 50) n;
        INSERT INTO user_profiles (user_id, learning_goals) SELECT id, name FROM users WHERE name = 'neighbour'";
    let client = database.client().await;
    client.batch_execute(others).await.expect("neighbours");
    client.batch_execute(NEIGHBOURS).await.expect("neighbours");
    let session_id = conversation(server, &user.id).await;
    Traces {
        user_id: user.id,
        session_id,
    }
}

/// A session of the user's with texts in all fields, and a deleted message.
async fn conversation(server: &TestServer, user_id: &str) -> String {
    let create = pb::CreateSessionRequest {
        user_id: Some(user_id.to_owned()),
        title: Some(format!("{WORD} title")),
        metadata_json: format!(r#"{{"{WORD}":1}}"#),
        ..Default::default()
    };
    let created = answer(server.sessions().create_session(create).await);
    let session = created.session.expect("a session").id;
    for n in 0..3 {
        let message_id = id();
        let message = pb::NewMessage {
            message_id: Some(message_id.clone()),
            role: pb::Role::User.into(),
            content: format!("{WORD} content {n}"),
            selected_text: Some(format!("{WORD} selected")),
            metadata_json: format!(r#"{{"{WORD}":2}}"#),
            payload: Some(format!("{WORD} payload").into()),
            citations: vec![pb::Citation {
                document_id: format!("{WORD} document"),
                chunk_id: format!("{WORD} chunk"),
                ..Default::default()
            }],
            ..Default::default()
        };
        append(server, &session, message).await.expect("a receipt");
        if n == 2 {
            let delete = pb::DeleteMessageRequest {
                session_id: session.clone(),
                message_id,
            };
            answer(server.messages().delete_message(delete).await);
        }
    }
    session
}

/// The tables that have a text in any column of any row, those of the catalogs included.
async fn found_in(client: &Client, text: &str) -> Vec<String> {
    let tables = "SELECT oid::regclass::text FROM pg_class
        WHERE relkind IN ('r', 'm') AND relpersistence = 'p' ORDER BY 1";
    let tables = client.query(tables, &[]).await.expect("tables");
    let mut found = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let sql = format!(
            "SELECT count(*) FROM {table} t WHERE strpos(lower(t::text), $1) > 0 OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0"
        );
        let row = client.query_one(&sql, &[&text]).await.expect(&table);
        if row.get::<_, i64>(0) > 0 {
            found.push(table);
        }
    }
    found
}

/// The files of tables, indexes and toasted values that have the text's bytes, once dead rows are gone.
async fn files_with(client: &Client, text: &str) -> Vec<String> {
    client.batch_execute("VACUUM FULL").await.expect("a vacuum");
    client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
    let sql = "SELECT oid::regclass::text FROM pg_class
        WHERE relkind IN ('r', 'i', 't', 'm') AND relpersistence = 'p' AND pg_relation_filepath(oid) IS NOT NULL
            AND position(convert_to($1, 'UTF8') IN pg_read_binary_file(pg_relation_filepath(oid))) > 0 ORDER BY 1";
    let rows = client.query(sql, &[&text]).await.expect("files");
    rows.iter().map(|row| row.get(0)).collect()
}

fn store(database: &TestDatabase, scope: Scope) -> Store {
    let options = DbOptions {
        pool_size: 2,
        wait_timeout: PATIENCE,
        connect_for: PATIENCE,
        attempt_limit: DbOptions::ATTEMPT_LIMIT,
        pooled: false,
    };
    let db = Db::new(database.connector(), options).expect("a pool");
    Store::new(db, Arc::new(Limits::default()), scope, "english")
}

/// Has reports count all that was committed, as a server does in a while; other tests' transactions hold back how far.
async fn fold(database: &TestDatabase, scope: Scope) {
    let store = store(database, scope);
    let client = database.client().await;
    eventually("all is folded in", async || {
        let request = FoldRequest {
            transactions: i64::MAX,
            forget: false,
        };
        store.fold(store.db(), request).await.expect("a fold");
        let behind = "SELECT count(*) FROM chatledger_reports
            WHERE folded_through <= (SELECT coalesce(max(inserted_by), 0) FROM messages)";
        let row = client.query_one(behind, &[]).await.expect("a look");
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Nothing of the person is left.
async fn assert_gone(database: &TestDatabase, traces: &Traces) {
    let client = database.client().await;
    for text in [WORD, &traces.user_id, &traces.session_id] {
        assert_eq!(found_in(&client, text).await, Vec::<String>::new(), "{text}");
    }
    // A vacuum leaves dead rows that a snapshot of this database may still see, such as autovacuum's own: then it comes again.
    let mut files = Vec::new();
    let gone = async {
        loop {
            files = files_with(&client, WORD).await;
            if files.is_empty() {
                return;
            }
        }
    };
    let is_gone = tokio::time::timeout(PATIENCE, gone).await;
    assert!(is_gone.is_ok(), "{files:?}");
}

/// Runs `chatledger erase`; answers its exit code, and what it says to stdout and stderr.
fn erase(database: &TestDatabase, args: &[&str]) -> (Option<i32>, String, String) {
    let output = chatledger()
        .env("DATABASE_URL", database.url())
        .arg("erase")
        .args(args)
        .output()
        .expect("chatledger");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Tables where a person's words are before, by which is known that the search finds something.
const EVERYWHERE: [&str; 9] = [
    "chat_sessions",
    "chatledger_report_document_days",
    "chatledger_report_document_months",
    "chatledger_report_documents",
    "message_citations",
    "messages",
    "pg_statistic",
    "user_profiles",
    "users",
];

#[tokio::test]
async fn delete_user_leaves_nothing() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let traces = planted(&server, &database).await;
    fold(&database, Scope::All).await;
    let client = database.client().await;
    client.batch_execute("ANALYZE").await.expect("statistics");
    let found = found_in(&client, WORD).await;
    for table in EVERYWHERE {
        assert!(
            found.iter().any(|found| found == table),
            "{table} isn't among {found:?}"
        );
    }
    let files = files_with(&client, WORD).await;
    assert!(files.contains(&"users_email_key".to_owned()), "{files:?}");

    let delete = pb::DeleteUserRequest {
        user_id: traces.user_id.clone(),
    };
    answer(server.users().delete_user(delete).await);
    server.stop().await;
    fold(&database, Scope::All).await;
    // As autovacuum does by itself.
    client.batch_execute("ANALYZE").await.expect("statistics");
    assert_gone(&database, &traces).await;
}

#[tokio::test]
async fn the_command_erases_a_person_with_a_large_session_and_tells_what() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let traces = planted(&server, &database).await;
    server.stop().await;
    let client = database.client().await;
    let many = format!(
        "INSERT INTO messages (session_id, role, content)
            SELECT '{}', 'user', '{WORD} ' || n FROM generate_series(1, 1200) n",
        traces.session_id
    );
    client.batch_execute(&many).await.expect("messages");
    fold(&database, Scope::All).await;
    client.batch_execute("ANALYZE").await.expect("statistics");

    let (code, _, stderr) = erase(&database, &["--user", &traces.user_id]);
    let words = "1 users, 1 profiles, 1 sessions, 1203 messages, 2 citations";
    let asked = format!("this would erase {words}: confirm it with --yes");
    assert!(code == Some(1) && stderr.contains(&asked), "{stderr}");
    let (code, _, stderr) = erase(
        &database,
        &["--user", &traces.user_id, "--tenant", "other", "--yes"],
    );
    assert!(
        code == Some(1) && stderr.contains("the tenant other has nothing of that user"),
        "{stderr}"
    );
    assert!(!found_in(&client, WORD).await.is_empty());

    let (code, stdout, stderr) = erase(&database, &["--user", &traces.user_id, "--yes"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with(&format!("erased: {words}\n")), "{stdout}");
    fold(&database, Scope::All).await;
    assert_gone(&database, &traces).await;
    let rest = "SELECT count(*) FROM messages WHERE content LIKE 'neighbour%'";
    let row = client.query_one(rest, &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 50);
    let (code, _, stderr) = erase(&database, &["--user", &traces.user_id, "--yes"]);
    assert!(
        code == Some(1) && stderr.contains("the tenant default has nothing"),
        "{stderr}"
    );
}

#[tokio::test]
async fn without_a_users_table_the_sessions_go() {
    let database = TestDatabase::empty().await;
    database.migrate(Scope::Chat).await;
    let server = start_with(&database, |options| options.scope = Scope::Chat).await;
    let client = database.client().await;
    client.batch_execute(NEIGHBOURS).await.expect("neighbours");
    let user_id = id();
    let traces = Traces {
        session_id: conversation(&server, &user_id).await,
        user_id,
    };
    server.stop().await;
    fold(&database, Scope::Chat).await;
    let args = ["--user", &traces.user_id, "--yes", "--scope", "chat"];
    let (code, stdout, stderr) = erase(&database, &args);
    assert_eq!(code, Some(0), "{stderr}");
    let words = "erased: 0 users, 0 profiles, 1 sessions, 3 messages, 2 citations\n";
    assert!(stdout.starts_with(words), "{stdout}");
    fold(&database, Scope::Chat).await;
    client.batch_execute("ANALYZE").await.expect("statistics");
    assert_gone(&database, &traces).await;
}
