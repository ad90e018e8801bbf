//! Many at once, killed ones, and locks that others hold.

use nix::sys::signal::Signal;
use tokio_postgres::Client;

use super::*;
use crate::migrations::catalog;

/// A snapshot that somebody holds, which CREATE INDEX CONCURRENTLY waits for; released when it is dropped.
async fn snapshot(database: &TestDatabase) -> Client {
    let client = database.client().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    client.batch_execute(begin).await.expect("a snapshot");
    client
}

async fn index_is_valid(client: &Client, name: &str) -> Option<bool> {
    let sql = format!("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')");
    client
        .query_opt(&sql, &[])
        .await
        .expect("a look")
        .map(|row| row.get(0))
}

/// Waits until somebody builds an index concurrently, and waits for us.
async fn building(client: &Client) {
    let sql = "SELECT FROM pg_stat_progress_create_index
        WHERE datname = current_database() AND phase = 'waiting for old snapshots'";
    eventually("an index is being built", async || {
        let rows = client.query(sql, &[]).await.expect("a look");
        (!rows.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn eight_ups_at_once_with_a_step_without_a_transaction() {
    // CHATLEDGER_TEST_ROUNDS: how often; by hand, more.
    let rounds =
        std::env::var("CHATLEDGER_TEST_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number"));
    let dir = own(&[
        (
            "V1__a.sql",
            "-- chatledger: no-transaction\nCREATE INDEX CONCURRENTLY a ON messages (role);\nCREATE INDEX CONCURRENTLY b ON messages (role, seq)",
        ),
        ("V2__c.sql", "ALTER TABLE messages ADD COLUMN c text"),
    ]);
    for round in 0..rounds {
        let database = TestDatabase::empty().await;
        let mut ups: Vec<ServerProcess> = (0..8)
            .map(|_| {
                let mut command = command(&database, &["up", "--with", "search", "--json"]);
                ServerProcess::start(command.arg("--migrations-dir").arg(dir.path()))
            })
            .collect();
        let mut applied = 0;
        for up in &mut ups {
            let status = up.ended().await;
            assert_eq!(status.code(), Some(0), "round {round}: {}", up.stderr());
            let answer: Value = serde_json::from_str(&up.rest_of_stdout()).expect("JSON");
            applied += names(&answer).len();
        }
        // Each migration was applied once, by one of them.
        assert_eq!(applied, 14, "round {round}");
        let client = database.client().await;
        for index in ["a", "b", "messages_search_idx"] {
            assert_eq!(
                index_is_valid(&client, index).await,
                Some(true),
                "round {round}: {index}"
            );
        }
    }
}

#[tokio::test]
async fn a_concurrent_build_that_was_killed_is_begun_anew() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let held = snapshot(&database).await;
    let mut first = ServerProcess::start(&mut command(&database, &["up", "--with", "search"]));
    building(&client).await;
    first.signal(Signal::SIGKILL);
    first.ended().await;
    assert_eq!(index_is_valid(&client, "messages_search_idx").await, Some(false));
    assert_eq!(versions(&database), HEADS);

    // The next one waits for what the server still does for the first, and then does it anew.
    let mut second = ServerProcess::start(&mut command(&database, &["up", "--with", "search"]));
    second.says("INVALID").await;
    drop(held);
    assert_eq!(second.ended().await.code(), Some(0), "{}", second.stderr());
    assert_eq!(index_is_valid(&client, "messages_search_idx").await, Some(true));
    assert_eq!(versions(&database), "access 2, auth 2, chat 6, link 1, search 1");
    migrate(&database, &["verify"]).ok();
}

#[tokio::test]
async fn a_build_that_was_finished_and_not_recorded_is_recorded() {
    let database = TestDatabase::new().await;
    migrate(&database, &["up", "--with", "search"]).ok();
    let client = database.client().await;
    let oid = "SELECT 'messages_search_idx'::regclass::oid";
    let before: u32 = client.query_one(oid, &[]).await.expect("the index").get(0);
    client
        .batch_execute("DELETE FROM chatledger_search_migrations")
        .await
        .expect("as if killed");
    let ran = migrate(&database, &["up", "--with", "search"]);
    assert!(ran.stderr.contains("exists already"), "{}", ran.stderr);
    ran.ok();
    let after: u32 = client.query_one(oid, &[]).await.expect("the index").get(0);
    assert_eq!(before, after);
}

#[tokio::test]
async fn another_index_of_the_name_is_not_taken_for_a_finished_one() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for (there, wanted, differs) in [
        ("(role)", "(content)", true),
        ("(role)", "(role) WHERE deleted_at IS NULL", true),
        ("(lower(role))", "(lower(role))", false),
    ] {
        let sql = format!("DROP INDEX IF EXISTS mine; CREATE INDEX mine ON messages {there}");
        client.batch_execute(&sql).await.expect("an index");
        let text =
            format!("-- chatledger: no-transaction\nCREATE INDEX CONCURRENTLY mine ON messages {wanted}");
        let dir = own(&[("V1__mine.sql", &text), ("V1__mine.down.sql", "SELECT 1")]);
        let ran = migrate_own(&database, dir.path(), &["up"]);
        if differs {
            ran.fails_with(&["line 2", "another index has this name", there]);
        } else {
            ran.ok();
        }
    }
}

#[tokio::test]
async fn without_a_transaction_a_direct_connection_is_needed() {
    let database = TestDatabase::new().await;
    let args = ["up", "--with", "search", "--pooler", "on"];
    migrate(&database, &args).fails_with(&["search V1__messages_search", "--database-direct-url"]);
    let mut command = command(&database, &args);
    CommandOutcome::of(
        command
            .env("DATABASE_DIRECT_URL", database.url())
            .output()
            .expect("chatledger"),
    )
    .ok();
}

#[tokio::test]
async fn a_build_that_fails_leaves_no_invalid_index() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client
        .batch_execute("INSERT INTO documents (id, title) VALUES ('a', 't'), ('b', 't')")
        .await
        .expect("rows");
    let text = "-- chatledger: no-transaction\n\nCREATE UNIQUE INDEX CONCURRENTLY twice ON documents (title)";
    let dir = own(&[("V1__twice.sql", text)]);
    migrate_own(&database, dir.path(), &["up"])
        .fails_with(&["own V1__twice", "could not create unique index"]);
    assert_eq!(index_is_valid(&client, "twice").await, None);
    client
        .batch_execute("DELETE FROM documents WHERE id = 'b'")
        .await
        .expect("a delete");
    migrate_own(&database, dir.path(), &["up"]).ok();
    assert_eq!(index_is_valid(&client, "twice").await, Some(true));
}

#[tokio::test]
async fn a_migration_that_must_wait_lets_others_pass_and_comes_again() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let reader = database.client().await;
    reader
        .batch_execute("BEGIN; SELECT FROM messages")
        .await
        .expect("a long transaction");
    let dir = own(&[("V1__a.sql", "ALTER TABLE messages ADD COLUMN a text")]);
    let mut waiting = command(&database, &["up", "--lock-timeout", "100ms"]);
    let mut up = ServerProcess::start(waiting.arg("--migrations-dir").arg(dir.path()));
    up.says("again in").await;
    // Behind a lock that waits without end, this would wait without end as well.
    let read = "SET statement_timeout = '20s'; SELECT count(*) FROM messages";
    client.batch_execute(read).await.expect("others pass");
    assert!(up.is_running());
    reader.batch_execute("COMMIT").await.expect("an end");
    assert_eq!(up.ended().await.code(), Some(0), "{}", up.stderr());

    // In the end it gives up, and says why.
    reader
        .batch_execute("BEGIN; SELECT FROM users")
        .await
        .expect("a long transaction");
    std::fs::write(
        dir.path().join("V2__b.sql"),
        "ALTER TABLE users ADD COLUMN b text",
    )
    .expect("a file");
    let args = ["up", "--lock-timeout", "20ms", "--lock-retries", "2"];
    migrate_own(&database, dir.path(), &args).fails_with(&[
        "own V2__b",
        "lock timeout",
        "3 attempts",
        "--lock-timeout",
    ]);
    let before = catalog(&client).await;
    assert!(!before.concat().contains("users.b"));
}
