//! `chatledger bench growth`: with tiny numbers, each step of each kind of ids is measured, and nothing is left behind.

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    process::{chatledger, open_dir},
    *,
};

/// Its steps, each of which has all numbers.
async fn steps(ids: &str, messages: &str) -> Vec<Value> {
    let (temporary, dir) = (open_dir(), TempDir::new().expect("a directory"));
    let file = dir.path().join("report.json");
    let mut command = chatledger();
    command
        .args(["bench", "growth", "--ids", ids, "--messages", messages])
        .args(["--sessions", "10", "--rounds", "1", "--content-bytes", "100"])
        .args(["--round-duration", "150ms", "--warm-up", "10ms"])
        .args(["--in-flight", "4", "--stream-in-flight", "16", "--json"])
        .arg(&file)
        .env("TMPDIR", temporary.path());
    let mut process = ServerProcess::start(&mut command);
    assert!(process.ended().await.success(), "{}", process.stderr());
    let text = std::fs::read_to_string(&file).expect("a report");
    let mut report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["broken_sessions"], 0);
    let left = std::fs::read_dir(temporary.path())
        .expect("the directory")
        .count();
    assert_eq!(left, 0, "nothing is left behind");

    let Value::Array(steps) = report["steps"].take() else {
        panic!("no list of steps: {report}");
    };
    for step in &steps {
        assert_eq!(step["ids"], ids);
        for metric in ["stream", "unary", "lone_append_p50", "list_p50"] {
            let numbers = &step["metrics"][metric];
            for side in ["empty", "full"] {
                assert!(
                    numbers[side]["median"].as_f64() > Some(0.0),
                    "{metric}: {numbers}"
                );
            }
            assert!(numbers["cost"].as_f64() > Some(0.0), "{metric}: {numbers}");
        }
    }
    steps
}

#[tokio::test]
async fn random_ids_are_measured_at_each_number_of_messages() {
    let steps = steps("v4", "250,500").await;
    // What is appended while it is measured counts at the next step.
    let messages: Vec<_> = steps.iter().map(|step| step["messages"].as_u64()).collect();
    assert!(
        messages[0] == Some(250) && messages[1] >= Some(500),
        "{messages:?}"
    );
    assert!(steps[0]["metrics"]["stream"]["wanted"].is_null());
}

#[tokio::test]
async fn of_ids_in_the_order_of_time_something_is_wanted() {
    let steps = steps("v7", "200").await;
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["metrics"]["stream"]["wanted"]["at_most"], 1.3);
}

#[tokio::test]
async fn numbers_that_make_no_steps_are_refused() {
    for (flags, part) in [
        ("--messages 500,500 --sessions 10", "each number must be above"),
        ("--messages 199 --sessions 10", "20 at least for each of the 10"),
        ("--messages many", "--messages"),
        ("--ids v1", "--ids"),
        ("--content-bytes 1048577", "--content-bytes"),
    ] {
        let mut command = chatledger();
        command.args(["bench", "growth"]).args(flags.split_whitespace());
        let mut process = ServerProcess::start(&mut command);
        assert!(!process.ended().await.success(), "{flags}");
        process.says(part).await;
    }
}
