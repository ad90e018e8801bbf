//! status, history, up, down, stamp and plan.

use super::*;
use std::io::Write;

use crate::{
    harness::process::{ServerProcess, open_dir},
    migrations::catalog,
};

#[tokio::test]
async fn up_applies_what_is_pending_and_status_and_history_tell_it() {
    let database = TestDatabase::empty().await;
    let status = migrate(&database, &["status", "--json"]).json();
    assert_eq!(status["up_to_date"], false);
    assert_eq!(status["sets"][2]["pending"].as_array().expect("a list").len(), 6);
    assert!(status["sets"][2]["current"].is_null());

    let changes = migrate(&database, &["up", "--json"]).json();
    let expected = [
        "access V1__api_keys",
        "access V2__audit_events",
        "auth V1__users",
        "auth V2__user_profiles",
        "chat V1__chat_sessions",
        "chat V2__messages",
        "chat V3__message_citations",
        "chat V4__documents",
        "chat V5__sql_by_hand",
        "chat V6__reports",
        "link V1__session_owner",
    ];
    assert_eq!(names(&changes), expected);
    assert_eq!(
        migrate(&database, &["up", "--json"]).json(),
        serde_json::json!([])
    );

    let status = migrate(&database, &["status", "--json"]).json();
    assert_eq!(status["up_to_date"], true);
    let chat = &status["sets"][2];
    assert_eq!(
        (&chat["set"], &chat["current"], &chat["head"]),
        (&"chat".into(), &6.into(), &6.into())
    );
    assert_eq!(chat["drift"], "none");
    let applied: jiff::Timestamp = chat["applied_at"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert!(applied.duration_until(jiff::Timestamp::now()).as_secs() < 600);

    let text = migrate(&database, &["status"]).ok();
    assert!(
        text.contains("SET     CURRENT  HEAD  PENDING") && text.contains("search  -        1     opt-in"),
        "{text}"
    );
    let history = migrate(&database, &["history"]).ok();
    assert_eq!(history.lines().count(), 1 + expected.len(), "{history}");
    // What a booting server makes is the same.
    let template = TestDatabase::new().await;
    assert_eq!(
        catalog(&database.client().await).await,
        catalog(&template.client().await).await
    );
}

#[tokio::test]
async fn up_and_down_go_as_far_as_they_are_told() {
    let database = TestDatabase::empty().await;
    migrate(&database, &["up", "--steps", "5"]).ok();
    assert_eq!(versions(&database), "access 2, auth 2, chat 1");
    migrate(&database, &["up", "--to", "4"]).ok();
    assert_eq!(versions(&database), "access 2, auth 2, chat 4");
    // Versions count in each set.
    migrate(&database, &["up", "--to", "7"]).fails_with(&["--to 7", "no pending migration", "history"]);
    migrate(&database, &["down", "--to", "1", "--yes"]).fails_with(&[
        "--to 1",
        "access, auth, chat",
        "--set",
    ]);
    migrate(&database, &["down", "--to", "2", "--set", "chat", "--yes"]).ok();
    assert_eq!(versions(&database), "access 2, auth 2, chat 2");
    migrate(&database, &["up"]).ok();
    assert_eq!(versions(&database), HEADS);
    // One step, unless it is told otherwise; a constraint goes without a question.
    let changes = migrate(&database, &["down", "--json"]).json();
    assert_eq!(names(&changes), ["link V1__session_owner"]);
    migrate(&database, &["down", "--steps", "2", "--yes"]).ok();
    assert_eq!(versions(&database), "access 2, auth 2, chat 4");
    migrate(&database, &["down", "--to", "0", "--yes"]).ok();
    assert_eq!(versions(&database), "");
    assert_eq!(
        migrate(&database, &["down", "--json"]).json(),
        serde_json::json!([])
    );
    assert!(catalog(&database.client().await).await.is_empty());
}

#[tokio::test]
async fn each_scope_has_its_sets() {
    let database = TestDatabase::empty().await;
    migrate(&database, &["up", "--scope", "chat"]).ok();
    assert_eq!(versions(&database), "access 2, chat 6");
    migrate(&database, &["up", "--scope", "chat", "--set", "auth"]).fails_with(&["--set auth", "--scope"]);
    migrate(&database, &["up", "--scope", "auth", "--with", "search"])
        .fails_with(&["--with search", "--scope"]);
    migrate(&database, &["up"]).ok();
    assert_eq!(versions(&database), HEADS);
}

#[tokio::test]
async fn what_others_stand_on_is_not_taken_from_under_them() {
    let database = TestDatabase::new().await;
    for args in [
        ["down", "--set", "chat", "--yes"],
        ["down", "--scope", "auth", "--yes"],
    ] {
        migrate(&database, &args).fails_with(&["set link stands on", "migrate down --set link --to 0"]);
    }
    assert_eq!(versions(&database), HEADS);
    migrate(&database, &["up", "--with", "search"]).ok();
    migrate(&database, &["down", "--set", "link"]).ok();
    migrate(&database, &["down", "--set", "chat", "--yes"]).fails_with(&["set search stands on chat"]);
    migrate(&database, &["down", "--set", "search"]).ok();
    migrate(&database, &["down", "--set", "chat", "--yes"]).ok();
}

#[tokio::test]
async fn down_asks_before_rows_are_dropped() {
    let database = TestDatabase::new().await;
    let before = catalog(&database.client().await).await;
    // Without a terminal there is nobody to ask.
    let refused = migrate(&database, &["down", "--to", "0"]);
    refused.fails_with(&["chat V2__messages", "auth V1__users", "--yes"]);
    assert_eq!(catalog(&database.client().await).await, before);
}

#[tokio::test]
async fn the_plan_is_what_up_would_run_and_runs_nothing() {
    let (planned, applied) = (TestDatabase::empty().await, TestDatabase::new().await);
    let plan = migrate(&planned, &["plan", "--json"]).json();
    assert!(catalog(&planned.client().await).await.is_empty());
    assert_eq!(versions(&planned), "");
    let steps = plan.as_array().expect("steps");
    assert_eq!(steps.len(), 11);
    let text = migrate(&planned, &["plan"]).ok();
    let client = planned.client().await;
    for step in steps {
        let sql = step["sql"].as_str().expect("SQL");
        assert_eq!(step["in_transaction"], true);
        assert!(sql.contains("SET LOCAL lock_timeout = '1000ms'"), "{sql}");
        let body = sql.split("INSERT INTO chatledger_").next().expect("a beginning");
        assert!(text.contains(body), "{text}");
        client.batch_execute(sql).await.expect("it runs as it is");
    }
    assert_eq!(
        catalog(&client).await,
        catalog(&applied.client().await)
            .await
            .into_iter()
            // `up` validates it afterwards, since no session is without its user.
            .map(|line| if line.contains("chat_sessions_user_fkey") {
                format!("{line} NOT VALID")
            } else {
                line
            })
            .collect::<Vec<_>>()
    );
    let status = migrate(&planned, &["status", "--json"]).json();
    assert_eq!(
        (&status["up_to_date"], &status["sets"][2]["drift"]),
        (&true.into(), &"none".into())
    );
    assert_eq!(migrate(&planned, &["plan"]).ok(), "-- Nothing is pending.\n");

    let search = migrate(&planned, &["plan", "--with", "search", "--json"]).json();
    assert_eq!(search[0]["in_transaction"], false);
    assert!(!search[0]["sql"].as_str().expect("SQL").contains("BEGIN"));
}

#[tokio::test]
async fn stamp_records_without_running() {
    // A schema that somebody has applied by hand.
    let (template, database) = (TestDatabase::new().await, TestDatabase::new().await);
    let client = database.client().await;
    for set in ["auth", "chat", "link"] {
        client
            .batch_execute(&format!("DROP TABLE chatledger_{set}_migrations"))
            .await
            .expect("a drop");
    }
    migrate(&database, &["up"]).fails_with(&["auth V1__users", "already exists"]);
    migrate(&database, &["stamp", "1"]).fails_with(&["stamp 1", "auth, chat", "--set"]);
    migrate(&database, &["stamp", "9"]).fails_with(&["stamp 9", "no migration"]);
    migrate(&database, &["stamp", "0"]).fails_with(&["--set"]);
    migrate(&database, &["stamp", "6"]).ok();
    migrate(&database, &["stamp", "2", "--set", "auth"]).ok();
    let stamped = migrate(&database, &["stamp", "1", "--set", "link", "--json"]).json();
    assert_eq!(stamped["recorded"], serde_json::json!(["V1__session_owner"]));
    assert_eq!(versions(&database), HEADS);
    assert_eq!(migrate(&database, &["up"]).ok(), "Nothing is pending.\n");
    assert_eq!(catalog(&client).await, catalog(&template.client().await).await);
    // Back, and it forgets what is above.
    let stamped = migrate(&database, &["stamp", "4", "--set", "chat", "--json"]).json();
    assert_eq!(
        stamped["forgotten"],
        serde_json::json!(["V5__sql_by_hand", "V6__reports"])
    );
    assert_eq!(versions(&database), "access 2, auth 2, chat 4, link 1");
    migrate(&database, &["stamp", "0", "--set", "chat"]).ok();
    assert_eq!(versions(&database), "access 2, auth 2, link 1");
}

#[tokio::test]
async fn without_a_url_it_is_the_embedded_database_as_for_serve() {
    let top = open_dir();
    let dir = top.path().join("data");
    let run = |args: &[&str]| {
        let mut command = chatledger();
        let output = command
            .arg("migrate")
            .args(args)
            .arg("--data-dir")
            .arg(&dir)
            .output();
        CommandOutcome::of(output.expect("chatledger"))
    };
    run(&["up"]).ok();
    assert_eq!(run(&["status", "--json"]).json()["up_to_date"], true);
    // Its role is no superuser, and may make scratch databases.
    run(&["verify"]).ok();
    run(&["up", "--with", "rls"]).ok();
    run(&["rehearse"]).ok();
    let server = ServerProcess::start(&mut process::serve_in(&dir));
    server.ready_line();
    run(&["status"]).fails_with(&[
        "in use",
        "--database-url",
        "postgresql://chatledger@/chatledger?host=",
    ]);
}

#[tokio::test]
async fn the_password_of_the_url_is_in_no_output() {
    let database = TestDatabase::empty().await;
    let rest = database.url();
    let rest = rest.split_once("postgres@").expect("the user").1;
    let url = format!("postgres://postgres:hunter2@{rest}");
    let top = tempfile::tempdir().expect("a directory");
    let backup = top.path().join("b").display().to_string();
    for args in [
        &["status"][..],
        &["up", "--backup", &backup],
        &["verify"],
        &["rehearse"],
        &["down", "--to", "77"],
        &["status", "--help"],
    ] {
        let mut command = command(&database, args);
        let ran = CommandOutcome::of(
            command
                .env("DATABASE_URL", &url)
                .env("RUST_LOG", "trace")
                .output()
                .expect("it"),
        );
        assert!(
            !ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"),
            "{args:?}"
        );
    }
    let wrong = CommandOutcome::of(
        command(&database, &["status"])
            .env("DATABASE_URL", "mysql://a:hunter2@b/c")
            .output()
            .expect("it"),
    );
    assert!(!wrong.stderr.contains("hunter2"));
    wrong.fails_with(&["--database-url", "postgres://"]);
}

#[tokio::test]
async fn at_a_terminal_down_asks_and_goes_by_the_answer() {
    for (answer, code, there) in [
        ("n\n", 1, HEADS),
        ("\n", 1, HEADS),
        ("Yes\n", 0, "access 2, auth 2, chat 4"),
    ] {
        let database = TestDatabase::new().await;
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let mut command = command(&database, &["down", "--steps", "3"]);
        let mut process = ServerProcess::start(command.stdin(terminal.slave));
        process.says("chat V5__sql_by_hand, with the rows").await;
        std::fs::File::from(terminal.master)
            .write_all(answer.as_bytes())
            .expect("an answer");
        assert_eq!(process.ended().await.code(), Some(code), "{}", process.stderr());
        assert_eq!(versions(&database), there);
    }
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let database = TestDatabase::new().await;
    let mut command = command(&database, &["plan", "--json"]);
    let mut child = command.spawn().expect("chatledger");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its end");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !errors.contains("panicked"),
        "{errors}"
    );
}
