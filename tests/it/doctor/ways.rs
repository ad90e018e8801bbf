//! The ways to a database: through PgBouncer, past it, and to one that is away.

use std::time::{Duration, Instant};

use super::examine;
use crate::{harness::*, pgbouncer::PgBouncer};

#[tokio::test]
async fn a_pooler_is_noticed_and_works() {
    let database = TestDatabase::new().await;
    let Some(pgbouncer) = PgBouncer::before(&database).await else {
        return;
    };
    let pooled = pgbouncer.url(&database);
    // Nobody has said that there is one.
    let found = examine(&[("DATABASE_URL", &pooled)], &[]).await;
    assert_eq!(found.severity("connection.pooler"), "error", "{found:?}");
    assert!(
        found.checks["connection.pooler"]["advice"]
            .as_str()
            .expect("an advice")
            .contains("--pooler on")
    );

    let found = examine(&[("DATABASE_URL", &pooled), ("CHATLEDGER_POOLER", "on")], &[]).await;
    assert_eq!(found.errors(), Vec::<&str>::new(), "{found:?}");
    for (id, severity) in [
        ("connection.pooler", "ok"),
        ("connection.direct", "warning"),
        ("connection.prepared", "ok"),
        ("connection.listen", "notice"),
        ("schema.migrations", "ok"),
        ("schema.indexes_missing", "ok"),
        ("vacuum.tables", "ok"),
    ] {
        assert_eq!(found.severity(id), severity, "{id}: {found:?}");
    }
    assert_eq!(found.checks["schema.statements"]["looked"], false);

    let direct = database.url();
    let variables = [
        ("DATABASE_URL", pooled.as_str()),
        ("CHATLEDGER_POOLER", "on"),
        ("DATABASE_DIRECT_URL", &direct),
    ];
    let found = examine(&variables, &[]).await;
    assert_eq!(found.errors(), Vec::<&str>::new(), "{found:?}");
    for id in [
        "connection.pooler",
        "connection.direct",
        "connection.listen",
        "schema.statements",
    ] {
        assert_eq!(found.severity(id), "ok", "{id}: {found:?}");
    }

    let other = TestDatabase::empty().await.url();
    let variables = [
        ("DATABASE_URL", pooled.as_str()),
        ("CHATLEDGER_POOLER", "on"),
        ("DATABASE_DIRECT_URL", &other),
    ];
    let found = examine(&variables, &[]).await;
    assert_eq!(found.severity("connection.direct"), "error");
    assert!(
        found.found("connection.direct").contains("another database"),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_away_is_one_error_in_time() {
    // A port that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port();
    let url = format!("postgres://u:hunter2@127.0.0.1:{port}/d?sslmode=verify-full");
    let began = Instant::now();
    let found = examine(&[("DATABASE_URL", &url)], &["--connect-timeout", "200ms"]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(found.code, Some(1));
    assert_eq!(found.errors(), ["connection.reachable"]);
    let ids: Vec<&String> = found.checks.keys().collect();
    assert_eq!(
        ids,
        ["connection.pooler", "connection.reachable", "connection.tls"]
    );
    assert!(found.found("connection.tls").contains("verify-full"), "{found:?}");
    let all = format!("{}{}", found.document, found.stderr);
    assert!(!all.contains("hunter2"), "{all}");
}

/// What it says of the encryption of a connection.
pub async fn tls_of(url: &str) -> (String, String) {
    let found = examine(&[("DATABASE_URL", url)], &[]).await;
    let check = "connection.tls";
    (found.severity(check).to_owned(), found.found(check).to_owned())
}
