//! `chatledger bench compare`: with tiny parameters, everybody takes part, and the ledger is whole afterwards.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{process::chatledger, *};

#[tokio::test]
async fn every_competitor_runs_and_every_ratio_is_there() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("report.json");
    let mut command = chatledger();
    command
        .args([
            "bench",
            "compare",
            "--target",
            &format!("http://{}", server.address),
        ])
        .args([
            "--database-url",
            &database.url(),
            "--rounds",
            "1",
            "--sessions",
            "50",
        ])
        // Little in flight, so that a busy machine answers some of it within a round.
        .args(["--round-duration", "250ms", "--warm-up", "20ms"])
        .args(["--in-flight", "4", "--stream-in-flight", "64"])
        .args(["--page-sessions", "4", "--many-readers", "4"])
        .args(["--uncached-sessions", "30", "--history-messages", "40"])
        .args(["--watch-rate", "100", "--large-session-messages", "2000"])
        .arg("--json")
        .arg(&file);
    let mut process = ServerProcess::start(&mut command);
    assert!(process.ended().await.success(), "{}", process.stderr());
    let text = std::fs::read_to_string(&file).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");

    for ratio in [
        "unary_to_direct",
        "unary_to_single_statement",
        "stream_to_direct",
        "stream_to_single_statement",
        "stream_to_copy",
        "stream_with_citations_to_direct",
        "lone_p50_to_direct",
        "lone_p50_to_single_statement",
        "list_to_select",
        "list_to_two_selects",
        "list_to_json_agg",
        "list_many_to_select",
        "uncached_p50_to_select",
        "read_p50_to_select",
        "read_with_citations_p50_to_select",
        "append_at_1m_to_empty",
    ] {
        assert!(
            report["ratios"][ratio].as_f64() > Some(0.0),
            "{ratio}: {}",
            report["ratios"]
        );
    }
    for metric in [
        "direct_8",
        "direct_16",
        "direct_32",
        "single_statement_8",
        "single_statement_16",
        "single_statement_32",
        "copy",
        "unary",
        "stream",
        "list",
        "select",
        "list_of_170",
        "select_json_agg",
        "list_many_p99",
        "select_many_p99",
        "watch_p99",
    ] {
        let summary = &report["metrics"][metric];
        assert!(summary["median"].as_f64() > Some(0.0), "{metric}: {summary}");
        assert_eq!(summary["rounds"].as_array().map(Vec::len), Some(1), "{metric}");
    }
    for setting in ["server_version", "fsync", "synchronous_commit"] {
        assert!(report["database"][setting].is_string(), "{setting}");
    }
    assert_eq!(report["options"]["round_seconds"], 0.25);
    assert_eq!(report["wanted"]["list_to_select"], json!({ "at_least": 0.65 }));
    assert_eq!(report["wanted"]["watch_p99"], json!({ "at_most": 50.0 }));
    assert!(report["uncached"]["data_bytes"].as_i64() > Some(0));
    assert!(report["uncached"]["leaves_page_cache"].is_boolean());
    assert_eq!(report["broken_sessions"], 0);

    // By what nobody of them wrote: no gap, and created_at agrees with seq.
    let client = database.client().await;
    let broken = client
        .query_one(
            "SELECT count(*) FROM (
                SELECT seq, row_number() OVER by_seq AS place, created_at, lag(created_at) OVER by_seq AS before
                FROM messages WINDOW by_seq AS (PARTITION BY session_id ORDER BY seq)
            ) m WHERE seq <> place OR created_at <= before",
            &[],
        )
        .await
        .expect("a count");
    assert_eq!(broken.get::<_, i64>(0), 0);
    let large: i64 = client
        .query_one("SELECT max(last_seq) FROM chat_sessions", &[])
        .await
        .expect("a session")
        .get(0);
    assert!(large > 2000, "{large}");
    server.stop().await;
}

#[tokio::test]
async fn a_database_that_isn_t_the_server_s_is_refused() {
    let [database, other] = [TestDatabase::new().await, TestDatabase::new().await];
    let server = start(&database).await;
    let mut command = chatledger();
    command
        .args([
            "bench",
            "compare",
            "--target",
            &format!("http://{}", server.address),
        ])
        .args(["--database-url", &other.url(), "--sessions", "1"]);
    let mut process = ServerProcess::start(&mut command);
    assert_eq!(process.ended().await.code(), Some(1));
    process
        .says("--database-url: a session made through --target isn't in this database")
        .await;
    server.stop().await;
}
