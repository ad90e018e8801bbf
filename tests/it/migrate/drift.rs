//! verify: what somebody has done to the tables by hand, and to the files.

use super::*;
use crate::migrations::catalog;

/// What somebody does, and how verify tells it.
const DAMAGE: [(&str, &str); 14] = [
    (
        "ALTER TABLE messages ADD COLUMN mood text DEFAULT 'good'",
        "column messages.mood: no migration makes it; found text",
    ),
    (
        "ALTER TABLE messages DROP COLUMN selected_text",
        "column messages.selected_text: is missing; expected text",
    ),
    (
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(255)",
        "column users.name: is different; expected text; found character varying(255)",
    ),
    (
        "ALTER TABLE users ALTER COLUMN is_active DROP DEFAULT",
        "default of users.is_active: is missing; expected true",
    ),
    (
        "ALTER TABLE users ALTER COLUMN is_active SET DEFAULT false",
        "default of users.is_active: is different; expected true; found false",
    ),
    (
        "ALTER TABLE users ALTER COLUMN email DROP NOT NULL",
        "NOT NULL of users.email: is missing",
    ),
    (
        "DROP INDEX chat_sessions_user_idx",
        "index chat_sessions.chat_sessions_user_idx: is missing",
    ),
    (
        "CREATE INDEX mine ON messages (role)",
        "index messages.mine: no migration makes it",
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chat_sessions_user_idx'::regclass",
        "index chat_sessions.chat_sessions_user_idx: is different",
    ),
    (
        "ALTER TABLE messages DROP CONSTRAINT messages_role_check",
        "constraint messages.messages_role_check: is missing",
    ),
    (
        "ALTER TABLE messages DISABLE TRIGGER messages_number",
        "trigger messages.messages_number: is different",
    ),
    (
        "DROP TRIGGER messages_number ON messages",
        "trigger messages.messages_number: is missing",
    ),
    (
        "CREATE OR REPLACE FUNCTION message_row_id(session_id uuid, given_id uuid) RETURNS uuid
         LANGUAGE sql IMMUTABLE RETURN given_id",
        "function message_row_id(uuid,uuid): is different; expected in line",
    ),
    ("DROP TABLE documents", "table documents: is missing"),
];

#[tokio::test]
async fn what_was_done_by_hand_is_found_and_named() {
    let database = TestDatabase::new().await;
    migrate(&database, &["verify"]).ok();
    for (damage, expected) in DAMAGE {
        let database = TestDatabase::new().await;
        database.client().await.batch_execute(damage).await.expect(damage);
        let told =
            migrate(&database, &["verify"]).fails_with(&["not what its migrations make", "difference"]);
        assert!(
            told.lines().any(|line| line.starts_with(expected)),
            "{damage}: {told}"
        );
    }
}

#[tokio::test]
async fn a_database_without_migrations_is_not_verified() {
    let database = TestDatabase::empty().await;
    migrate(&database, &["verify"]).fails_with(&["no migration was applied", "migrate up"]);
}

#[tokio::test]
async fn people_s_own_tables_and_functions_are_none_of_our_business() {
    let database = TestDatabase::new().await;
    let sql = "CREATE TABLE theirs (id int PRIMARY KEY); CREATE INDEX theirs_idx ON theirs (id);
        CREATE FUNCTION theirs() RETURNS int LANGUAGE sql RETURN 1; CREATE VIEW seen AS SELECT id FROM messages";
    database
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect("their things");
    migrate(&database, &["verify"]).ok();
}

#[tokio::test]
async fn the_fix_plan_mends_what_can_be_mended_by_adding() {
    let (database, template) = (TestDatabase::new().await, TestDatabase::new().await);
    let client = database.client().await;
    client
        .batch_execute("INSERT INTO users (email) VALUES ('ada@example.com')")
        .await
        .expect("a row");
    for damage in [
        "ALTER TABLE messages DROP COLUMN selected_text",
        "ALTER TABLE users ALTER COLUMN is_active DROP DEFAULT",
        "ALTER TABLE users ALTER COLUMN email DROP NOT NULL",
        "DROP INDEX chat_sessions_user_idx",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chat_sessions_anonymous_idx'::regclass",
        "ALTER TABLE messages DROP CONSTRAINT messages_role_check",
        "ALTER TABLE user_profiles DROP CONSTRAINT user_profiles_user_fkey",
        "ALTER TABLE chat_sessions DROP CONSTRAINT chat_sessions_user_fkey",
        "DROP TRIGGER messages_number ON messages",
        "DROP FUNCTION message_citations_complete CASCADE",
        "CREATE OR REPLACE FUNCTION messages_number() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "DROP TABLE documents",
    ] {
        client.batch_execute(damage).await.expect(damage);
    }
    migrate(&database, &["verify"]).fails_with(&["differences"]);
    let plan = migrate(&database, &["verify", "--fix-plan"]).ok();
    assert!(!plan.contains("-- by hand:"), "{plan}");
    // One at a time, as psql sends them: indexes are built concurrently.
    for statement in split(&plan) {
        client
            .batch_execute(&statement)
            .await
            .unwrap_or_else(|error| panic!("{error:?}: {statement}"));
    }
    migrate(&database, &["verify"]).ok();
    // But for the place of a column among the others, all is as it was.
    let without_places = async |database: &TestDatabase| -> Vec<String> {
        let lines = catalog(&database.client().await).await;
        let mut lines: Vec<String> = lines
            .into_iter()
            .map(|line| {
                if line.starts_with("column") {
                    line.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
                } else {
                    line
                }
            })
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(without_places(&database).await, without_places(&template).await);
    // What can't be mended so is left to people.
    client
        .batch_execute("ALTER TABLE users ALTER COLUMN name TYPE varchar(255)")
        .await
        .expect("another type");
    let plan = migrate(&database, &["verify", "--fix-plan"]).ok();
    assert!(
        plan.contains("-- by hand: column users.name: is different"),
        "{plan}"
    );
}

/// The statements of a plan: functions are the only ones with semicolons inside, in dollar quotes.
fn split(plan: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut is_quoted = false;
    for line in plan.lines() {
        let quotes = line.matches("$function$").count();
        is_quoted ^= quotes == 1;
        let last = statements.last_mut().expect("one at least");
        last.push_str(line);
        last.push('\n');
        if line.ends_with(';') && !is_quoted {
            statements.push(String::new());
        }
    }
    statements
}

#[tokio::test]
async fn enums_sequences_and_views_of_own_migrations_are_compared_and_mended() {
    let dir = own(&[(
        "V1__moods.sql",
        "CREATE TYPE mood AS ENUM ('good', 'it''s bad');
        ALTER TABLE messages ADD COLUMN mood mood;
        CREATE SEQUENCE tickets INCREMENT BY 2;
        CREATE VIEW moods AS SELECT id, mood FROM messages;
        CREATE MATERIALIZED VIEW mood_counts AS SELECT mood, count(*) FROM messages GROUP BY mood",
    )]);
    let database = TestDatabase::new().await;
    migrate_own(&database, dir.path(), &["up"]).ok();
    migrate_own(&database, dir.path(), &["verify"]).ok();
    let client = database.client().await;
    client
        .batch_execute(
            "DROP TYPE mood CASCADE; DROP SEQUENCE tickets; DROP VIEW IF EXISTS moods;
            DROP MATERIALIZED VIEW IF EXISTS mood_counts; CREATE VIEW theirs AS SELECT 1",
        )
        .await
        .expect("damage");
    let told = migrate_own(&database, dir.path(), &["verify"]).fails_with(&["5 differences"]);
    for line in [
        "type mood: is missing; expected ENUM ('good', 'it''s bad')",
        "sequence tickets: is missing",
        "column messages.mood: is missing",
        "view moods: is missing",
        "materialized view mood_counts: is missing",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{told}");
    }
    let plan = migrate_own(&database, dir.path(), &["verify", "--fix-plan"]).ok();
    for statement in split(&plan) {
        client.batch_execute(&statement).await.expect(&statement);
    }
    migrate_own(&database, dir.path(), &["verify"]).ok();
    // Another label isn't an addition to be made blindly.
    let sql = "ALTER TYPE mood ADD VALUE 'so so'";
    client.batch_execute(sql).await.expect("a label");
    let told = migrate_own(&database, dir.path(), &["verify"]).fails_with(&["1 difference"]);
    assert!(told.contains("type mood: is different"), "{told}");
}

#[tokio::test]
async fn edited_missing_and_late_files_are_told_apart() {
    let a = ("V10__a.sql", "ALTER TABLE users ADD COLUMN a text");
    let b = ("V20__b.sql", "ALTER TABLE users ADD COLUMN b text");
    let c = ("V30__c.sql", "ALTER TABLE users ADD COLUMN c text");
    let database = TestDatabase::new().await;
    let all = own(&[a, b, c]);
    migrate_own(&database, all.path(), &["up"]).ok();
    migrate_own(&database, all.path(), &["verify"]).ok();
    let drift = |dir: &Path| {
        let status = migrate_own(&database, dir, &["status", "--set", "own", "--json"]).json();
        status["sets"][0]["drift"].as_str().expect("a word").to_owned()
    };
    assert_eq!(drift(all.path()), "none");

    let edited = own(&[a, ("V20__b.sql", "ALTER TABLE users ADD COLUMN b varchar"), c]);
    assert_eq!(drift(edited.path()), "edited");
    let words = [
        "own V20__b",
        "different from what was applied",
        "stamp 30 --set own",
    ];
    migrate_own(&database, edited.path(), &["up"]).fails_with(&words);
    let told = migrate_own(&database, edited.path(), &["verify"]).fails_with(&["1 difference, 1 problem"]);
    assert!(
        told.contains("edited: own V20__b") && told.contains("column users.b: is different"),
        "{told}"
    );

    let missing = own(&[a, c]);
    assert_eq!(drift(missing.path()), "missing");
    let told = migrate_own(&database, missing.path(), &["verify"]).fails_with(&["problem"]);
    assert!(
        told.contains("missing: own V20__b: was applied at 2") && told.contains("its file is gone"),
        "{told}"
    );

    let late = own(&[
        a,
        ("V15__late.sql", "ALTER TABLE users ADD COLUMN late text"),
        b,
        c,
    ]);
    assert_eq!(drift(late.path()), "out-of-order");
    let words = ["own V15__late", "never applied", "above 30", "stamp 30 --set own"];
    migrate_own(&database, late.path(), &["up"]).fails_with(&words);

    let older = own(&[a, b]);
    assert_eq!(drift(older.path()), "newer");
    migrate_own(&database, older.path(), &["verify"]).fails_with(&["own V30__c", "newer"]);
    // A deployment that was rolled back goes on.
    migrate_own(&database, older.path(), &["up"]).ok();

    // Without the directory nobody can tell.
    migrate(&database, &["verify"]).fails_with(&["--migrations-dir"]);
    let status = migrate(&database, &["status", "--json"]).json();
    assert_eq!(status["sets"][6]["drift"], "unread");
    // The edit was of no matter: it is recorded as it is now.
    migrate_own(&database, edited.path(), &["stamp", "30"]).ok();
    assert_eq!(drift(edited.path()), "none");
}

#[tokio::test]
async fn no_scratch_database_stays() {
    let database = TestDatabase::new().await;
    let admin = database.client().await;
    let sql = "SELECT datname::text FROM pg_database WHERE datname LIKE 'chatledger_scratch_%'";
    let name_of_now = |row: tokio_postgres::Row| row.get::<_, String>(0);
    migrate(&database, &["verify"]).ok();
    // One that a killed run has left long ago is cleared away; others' are left alone.
    let old = format!("chatledger_scratch_1000000000_{}", uuid::Uuid::now_v7().simple());
    admin
        .batch_execute(&format!("CREATE DATABASE {old}"))
        .await
        .expect("a database");
    migrate(&database, &["verify"]).ok();
    let left: Vec<String> = admin
        .query(sql, &[])
        .await
        .expect("names")
        .into_iter()
        .map(name_of_now)
        .collect();
    assert!(!left.contains(&old), "{left:?}");
    assert_eq!(scratch_databases(&database).await, 0);
}

#[tokio::test]
async fn a_role_that_may_not_create_databases_is_told_where_else() {
    let (database, elsewhere) = (TestDatabase::new().await, TestDatabase::empty().await);
    let role = format!("careful_{}", database.name);
    let sql = format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data TO {role}");
    database.client().await.batch_execute(&sql).await.expect("a role");
    let verify = |flags: &[&str]| {
        let mut command = command(&database, &["verify"]);
        command
            .args(flags)
            .env("DATABASE_URL", format!("{}&user={role}", database.url()));
        CommandOutcome::of(command.output().expect("chatledger"))
    };
    verify(&[]).fails_with(&["may not create one", "--scratch-url"]);
    verify(&["--scratch-url", &elsewhere.url()]).ok();
    let damage = "ALTER TABLE users ALTER COLUMN email DROP NOT NULL";
    database.client().await.batch_execute(damage).await.expect(damage);
    let told = verify(&["--scratch-url", &elsewhere.url()]).fails_with(&["1 difference"]);
    assert!(told.contains("NOT NULL of users.email: is missing"), "{told}");
    assert_eq!(scratch_databases(&elsewhere).await, 0);
}
