//! What `serve` does with the schema.

use super::*;
use crate::harness::process::serve;

fn serve_over(database: &TestDatabase, args: &[&str]) -> Command {
    let mut command = serve();
    command.env("DATABASE_URL", database.url()).args(args);
    command
}

#[tokio::test]
async fn with_check_an_older_schema_is_refused_and_the_command_named() {
    let database = TestDatabase::empty().await;
    let check = || {
        CommandOutcome::of(
            serve_over(&database, &["--migrate", "check"])
                .output()
                .expect("chatledger"),
        )
    };
    check().fails_with(&[
        "older than this program",
        "access V1__api_keys",
        "`chatledger migrate up`",
    ]);
    migrate(&database, &["up", "--to", "4"]).ok();
    check().fails_with(&["chat V5__sql_by_hand"]);
    assert_eq!(versions(&database), "access 2, auth 2, chat 4");
    migrate(&database, &["up"]).ok();
    ServerProcess::start(&mut serve_over(&database, &["--migrate", "check"])).ready_line();
    // A newer one of the same major version: a binary was rolled back.
    let client = database.client().await;
    let newer = "INSERT INTO chatledger_chat_migrations VALUES (7, 'newer', '2030-01-01T00:00:00Z', '1')";
    client.batch_execute(newer).await.expect("a newer schema");
    for mode in ["check", "auto"] {
        ServerProcess::start(&mut serve_over(&database, &["--migrate", mode])).ready_line();
    }
    client
        .batch_execute("UPDATE chatledger_chat_migrations SET version = 1000 WHERE version = 7")
        .await
        .expect("another major version");
    for mode in ["check", "auto"] {
        let refused = serve_over(&database, &["--migrate", mode])
            .output()
            .expect("chatledger");
        CommandOutcome::of(refused).fails_with(&["too new", "chat V1000"]);
    }
    ServerProcess::start(&mut serve_over(&database, &["--migrate", "off"])).ready_line();
}

#[tokio::test]
async fn with_off_nothing_is_looked_at() {
    let database = TestDatabase::empty().await;
    ServerProcess::start(&mut serve_over(&database, &["--migrate", "off"])).ready_line();
    assert_eq!(versions(&database), "");
}

#[tokio::test]
async fn own_migrations_run_at_boot_after_the_embedded_ones() {
    let database = TestDatabase::empty().await;
    let dir = own(&[("V1__tz.sql", "ALTER TABLE messages ADD COLUMN tz text")]);
    let path = dir.path().display().to_string();
    let servers: Vec<ServerProcess> = (0..4)
        .map(|_| ServerProcess::start(&mut serve_over(&database, &["--migrations-dir", &path])))
        .collect();
    for server in &servers {
        server.ready_line();
    }
    assert_eq!(versions(&database), format!("{HEADS}, own 1"));
    migrate_own(&database, dir.path(), &["verify"]).ok();
}
