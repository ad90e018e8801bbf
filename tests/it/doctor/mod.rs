//! `chatledger doctor`, against databases in which something is wrong on purpose: exactly that is told.

mod clusters;
pub mod ways;

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use chatledger_doctor::CHECKS;
use serde_json::Value;

use crate::harness::{process::chatledger, *};

/// The findings of a run by id.
#[derive(Debug)]
struct Findings {
    checks: BTreeMap<String, Value>,
    document: Value,
    code: Option<i32>,
    stderr: String,
}

impl Findings {
    fn severity(&self, id: &str) -> &str {
        self.checks[id]["severity"].as_str().expect("a severity")
    }

    fn found(&self, id: &str) -> &str {
        self.checks[id]["found"].as_str().expect("what was found")
    }

    /// What isn't as it was, with what it is now. How quick the machine is just then is nobody's fault.
    fn changes(&self, before: &Findings) -> BTreeMap<String, String> {
        self.checks
            .keys()
            .filter(|id| *id != "connection.latency")
            .filter(|id| self.severity(id) != before.severity(id))
            .map(|id| (id.clone(), self.severity(id).to_owned()))
            .collect()
    }

    /// What is wrong, and isn't the test cluster's own, which nothing has to outlive, or this machine's.
    fn errors(&self) -> Vec<&str> {
        let wrong = self.checks.keys().filter(|id| self.severity(id) == "error");
        wrong
            .map(String::as_str)
            .filter(|id| !id.starts_with("durability.") && *id != "room.disk")
            .collect()
    }
}

async fn output_of(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.expect("no panic").expect("chatledger")
}

/// `doctor --json` with these variables.
async fn examine(variables: &[(&str, &str)], args: &[&str]) -> Findings {
    let mut command = chatledger();
    command.args(["doctor", "--json"]).args(args);
    command.envs(variables.iter().copied());
    let output = output_of(command).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let checks = document["checks"].as_array().expect("checks");
    let id = |check: &Value| check["id"].as_str().expect("an id").to_owned();
    Findings {
        checks: checks.iter().map(|check| (id(check), check.clone())).collect(),
        code: output.status.code(),
        stderr,
        document,
    }
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_told_and_nothing_else() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let client = database.client().await;
    let database_set = |what: &str| format!("ALTER DATABASE {} SET {what}", database.name);
    let before = examine(&[("DATABASE_URL", &url)], &[]).await;
    assert_eq!(before.errors(), Vec::<&str>::new(), "{before:?}");
    let steps = [
        // First, since how many connections other tests have changes.
        (
            format!("ALTER DATABASE {} CONNECTION LIMIT 5", database.name),
            "server.connections",
            "error",
        ),
        (
            database_set("synchronous_commit = on"),
            "durability.synchronous_commit",
            "ok",
        ),
        (
            database_set("statement_timeout = '4s'"),
            "timeouts.statement",
            "warning",
        ),
        (database_set("lock_timeout = '2s'"), "timeouts.lock", "warning"),
        (
            database_set("idle_session_timeout = '1min'"),
            "timeouts.idle_session",
            "warning",
        ),
        (
            database_set("idle_in_transaction_session_timeout = '1min'"),
            "timeouts.idle_in_transaction",
            "ok",
        ),
        (
            "DROP INDEX messages_created_at_idx".to_owned(),
            "schema.indexes_missing",
            "error",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'api_keys_tenant_idx'::regclass"
                .to_owned(),
            "schema.indexes_invalid",
            "error",
        ),
        (
            "ALTER TABLE chat_sessions DROP CONSTRAINT chat_sessions_user_fkey,
                ADD CONSTRAINT chat_sessions_user_fkey FOREIGN KEY (tenant_id, user_id)
                    REFERENCES users (tenant_id, id) NOT VALID"
                .to_owned(),
            "schema.constraints",
            "notice",
        ),
        (
            "GRANT SELECT ON users TO PUBLIC".to_owned(),
            "privileges.secrets",
            "error",
        ),
        (
            "ALTER TABLE messages SET (autovacuum_enabled = off)".to_owned(),
            "vacuum.tables",
            "warning",
        ),
        (
            "ALTER TABLE documents ADD COLUMN n smallserial; SELECT setval('documents_n_seq', 30000)"
                .to_owned(),
            "room.numbers",
            "warning",
        ),
        (
            "UPDATE chatledger_auth_migrations SET checksum = '1' WHERE version = 1".to_owned(),
            "schema.history",
            "error",
        ),
        (
            "DELETE FROM chatledger_link_migrations".to_owned(),
            "schema.migrations",
            "error",
        ),
        (
            "ALTER TABLE messages RENAME content TO contents".to_owned(),
            "schema.statements",
            "error",
        ),
        (
            database_set("default_transaction_read_only = on"),
            "server.primary",
            "error",
        ),
    ];
    let mut wrong = BTreeMap::new();
    for (sql, id, severity) in steps {
        client.batch_execute(&sql).await.expect(&sql);
        wrong.insert(id.to_owned(), severity.to_owned());
        let now = examine(&[("DATABASE_URL", &url)], &[]).await;
        assert_eq!(now.changes(&before), wrong, "{sql}: {now:?}");
        assert!(now.found(id).len() > 1, "{now:?}");
        if severity != "ok" {
            assert!(now.checks[id]["advice"].is_string(), "{id}");
        }
    }
}

#[tokio::test]
async fn a_role_that_may_do_little_is_told_so_and_hears_the_rest() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let role = format!("doctor_{}", database.name);
    client
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .await
        .expect("a role");
    let url = database.url().replace("postgres@", &format!("{role}@"));
    let found = examine(&[("DATABASE_URL", &url)], &[]).await;
    client
        .batch_execute(&format!("DROP ROLE {role}"))
        .await
        .expect("no role");

    assert_eq!(found.errors(), ["privileges.tables"], "{found:?}");
    assert!(
        found
            .found("privileges.tables")
            .contains("SELECT, INSERT, UPDATE, DELETE on messages"),
        "{found:?}"
    );
    assert_eq!(found.severity("privileges.migrations"), "notice");
    for id in ["schema.migrations", "schema.indexes_missing"] {
        assert_eq!(found.checks[id]["looked"], false, "{found:?}");
        assert_eq!(found.found(id), "couldn't look: permission denied");
    }
    assert_eq!(found.severity("server.version"), "ok");
}

#[tokio::test]
async fn the_document_and_the_page_tell_the_same() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let found = examine(&[("DATABASE_URL", &url)], &[]).await;
    let ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
    let told: Vec<&str> = found.document["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .map(|check| check["id"].as_str().expect("an id"))
        .collect();
    assert_eq!(told, ids);
    assert_eq!(found.document["form"], 1);
    let summary = found.document["summary"].as_object().expect("a summary");
    let sum: u64 = summary.values().filter_map(Value::as_u64).sum();
    assert_eq!(usize::try_from(sum).expect("a few"), CHECKS.len());
    // The test cluster keeps nothing.
    assert_eq!(
        (found.code, found.severity("durability.fsync")),
        (Some(1), "error")
    );
    assert_eq!(found.stderr, "chatledger: the doctor found 2 errors\n");

    let mut command = chatledger();
    command.arg("doctor").env("DATABASE_URL", &url);
    let output = output_of(command).await;
    let page = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!page.contains('\x1b'), "{page}");
    for id in ids {
        let severity = found.severity(id);
        let line = page
            .lines()
            .find(|line| line.contains(id))
            .unwrap_or_else(|| panic!("{id}: {page}"));
        assert!(line.trim_start().starts_with(severity), "{line}");
    }
    let total = format!("{} checks: ", CHECKS.len());
    assert!(page.contains(&total) && page.contains("-> fsync = on"), "{page}");
}

#[test]
fn the_list_of_checks_in_the_documents_is_the_programs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let text = std::fs::read_to_string(path).expect("docs/doctor.md");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: Vec<&str> = rows.filter(|id| id.contains('.')).collect();
    let ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(listed, ids);
    let mut command = chatledger();
    let output = command.args(["doctor", "--list"]).output().expect("chatledger");
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    let shown: Vec<&str> = shown.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(shown, ids);
}
