//! Brings the schema up to date at boot: refinery's embedded migrations, under a lock that lets any number
//! of servers boot at once, and what refinery lacks.

use std::time::Duration;

use anyhow::Context;
use backon::Retryable;
use refinery::Runner;
use tokio::time::{self, Instant};
use tokio_postgres::{Client, types::Type};

use crate::{
    postgres::{
        Db, Sql,
        connect::{self, Connector, describe},
    },
    store::Scope,
};

mod auth {
    refinery::embed_migrations!("migrations/auth");
}
mod chat {
    refinery::embed_migrations!("migrations/chat");
}
mod link {
    refinery::embed_migrations!("migrations/link");
}

/// Migrations that are installed together, with a history of their own.
struct Set {
    name: &'static str,
    /// Where refinery keeps the set's history.
    table: &'static str,
    runner: fn() -> Runner,
    /// How far that history is.
    version: Sql,
}

macro_rules! version_of {
    ($table:literal) => {
        Sql {
            text: concat!("SELECT coalesce(max(version), 0)::bigint FROM ", $table),
            params: &[],
        }
    };
}

static AUTH: Set = Set {
    name: "auth",
    table: "chatledger_auth_migrations",
    runner: auth::migrations::runner,
    version: version_of!("chatledger_auth_migrations"),
};
static CHAT: Set = Set {
    name: "chat",
    table: "chatledger_chat_migrations",
    runner: chat::migrations::runner,
    version: version_of!("chatledger_chat_migrations"),
};
/// The foreign key from sessions to users, where both are kept.
static LINK: Set = Set {
    name: "link",
    table: "chatledger_link_migrations",
    runner: link::migrations::runner,
    version: version_of!("chatledger_link_migrations"),
};

/// In the order in which they are installed.
static ALL: &[&Set] = &[&AUTH, &CHAT, &LINK];

fn sets(scope: Scope) -> &'static [&'static Set] {
    match scope {
        Scope::All => ALL,
        Scope::Chat => &ALL[1..2],
        Scope::Auth => &ALL[..1],
    }
}

/// The advisory lock's key: "chatledg" as ASCII, so that it can be told apart in `pg_locks`.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"chatledg");

/// How long to wait between two looks at the lock: a migration takes longer than this, and eight servers
/// that boot together ask no more than a few hundred times a second.
const LOCK_POLL: Duration = Duration::from_millis(25);

/// How long an attempt to connect that began in time may take when the time is over: enough for TLS to the
/// other side of the world.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// Brings the schema of a scope up to date, checks that the text search configuration exists, and answers
/// the server's version, such as `15.18`.
///
/// # Errors
/// An unreachable database, a failed migration, an unknown configuration; each to be shown as one line.
pub async fn prepare(
    connector: &Connector,
    scope: Scope,
    search_config: &str,
    patience: Duration,
) -> anyhow::Result<String> {
    let mut client = connect(connector, patience).await?;
    // A second connection: refinery needs the first one's transactions. In a transaction, since a session's
    // lock would leak through a pooler; polled, since a waiting lock deadlocks with CREATE INDEX
    // CONCURRENTLY.
    let lock = connect(connector, patience).await?;
    lock.batch_execute("BEGIN").await.map_err(explain)?;
    while !try_lock(&lock).await? {
        time::sleep(LOCK_POLL).await;
    }
    for set in sets(scope) {
        set.run(&mut client).await?;
    }
    if scope == Scope::All {
        validate_link(&client).await?;
    }
    lock.batch_execute("COMMIT").await.map_err(explain)?;
    check_search_config(&client, search_config).await?;
    server_version(&client).await
}

/// Connects, and tries again for as long as `patience` lasts.
async fn connect(connector: &Connector, patience: Duration) -> anyhow::Result<Client> {
    let end = Instant::now() + patience;
    let mut reason = "no answer".to_owned();
    let attempts = (|| connector.connect())
        .retry(connect::pauses())
        .sleep(move |pause| time::sleep_until(end.min(Instant::now() + pause)))
        .when(|error| connect::may_succeed_later(error) && Instant::now() < end)
        .notify(|error, _| reason = describe(error));
    match time::timeout_at(end + LAST_ATTEMPT, attempts).await {
        Ok(Ok((client, _))) => return Ok(client),
        Ok(Err(error)) => reason = describe(&error),
        Err(_) => {}
    }
    anyhow::bail!("can't connect: {reason}")
}

/// A database's error with its causes: its own `Display` leaves them out.
fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!(describe(&error))
}

async fn try_lock(lock: &Client) -> anyhow::Result<bool> {
    let row = lock
        .query_typed("SELECT pg_try_advisory_xact_lock($1)", &[(&LOCK_KEY, Type::INT8)])
        .await
        .map_err(explain)?;
    Ok(row.first().is_some_and(|row| row.get(0)))
}

impl Set {
    async fn run(&self, client: &mut Client) -> anyhow::Result<()> {
        let mut runner = (self.runner)();
        runner.set_migration_table_name(self.table);
        let report = runner
            // A newer server has been here: its schema is one that this one can use, until a release says
            // otherwise.
            .set_abort_missing(false)
            // One transaction a set: all of it or nothing, and one flush to disk.
            .set_grouped(true)
            .run_async(client)
            .await
            .map_err(|error| anyhow::anyhow!(chain(&error)))
            .with_context(|| format!("migration set {}", self.name))?;
        for migration in report.applied_migrations() {
            tracing::info!(set = self.name, %migration, "migrated");
        }
        Ok(())
    }
}

/// refinery's `Display` says only "db error".
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Validates the foreign key from sessions to users, once there is no session left without its user.
async fn validate_link(client: &Client) -> anyhow::Result<()> {
    const UNVALIDATED: &str = "SELECT FROM pg_constraint
        WHERE conname = 'chat_sessions_user_fkey' AND conrelid = 'chat_sessions'::regclass AND NOT convalidated";
    const ORPHANS: &str = "SELECT count(*) FROM chat_sessions s WHERE user_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM users u WHERE u.tenant_id = s.tenant_id AND u.id = s.user_id)";
    if client
        .query_typed(UNVALIDATED, &[])
        .await
        .map_err(explain)?
        .is_empty()
    {
        return Ok(());
    }
    let rows = client.query_typed(ORPHANS, &[]).await.map_err(explain)?;
    let orphans: i64 = rows.first().map_or(0, |row| row.get(0));
    if orphans > 0 {
        tracing::warn!(
            orphans,
            "sessions name users who don't exist; the foreign key waits until none does"
        );
        return Ok(());
    }
    client
        .batch_execute("ALTER TABLE chat_sessions VALIDATE CONSTRAINT chat_sessions_user_fkey")
        .await
        .map_err(explain)
}

async fn check_search_config(client: &Client, name: &str) -> anyhow::Result<()> {
    let found = client
        .query_typed(
            "SELECT FROM pg_ts_config WHERE cfgname = $1",
            &[(&name, Type::TEXT)],
        )
        .await
        .map_err(explain)?;
    anyhow::ensure!(
        !found.is_empty(),
        "--search-config {name}: the database has no such text search configuration"
    );
    Ok(())
}

async fn server_version(client: &Client) -> anyhow::Result<String> {
    let rows = client
        .query_typed("SHOW server_version", &[])
        .await
        .map_err(explain)?;
    let version: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    // Debian's says `15.18 (Debian 15.18-0+deb12u1)`.
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}

/// Every statement of the sets, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    ALL.iter().map(|set| &set.version)
}

/// Whether the database answers and has a schema that this server can use. Asked when a database has come
/// back, which may be a restored one.
pub async fn is_usable(db: &Db, scope: Scope) -> bool {
    for set in sets(scope) {
        let head = (set.runner)()
            .get_migrations()
            .iter()
            .map(refinery::Migration::version)
            .max();
        match db.read(None, &set.version, &[]).await {
            Ok(rows)
                if rows
                    .first()
                    .is_some_and(|row| row.get::<_, i64>(0) >= head.unwrap_or(0)) => {}
            Ok(_) => {
                tracing::warn!(set = set.name, "the database's schema is older than this server");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, set = set.name, "the database can't be used yet");
                return false;
            }
        }
    }
    true
}
