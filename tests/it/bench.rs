//! `chatledger bench append`: against real servers, what it reports is what happened.

use std::{path::Path, process::Command};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    process::{chatledger, open_dir},
    *,
};

/// `bench append` against a server.
fn append_to(server: &TestServer, flags: &str) -> Command {
    let mut command = chatledger();
    command
        .args([
            "bench",
            "append",
            "--target",
            &format!("http://{}", server.address),
        ])
        .args(flags.split_whitespace());
    command
}

/// Runs it to its end, and answers its exit code and its report.
async fn report_of(command: &mut Command) -> (i32, Value) {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("report.json");
    let mut process = ServerProcess::start(command.arg("--json").arg(&file));
    let code = process.ended().await.code().expect("an exit code");
    (code, read(&file, &process))
}

fn read(file: &Path, process: &ServerProcess) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| panic!("no report: {}", process.stderr()));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("an empty report: {}", process.stderr()))
}

async fn count(database: &TestDatabase, table: &str) -> u64 {
    let client = database.client().await;
    let row = client
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await;
    u64::try_from(row.expect("a count").get::<_, i64>(0)).expect("not negative")
}

fn whole(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a whole number, not {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

#[tokio::test]
async fn every_mode_reports_what_is_stored() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut stored = 0;
    for flags in [
        "--mode unary --in-flight 8",
        "--mode batch --in-flight 4 --batch-messages 20",
        "--mode stream --streams 2 --in-flight 500 --content-bytes uniform:10..2000",
    ] {
        let flags = format!("{flags} --sessions 20 --citations 2 --duration 300ms --keep");
        let (code, report) = report_of(&mut append_to(&server, &flags)).await;
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["kind"], "append");
        assert_eq!(report["interrupted"], false);
        assert_eq!(report["errors"], serde_json::json!({}));
        assert_eq!(report["settings"]["sessions"], 20);

        let messages = whole(&report["messages"]);
        assert!(messages > 0, "{report}");
        stored += messages;
        assert_eq!(count(&database, "messages").await, stored, "{flags}");
        let verify = &report["verify"];
        assert_eq!(verify["ok"], true, "{verify}");
        assert_eq!(whole(&verify["messages"]), messages);
        assert_eq!(whole(&verify["sessions"]), 20);

        let latency = &report["latency_ms"];
        let order = ["p50", "p90", "p99", "p99_9", "max"].map(|name| number(&latency[name]));
        assert!(order[0] > 0.0 && order.is_sorted(), "{latency}");
        // The rate is of what was answered in time, which may be fewer than all that are measured.
        let in_time = whole(&report["messages_in_time"]);
        assert!((1..=messages).contains(&in_time), "{report}");
        #[allow(clippy::cast_precision_loss)]
        let rate = in_time as f64 / number(&report["seconds"]);
        assert!(
            (number(&report["throughput"]) / rate - 1.0).abs() < 1e-6,
            "{report}"
        );
        assert!(
            (number(&report["seconds"]) - 0.3).abs() < 1e-6,
            "{}",
            report["seconds"]
        );
        let intervals = report["intervals"].as_array().expect("a list");
        let slowest = intervals
            .iter()
            .map(|interval| number(&interval["max_ms"]))
            .fold(0.0, f64::max);
        assert!((slowest / order[4] - 1.0).abs() < 0.02, "{slowest} {latency}");
        assert!(
            intervals
                .iter()
                .all(|interval| number(&interval["p50_ms"]) <= number(&interval["max_ms"]))
        );
        assert!(number(&report["cpu_seconds"]["client"]) >= 0.0);
    }
    assert_eq!(count(&database, "message_citations").await, 2 * stored);
    assert_eq!(count(&database, "chat_sessions").await, 60);
    server.stop().await;
}

#[tokio::test]
async fn a_rate_is_kept_and_nothing_is_left_behind() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let flags = "--mode unary --rate 100 --duration 1s --sessions 5";
    let (code, report) = report_of(&mut append_to(&server, flags)).await;
    assert_eq!(code, 0, "{report}");
    // Message k is due at k / 100 s: that is what the server gets, unless it can't take them in time.
    let due = whole(&report["messages"]) + whole(&report["unsent"]);
    assert!((95..=101).contains(&due), "{report}");
    assert_eq!(count(&database, "chat_sessions").await, 0);
    assert_eq!(count(&database, "messages").await, 0);
    server.stop().await;
}

#[tokio::test]
async fn one_seed_sends_the_same_contents() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let flags = format!(
            "--mode unary --in-flight 1 --sessions 1 --seed {seed} --content-bytes uniform:1..500 --duration 100ms --keep"
        );
        assert_eq!(report_of(&mut append_to(&server, &flags)).await.0, 0);
        let client = database.client().await;
        let rows = client
            .query("SELECT m.content FROM messages m JOIN (SELECT id FROM chat_sessions ORDER BY created_at DESC LIMIT 1) s ON s.id = m.session_id ORDER BY m.seq LIMIT 3", &[])
            .await
            .expect("the messages");
        seen.push(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    }
    let shown = seen[0].len().min(seen[1].len());
    assert!(shown > 0);
    assert_eq!(seen[0][..shown], seen[1][..shown]);
    assert_ne!(seen[0][0], seen[2][0]);
    server.stop().await;
}

#[tokio::test]
async fn errors_are_counted_by_code_and_are_no_loss() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.limits.max_content_bytes = 100).await;
    let flags = "--mode stream --sessions 3 --content-bytes uniform:1..200 --duration 200ms";
    let (code, report) = report_of(&mut append_to(&server, flags)).await;
    assert_eq!(code, 0, "{report}");
    assert!(whole(&report["errors"]["INVALID_ARGUMENT"]) > 0, "{report}");
    assert!(whole(&report["messages"]) > 0, "{report}");
    assert_eq!(report["verify"]["ok"], true, "{report}");

    let flags = "--mode unary --in-flight 2 --sessions 3 --content-bytes 200 --duration 200ms";
    let (code, report) = report_of(&mut append_to(&server, flags)).await;
    assert_eq!(code, 1, "nothing could be stored: {report}");
    assert_eq!(whole(&report["messages"]), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_its_own_leaves_nothing_behind_and_the_page_needs_nothing_else() {
    let temporary = open_dir();
    let page = temporary.path().join("report.html");
    let mut command = chatledger();
    command
        .args([
            "bench",
            "append",
            "--duration",
            "300ms",
            "--sessions",
            "10",
            "--html",
        ])
        .arg(&page)
        .env("TMPDIR", temporary.path());
    let (code, report) = report_of(&mut command).await;
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["verify"]["ok"], true);
    for party in ["client", "server", "postgres"] {
        assert!(number(&report["cpu_seconds"][party]) >= 0.0, "{party}");
    }
    assert!(number(&report["server_memory"]["peak_mib"]) > 1.0);

    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.starts_with("<!doctype html>"));
    assert_eq!(html.matches("<svg").count(), 3);
    assert_eq!(html.matches("<polyline").count(), 4);
    for needed in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!html.contains(needed), "{needed}");
    }
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(left, [page]);
}

#[tokio::test]
async fn ctrl_c_shows_what_was_measured_and_cleans_up() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("report.json");
    let mut command = append_to(&server, "--mode unary --in-flight 4 --sessions 3 --duration 60m");
    let mut process = ServerProcess::start(command.arg("--json").arg(&file));
    eventually("messages", async || {
        (count(&database, "messages").await > 0).then_some(())
    })
    .await;
    process.signal(Signal::SIGINT);
    assert!(process.ended().await.success(), "{}", process.stderr());
    let report = read(&file, &process);
    assert_eq!(report["interrupted"], true);
    assert!(whole(&report["messages"]) > 0);
    assert_eq!(report["verify"]["ok"], true, "{report}");
    assert_eq!(count(&database, "chat_sessions").await, 0);
    server.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_in_one_line_before_anything_is_measured() {
    for (flags, code, part) in [
        ("append --target 127.0.0.1:1", 1, "--target"),
        (
            "append --target http://127.0.0.1:1",
            1,
            "can't reach http://127.0.0.1:1",
        ),
        (
            "append --json /nowhere/report.json",
            1,
            "--json /nowhere/report.json",
        ),
        (
            "append --mode stream --streams 9 --in-flight 8",
            1,
            "--in-flight 8",
        ),
        ("append --mode unary --in-flight 70000", 1, "--in-flight 70000"),
        ("append --content-bytes lognormal:512", 2, "--content-bytes"),
        ("append --rate 0", 2, "--rate"),
        ("append --duration soon", 2, "--duration"),
        ("compare --target http://127.0.0.1:1", 1, "--database-url"),
        ("compare --database-url postgresql://127.0.0.1:1/x", 2, "--target"),
    ] {
        let mut command = chatledger();
        let mut process = ServerProcess::start(command.arg("bench").args(flags.split_whitespace()));
        let status = process.ended().await;
        let said = eventually("the last words", async || {
            let said = process.stderr();
            said.ends_with('\n').then_some(said)
        })
        .await;
        assert_eq!(status.code(), Some(code), "{flags}: {said}");
        assert!(said.contains(part), "{flags}: {said}");
        assert!(code == 2 || said.lines().count() == 1, "{flags}: {said}");
    }
}
