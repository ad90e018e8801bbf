//! A team's own migrations beside the embedded ones.

use super::*;

#[tokio::test]
async fn a_column_of_one_s_own_without_a_fork() {
    let database = TestDatabase::empty().await;
    let dir = tempfile::tempdir().expect("a directory");
    let made = migrate_own(
        &database,
        dir.path(),
        &["new", "Add user timezone preference", "--json"],
    )
    .json();
    let (up, down) = (
        made["up"].as_str().expect("a path"),
        made["down"].as_str().expect("a path"),
    );
    assert!(up.ends_with("__add_user_timezone_preference.sql"), "{up}");
    assert!(
        down.ends_with("__add_user_timezone_preference.down.sql"),
        "{down}"
    );
    // Not filled in yet.
    migrate_own(&database, dir.path(), &["up"]).fails_with(&[up, "has no statement yet"]);
    assert_eq!(versions(&database), "");
    std::fs::write(up, "ALTER TABLE messages ADD COLUMN tz text").expect("filled in");
    std::fs::write(down, "ALTER TABLE messages DROP COLUMN tz").expect("filled in");
    migrate_own(&database, dir.path(), &["up"]).ok();
    migrate_own(&database, dir.path(), &["verify"]).ok();

    // The server ignores what it doesn't know, and so does SQL by hand keep it.
    let server = start(&database).await;
    let session = new_session(&server).await;
    append(&server, &session, text("hello")).await.expect("a receipt");
    database
        .client()
        .await
        .batch_execute("UPDATE messages SET tz = 'Asia/Karachi'")
        .await
        .expect("an update");
    append_batch(&server, &session, vec![text("again")], Some(1))
        .await
        .expect("receipts");
    assert_eq!(messages_of(&server, &session).await.len(), 2);
    server.stop().await;

    migrate_own(&database, dir.path(), &["down"]).fails_with(&["own V", "--yes"]);
    migrate_own(&database, dir.path(), &["down", "--yes"]).ok();
    assert_eq!(versions(&database), HEADS);
    migrate_own(&database, dir.path(), &["up"]).ok();
}

#[tokio::test]
async fn own_migrations_are_gone_back_from_first_and_only_with_their_files() {
    let database = TestDatabase::empty().await;
    let dir = own(&[("V1__a.sql", "ALTER TABLE users ADD COLUMN a text")]);
    migrate_own(&database, dir.path(), &["up"]).ok();
    migrate_own(&database, dir.path(), &["down", "--yes"]).fails_with(&["own V1__a", "write V1__a.down.sql"]);
    migrate(&database, &["down", "--set", "auth", "--yes"]).fails_with(&["set link stands on auth"]);
    migrate(&database, &["down", "--set", "link"]).ok();
    migrate(&database, &["down", "--set", "auth", "--yes"])
        .fails_with(&["set own stands on auth", "--migrations-dir"]);
}

#[tokio::test]
async fn a_mistake_in_a_file_is_told_with_its_line() {
    let database = TestDatabase::new().await;
    let wrong = "-- One.\nALTER TABLE users\n    ADD COLUMN a text,\n    ADD COLUMN b textt;\n";
    let dir = own(&[("V1__a.sql", wrong)]);
    migrate_own(&database, dir.path(), &["up"]).fails_with(&["own V1__a", "line 4", "textt", "42704"]);
    let unmarked = "SELECT 1;\nCREATE INDEX CONCURRENTLY a ON users (name);";
    let dir = own(&[("V1__a.sql", unmarked)]);
    migrate_own(&database, dir.path(), &["up"]).fails_with(&["V1__a.sql", "line 2", "no-transaction"]);
    let marked = "-- chatledger: no-transaction\nANALYZE users;\n\nANALYZE nowhere;";
    let dir = own(&[("V1__a.sql", marked)]);
    migrate_own(&database, dir.path(), &["up"]).fails_with(&["own V1__a", "nowhere"]);
    assert_eq!(versions(&database), HEADS);
    migrate(&database, &["new", "x"]).fails_with(&["--migrations-dir"]);
    migrate_own(&database, Path::new("/no/such"), &["up"]).fails_with(&["--migrations-dir /no/such"]);
}

#[tokio::test]
async fn statements_without_a_transaction_run_one_by_one() {
    let database = TestDatabase::new().await;
    let text = "-- chatledger: no-transaction
        CREATE INDEX CONCURRENTLY one ON users (name); -- a; b
        CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;
        VACUUM users;
        CREATE INDEX CONCURRENTLY IF NOT EXISTS \"Two\" ON public.users (created_at);";
    let dir = own(&[
        ("V1__a.sql", text),
        (
            "V1__a.down.sql",
            "-- chatledger: no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS one; DROP INDEX CONCURRENTLY IF EXISTS \"Two\"; DROP FUNCTION IF EXISTS f",
        ),
    ]);
    migrate_own(&database, dir.path(), &["up"]).ok();
    migrate_own(&database, dir.path(), &["verify"]).ok();
    migrate_own(&database, dir.path(), &["down"]).ok();
    migrate(&database, &["verify"]).ok();
}
