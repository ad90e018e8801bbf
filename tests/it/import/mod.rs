//! `chatledger import` from databases as teams have them, compared row by row.

mod interrupted;
mod layouts;
mod leftovers;
pub mod sources;

use std::process::{Command, Output};

use tokio_postgres::{Client, Row};

use crate::harness::{process::chatledger, *};

/// `chatledger import` from one database into another.
pub fn import(source: &TestDatabase, target: &TestDatabase) -> Command {
    let mut command = chatledger();
    command.args(["import", "--from", &source.url(), "--database-url", &target.url()]);
    command
}

/// Runs a command to its end.
pub async fn output_of(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.expect("no panic").expect("chatledger")
}

/// Runs a command that succeeds, and answers what it said.
pub async fn succeeds(command: Command) -> String {
    let output = output_of(command).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{said}\n{errors}");
    said
}

/// A source made of SQL.
pub async fn source_of(sql: &str) -> TestDatabase {
    let database = TestDatabase::empty().await;
    database
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect("a source");
    database
}

/// All rows, each as text.
pub async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows: Vec<Row> = client
        .query(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// The target's messages as `session|seq|id|role|content|selected_text|time|citations`.
pub const MESSAGES: &str = "SELECT concat_ws('|', m.session_id, m.seq, m.id, m.role, m.content,
        coalesce(m.selected_text, '-'), m.created_at AT TIME ZONE 'UTC',
        (SELECT coalesce(string_agg(concat_ws(',', c.citation_index, c.document_id, c.chunk_id, c.score), ';'
            ORDER BY c.citation_index), '-') FROM message_citations c WHERE c.message_id = m.id))
    FROM messages m ORDER BY m.session_id, m.seq";

/// Two databases answer alike.
#[track_caller]
pub fn assert_same(found: &[String], expected: &[String]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

/// The promises of the ledger hold for what was imported.
pub async fn assert_in_order(client: &Client) {
    let broken = texts(
        client,
        "SELECT s.id::text FROM chat_sessions s LEFT JOIN messages m ON m.session_id = s.id
        GROUP BY s.id HAVING s.last_seq <> count(m.id) OR s.last_seq <> coalesce(max(m.seq), 0)
            OR s.last_message_at IS DISTINCT FROM max(m.created_at)",
    )
    .await;
    assert_eq!(broken, Vec::<String>::new());
}
