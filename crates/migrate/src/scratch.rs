//! Databases that exist for a moment: to see what the migrations make, and to rehearse them.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Client, error::SqlState, types::Type};
use uuid::Uuid;

use crate::client::{connect, explain, text_of};
use chatledger_postgres::connect::Connector;

/// The names of scratch databases go on like this behind the program's; then come the seconds since 1970, and chance.
const INFIX: &str = "_scratch_";

/// A scratch database that is older than this, and that nobody is connected to, was left by a run that was killed.
const ABANDONED: Duration = Duration::from_hours(6);

/// Makes an empty database beside the one of `connector`, with its search path; lets `work` use it; and drops it,
/// also when `work` fails or a signal ends it.
pub(crate) async fn with<T>(
    program: &str,
    connector: &Connector,
    like: &Client,
    patience: Duration,
    work: impl AsyncFnOnce(&Connector) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let admin = connect(connector, patience).await?;
    drop_abandoned(&admin, program).await;
    let name = format!(
        "{program}{INFIX}{}_{}",
        jiff::Timestamp::now().as_second(),
        Uuid::now_v7().simple()
    );
    create(&admin, program, &name, connector.url().database()).await?;
    let used = async {
        let scratch = Connector::new(&connector.url().with_database(&name))?;
        prepare(&admin, &name, &scratch, like, patience).await?;
        work(&scratch).await
    };
    let result = tokio::select! {
        result = used => result,
        reason = interrupted() => Err(reason),
    };
    let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    let dropped = admin.batch_execute(&drop).await.map_err(explain);
    let value = result?;
    dropped.with_context(|| format!("the scratch database {name} could not be dropped"))?;
    Ok(value)
}

async fn create(admin: &Client, program: &str, name: &str, of: &str) -> anyhow::Result<()> {
    let create = format!("CREATE DATABASE {name} TEMPLATE template0");
    let created = admin.batch_execute(&create).await;
    // A comment for whoever finds the database: what it is, and that it may be dropped.
    let about = format!(
        "a scratch database of {program} migrate, for {}",
        of.replace('\'', "''")
    );
    let _ = admin
        .batch_execute(&format!("COMMENT ON DATABASE {name} IS '{about}'"))
        .await;
    created.map_err(|error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => anyhow::anyhow!(
            "this needs a scratch database for a moment, and the role may not create one: give --scratch-url, a \
             database of a PostgreSQL of the same major version where it may"
        ),
        _ => explain(error).context("creating a scratch database"),
    })
}

/// The same search path and schema: what the migrations make then reads the same.
async fn prepare(
    admin: &Client,
    name: &str,
    scratch: &Connector,
    like: &Client,
    patience: Duration,
) -> anyhow::Result<()> {
    let path = text_of(like, "SHOW search_path").await?;
    if !path.is_empty() {
        let set = format!("ALTER DATABASE {name} SET search_path TO {path}");
        admin.batch_execute(&set).await.map_err(explain)?;
    }
    let schema = text_of(like, "SELECT quote_ident(coalesce(current_schema(), 'public'))").await?;
    let client = connect(scratch, patience).await?;
    let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
    client.batch_execute(&create).await.map_err(explain)
}

async fn interrupted() -> anyhow::Error {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    anyhow::anyhow!("interrupted")
}

/// As far as it can: they are in nobody's way.
async fn drop_abandoned(admin: &Client, program: &str) {
    let prefix = format!("{program}{INFIX}");
    let before = jiff::Timestamp::now()
        .as_second()
        .saturating_sub_unsigned(ABANDONED.as_secs());
    let sql = "SELECT datname::text FROM pg_database d WHERE datname ~ ('^' || $1 || '[0-9]{1,12}_')
        AND split_part(substr(datname, length($1) + 1), '_', 1)::bigint < $2
        AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)";
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&prefix, Type::TEXT), (&before, Type::INT8)];
    for row in admin.query_typed(sql, &params).await.unwrap_or_default() {
        let name: String = row.get(0);
        let _ = admin
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))
            .await;
    }
}
