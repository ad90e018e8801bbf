//! Embedded clusters of the test's own: all well, from nothing to a schema; and with settings that no cluster should have.

use std::{path::Path, time::Duration};

use chatledger::migrations::{self, Scope};
use chatledger_embedded::{Cluster, ClusterOptions};
use chatledger_postgres::{connect::Connector, url::DatabaseUrl};

use super::{Findings, examine, output_of};
use crate::harness::{
    database::connect,
    process::{chatledger, open_dir},
};

async fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Cluster {
    let options = ClusterOptions {
        data_dir: data_dir.to_owned(),
        pg_bin: std::env::var_os("CHATLEDGER_PG_BIN").map(Into::into),
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    Cluster::start(&options).await.expect("a cluster")
}

async fn examine_in(data_dir: &Path, args: &[&str]) -> Findings {
    let dir = data_dir.to_str().expect("a plain path");
    examine(&[("CHATLEDGER_DATA_DIR", dir)], args).await
}

/// The exit code where all is well but, maybe, for the disk of this machine.
fn code_of(findings: &Findings) -> Option<i32> {
    Some(i32::from(findings.severity("room.disk") == "error"))
}

#[tokio::test]
async fn an_embedded_cluster_is_looked_at_running_and_stopped_and_none_is_made() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let mut command = chatledger();
    command.arg("doctor").arg("--data-dir").arg(&data_dir);
    let output = output_of(command).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("--database-url") && said.contains("--data-dir"),
        "{said}"
    );
    assert!(!data_dir.exists());

    let cluster = start(&data_dir, &[]).await;
    let empty = examine_in(&data_dir, &[]).await;
    assert_eq!(
        empty.errors(),
        ["schema.migrations", "schema.statements"],
        "{empty:?}"
    );
    let connector = Connector::new(&DatabaseUrl::parse(cluster.url()).expect("a URL")).expect("a connector");
    migrations::prepare(&connector, Scope::All, "english", Duration::from_secs(10))
        .await
        .expect("migrations");
    let well = examine_in(&data_dir, &[]).await;
    assert_eq!((well.code, well.errors()), (code_of(&well), vec![]), "{well:?}");
    assert_eq!(well.checks["room.disk"]["looked"], true, "{well:?}");
    assert_eq!(well.severity("privileges.role"), "ok");

    let admin = connect(cluster.superuser_url()).await;
    admin
        .batch_execute("SELECT pg_create_physical_replication_slot('nobodys', true)")
        .await
        .expect("a slot");
    let slot = examine_in(&data_dir, &["--strict"]).await;
    assert_eq!(slot.severity("replication.slots"), "warning", "{slot:?}");
    assert!(
        slot.found("replication.slots")
            .contains("nobodys is used by nobody")
    );
    assert!(
        slot.code == Some(1)
            && (slot.stderr.starts_with("chatledger: --strict: ") || slot.severity("room.disk") == "error"),
        "{}",
        slot.stderr
    );
    admin
        .batch_execute("SELECT pg_drop_replication_slot('nobodys')")
        .await
        .expect("no slot");
    drop(admin);
    cluster.stop().await.expect("a stop");
    let stopped = examine_in(&data_dir, &[]).await;
    assert_eq!(
        (stopped.code, stopped.errors()),
        (code_of(&stopped), vec![]),
        "{stopped:?}"
    );

    let cluster = start(
        &data_dir,
        &[
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("max_connections", "12"),
        ],
    )
    .await;
    let bad = examine_in(&data_dir, &["--servers", "2"]).await;
    cluster.stop().await.expect("a stop");
    let changed: Vec<(String, String)> = bad.changes(&stopped).into_iter().collect();
    let expected = [
        ("durability.fsync", "error"),
        ("durability.full_page_writes", "error"),
        ("durability.wal_level", "warning"),
        ("server.connections", "error"),
        ("vacuum.autovacuum", "error"),
    ];
    let expected = expected.map(|(id, severity)| (id.to_owned(), severity.to_owned()));
    assert_eq!(changed, expected, "{bad:?}");
}
