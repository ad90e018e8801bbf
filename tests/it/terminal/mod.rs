//! The commands for people at a terminal, over a real server: what they show of contents that were written to do harm, `--json`,
//! a pipe that closes, and what they say of mistakes.

mod probes;
mod pseudo_terminal;
mod watching;

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{process::chatledger, *};

/// Escape sequences that clear the screen and set the title, C1 controls, another order of writing, and carriage returns.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}good\rbad\x08";

/// The program with a server as its target.
fn look(server: &TestServer, args: &[&str]) -> Command {
    let mut command = chatledger();
    command
        .args(args)
        .env("CHATLEDGER_TARGET", format!("http://{}", server.address));
    command
}

/// What it says until it ends. The server is in this process, and goes on meanwhile.
async fn run(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.expect("no panic").expect("chatledger")
}

async fn stdout_of(command: Command) -> String {
    let output = run(command).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The one line that it says before it fails.
async fn mistake(command: Command) -> String {
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.strip_suffix('\n').expect("a line").to_owned();
    assert!(line.starts_with("chatledger: ") && !line.contains('\n'), "{line}");
    line
}

fn lines(text: &str) -> Vec<Value> {
    let read = |line| serde_json::from_str(line).expect("an object a line");
    text.lines().map(read).collect()
}

#[track_caller]
fn assert_harmless(shown: &str) {
    let obeyed = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!shown.contains(obeyed), "{shown:?}");
}

/// A session of a user whose title and messages were written to do harm; the ids of both.
async fn hostile_session(server: &TestServer) -> (String, String) {
    let user = new_user(server).await.id;
    let request = pb::CreateSessionRequest {
        user_id: Some(user.clone()),
        title: Some(format!("Walking {HOSTILE} 漢字")),
        ..Default::default()
    };
    let session = server.sessions().create_session(request).await;
    let session = answer(session).session.expect("a session").id;
    append(server, &session, text("How do robots walk?"))
        .await
        .expect("a receipt");
    let reply = pb::NewMessage {
        role: pb::Role::Assistant.into(),
        metadata_json: r#"{"n": 9007199254740993}"#.to_owned(),
        payload: Some(vec![0, 159, 146, 150].into()),
        citations: vec![citation("gaits\x1b[31m.pdf", "7", 0.25)],
        ..text(&format!("Robots walk {HOSTILE}\nlike 漢字"))
    };
    append(server, &session, reply).await.expect("a receipt");
    (user, session)
}

#[tokio::test]
async fn what_was_written_to_do_harm_is_shown_and_does_none() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (user, session) = hostile_session(&server).await;

    let shown = stdout_of(look(&server, &["sessions", "--user", &user])).await;
    assert_harmless(&shown);
    let row = shown.lines().nth(1).expect("a row");
    assert!(
        row.contains(&session) && row.contains("Walking ␛[2J␛]0;owned␇"),
        "{shown}"
    );
    assert!(row.contains("good␍bad␈ 漢字"), "{shown}");

    let shown = stdout_of(look(&server, &["messages", &session])).await;
    assert_harmless(&shown);
    for part in [
        "#1 user",
        "How do robots walk?",
        "#2 assistant",
        "Robots walk ␛[2J",
        "    like 漢字",
        "[1] gaits␛[31m.pdf, chunk 7  score 0.25",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let one = stdout_of(look(
        &server,
        &["messages", &session, "--limit", "1", "--role", "user"],
    ))
    .await;
    assert!(one.contains("#1 user") && !one.contains("#2"), "{one}");

    let shown = stdout_of(look(&server, &["search", "walk", "--session", &session])).await;
    assert_harmless(&shown);
    assert!(
        shown.contains("*walk*") && shown.contains("#1 user") && shown.contains("#2 assistant"),
        "{shown}"
    );
    let none = stdout_of(look(&server, &["search", "elephants", "--user", &user])).await;
    assert_eq!(none, "nothing found\n");
}

#[tokio::test]
async fn json_loses_nothing_and_a_pipe_that_closes_is_no_error() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (user, session) = hostile_session(&server).await;
    let stored = messages_of(&server, &session).await;

    let shown = stdout_of(look(&server, &["messages", &session, "--json"])).await;
    assert_harmless(&shown);
    let found = lines(&shown);
    assert_eq!(found.len(), 2);
    for (object, message) in found.iter().zip(&stored) {
        assert_eq!(object["id"], message.id);
        assert_eq!(object["seq"], message.seq);
        assert_eq!(object["content"], message.content);
        assert_eq!(object["metadata_json"], message.metadata_json);
    }
    assert_eq!(found[1]["role"], "assistant");
    assert_eq!(found[1]["payload"], "AJ+Slg==");
    assert_eq!(found[1]["citations"][0]["document_id"], "gaits\x1b[31m.pdf");
    let sessions = lines(&stdout_of(look(&server, &["sessions", "--user", &user, "--json"])).await);
    assert_eq!(sessions[0]["title"], get_session(&server, &session).await.title);
    let hits = lines(&stdout_of(look(&server, &["search", "walk", "--user", &user, "--json"])).await);
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0]["message"]["session_id"], session);
    let nobodys = new_session(&server).await;
    let sessions = lines(&stdout_of(look(&server, &["sessions", "--anonymous", "--json"])).await);
    assert_eq!(
        (sessions.len(), sessions[0]["id"].as_str()),
        (1, Some(nobodys.as_str()))
    );
    // Behind a seq, from the oldest on.
    let after = stdout_of(look(&server, &["messages", &session, "--after", "1", "--json"])).await;
    assert_eq!(lines(&after)[0]["seq"], 2);

    let mut child = look(&server, &["messages", &session])
        .spawn()
        .expect("chatledger");
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = output.await.expect("no panic").expect("its end");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn mistakes_name_the_flag_and_health_answers_by_its_exit_code() {
    let database = TestDatabase::new().await;
    let mut server = start(&database).await;
    assert_eq!(stdout_of(look(&server, &["health"])).await, "serving\n");
    let unknown = mistake(look(&server, &["health", "--service", "nobody's"])).await;
    assert!(unknown.contains("NOT_FOUND"), "{unknown}");

    let missing = id();
    for command in ["messages", "watch"] {
        let said = mistake(look(&server, &[command, &missing])).await;
        assert!(said.contains("NOT_FOUND"), "{said}");
    }
    let named = |flag: &str, value: &str| {
        let mut command = look(&server, &["sessions", "--anonymous"]);
        command.arg(flag).arg(value);
        command
    };
    for (flag, value) in [
        ("--target", "ftp://localhost"),
        ("--tls-ca", "/nowhere/ca.pem"),
        ("--tls-server-name", "chat.example.com"),
        ("--api-key", "a\nb"),
    ] {
        let said = mistake(named(flag, value)).await;
        assert!(said.contains(flag) && !said.contains("a\nb"), "{said}");
    }
    for wrong in [
        &["sessions"][..],
        &["sessions", "--anonymous", "--order", "active"],
        &["messages", "1"],
    ] {
        assert_eq!(
            run(look(&server, wrong)).await.status.code(),
            Some(2),
            "{wrong:?}"
        );
    }

    let command = look(&server, &["health"]);
    server.ask_to_stop();
    server.stop().await;
    let said = mistake(command).await;
    assert!(
        said.contains("--target") && said.contains("can't reach"),
        "{said}"
    );
}
