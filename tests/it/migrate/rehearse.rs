//! Rehearsals on a copy, and backups.

use super::*;
use crate::migrations::catalog;

/// A database with rows, whose own migration is pending.
async fn with_rows() -> TestDatabase {
    let database = TestDatabase::new().await;
    let sql = "INSERT INTO users (email) SELECT 'u' || n FROM generate_series(1, 100) n;
        INSERT INTO chat_sessions (user_id) SELECT id FROM users;
        INSERT INTO messages (session_id, role, content) SELECT id, 'user', 'hello' FROM chat_sessions";
    database.client().await.batch_execute(sql).await.expect("rows");
    database
}

#[tokio::test]
async fn a_rehearsal_reports_durations_locks_and_faults_and_changes_nothing() {
    let database = with_rows().await;
    let dir = own(&[
        ("V1__tz.sql", "ALTER TABLE messages ADD COLUMN tz text"),
        (
            "V2__idx.sql",
            "-- chatledger: no-transaction\nCREATE INDEX CONCURRENTLY tz_idx ON messages (tz)",
        ),
    ]);
    let before = catalog(&database.client().await).await;
    let ran = migrate_own(&database, dir.path(), &["rehearse", "--json"]).json();
    assert_eq!(names(&ran["changes"]), ["own V1__tz", "own V2__idx"]);
    let locks = &ran["changes"][0]["locks"];
    assert_eq!(
        *locks,
        serde_json::json!([{"table": "messages", "mode": "AccessExclusiveLock"}])
    );
    assert!(ran["changes"][0]["milliseconds"].is_number() && ran["copied_in_milliseconds"].is_number());
    assert_eq!(ran["good"], true);
    assert!(ran["statements_run"].as_u64().expect("a number") > 40, "{ran}");
    assert_eq!(catalog(&database.client().await).await, before);
    assert_eq!(scratch_databases(&database).await, 0, "it is dropped");

    // One that the server can't live with.
    let dir = own(&[("V1__gone.sql", "ALTER TABLE messages DROP COLUMN selected_text")]);
    let told = migrate_own(&database, dir.path(), &["rehearse"]).fails_with(&["fault", "statements failed"]);
    assert!(
        told.contains("failed: column m.selected_text does not exist"),
        "{told}"
    );
    // One that rows are in the way of.
    let dir = own(&[(
        "V1__twice.sql",
        "ALTER TABLE messages ADD CONSTRAINT twice UNIQUE (content)",
    )]);
    migrate_own(&database, dir.path(), &["rehearse"])
        .fails_with(&["own V1__twice", "could not create unique index"]);
    assert_eq!(catalog(&database.client().await).await, before);
}

#[tokio::test]
async fn an_interrupted_rehearsal_drops_its_copy() {
    let database = with_rows().await;
    let dir = own(&[("V1__wait.sql", "SELECT pg_sleep(600)")]);
    let mut command = command(&database, &["rehearse"]);
    let mut rehearsal = ServerProcess::start(command.arg("--migrations-dir").arg(dir.path()));
    let client = database.client().await;
    let sleeping = "SELECT FROM pg_stat_activity a JOIN pg_shdescription d ON d.objoid = a.datid
        WHERE d.description LIKE '%' || current_database() AND a.query LIKE '%pg_sleep%' AND a.wait_event = 'PgSleep'";
    eventually("the migration runs on the copy", async || {
        let rows = client.query(sleeping, &[]).await.expect("a look");
        (!rows.is_empty()).then_some(())
    })
    .await;
    assert_eq!(scratch_databases(&database).await, 1);
    rehearsal.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(rehearsal.ended().await.code(), Some(1));
    // It has ended, and what it said may still be on its way.
    rehearsal.says("interrupted").await;
    assert_eq!(scratch_databases(&database).await, 0);
}

#[tokio::test]
async fn a_rehearsal_on_a_branch_uses_it_as_it_is() {
    let (database, branch) = (with_rows().await, with_rows().await);
    let dir = own(&[("V1__tz.sql", "ALTER TABLE messages ADD COLUMN tz text")]);
    let args = ["rehearse", "--json", "--branch-url", &branch.url()];
    let ran = migrate_own(&database, dir.path(), &args).json();
    assert!(ran["copied_in_milliseconds"].is_null());
    assert_eq!((&ran["good"], names(&ran["changes"]).len()), (&true.into(), 1));
    assert!(
        catalog(&branch.client().await)
            .await
            .concat()
            .contains("messages.tz")
    );
    assert!(
        !catalog(&database.client().await)
            .await
            .concat()
            .contains("messages.tz")
    );
    let itself = ["rehearse", "--branch-url", &database.url()];
    migrate_own(&database, dir.path(), &itself).fails_with(&["--branch-url", "itself"]);
}

#[tokio::test]
async fn a_rehearsal_of_a_scope_runs_that_scope_s_statements() {
    let database = TestDatabase::empty().await;
    let ran = migrate(&database, &["rehearse", "--scope", "chat", "--json"]).json();
    assert_eq!(ran["good"], true, "{ran}");
    assert_eq!(names(&ran["changes"]).len(), 8);
}

#[tokio::test]
async fn a_backup_is_written_before_anything_is_changed() {
    use std::os::unix::fs::PermissionsExt;
    let database = with_rows().await;
    let top = tempfile::tempdir().expect("a directory");
    let file = top.path().join("before.dump");
    let path = file.display().to_string();
    // Nothing is pending: nothing to save.
    migrate(&database, &["up", "--backup", &path]).ok();
    assert!(!file.exists());
    let before = catalog(&database.client().await).await;
    migrate(&database, &["down", "--to", "0", "--yes", "--backup", &path]).ok();
    let metadata = std::fs::metadata(&file).expect("the backup");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    migrate(&database, &["up", "--backup", &path]).fails_with(&["--backup", "exists already"]);

    // It brings everything back.
    let restored = TestDatabase::empty().await;
    restore(&restored, &file);
    assert_eq!(catalog(&restored.client().await).await, before);
    migrate(&restored, &["verify"]).ok();
    let sql = "SELECT count(*) FROM messages";
    let count: i64 = restored
        .client()
        .await
        .query_one(sql, &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(count, 100);
}

/// As migrations/README.md says, into a database without tables.
fn restore(database: &TestDatabase, file: &Path) {
    let pg_bin = std::env::var_os("CHATLEDGER_PG_BIN").map(std::path::PathBuf::from);
    let binaries = chatledger_embedded::find_binaries(pg_bin.as_deref(), None).expect("PostgreSQL");
    let mut restore = Command::new(binaries.dir.join("pg_restore"));
    restore.args(["--no-owner", "--single-transaction", "-d", &database.url()]);
    let ran = restore.arg(file).output();
    assert!(ran.as_ref().is_ok_and(|ran| ran.status.success()), "{ran:?}");
}

#[tokio::test]
async fn a_backup_undoes_a_migration_that_was_bad() {
    let database = with_rows().await;
    let client = database.client().await;
    let dir = own(&[(
        "V1__bad.sql",
        "CREATE TABLE feedback (message_id uuid REFERENCES messages (id)); UPDATE messages SET content = 'clobbered'",
    )]);
    let before = catalog(&client).await;
    let top = tempfile::tempdir().expect("a directory");
    let file = top.path().join("before.dump");
    migrate_own(
        &database,
        dir.path(),
        &["up", "--backup", &file.display().to_string()],
    )
    .ok();
    client
        .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .await
        .expect("no tables");
    restore(&database, &file);
    assert_eq!(catalog(&client).await, before);
    let sql = "SELECT count(*) FROM messages WHERE content = 'hello'";
    let count: i64 = client.query_one(sql, &[]).await.expect("a count").get(0);
    assert_eq!(count, 100);
    assert_eq!(versions(&database), HEADS);
}
