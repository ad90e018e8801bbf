//! What a server does with the schema: at boot, and when a database has come back.

use std::time::Duration;

use clap::ValueEnum;
use tokio_postgres::{Client, types::Type};

use crate::{
    change::{MigrationRun, is_valid},
    choose::Until,
    client::{explain, text_of},
    driver::LockPolicy,
    migrator::{Migrator, Settings},
    program::Program,
    progress,
    sets::{Set, SetName, major},
};
use chatledger_postgres::{Db, DbError, connect::Connector};

/// What a server does with the schema when it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootMode {
    /// Brings it up to date.
    Auto,
    /// Refuses to serve where it is not.
    Check,
    /// Doesn't look at it.
    Off,
}

/// A database whose schema a server can work with.
#[derive(Clone, Debug)]
pub struct BootedSchema {
    /// The database server's version, such as `15.18`.
    pub server_version: String,
    /// The newest migration of each set that is installed.
    pub versions: Vec<(String, i64)>,
}

/// Brings the schema of a scope up to date, checks that the text search configuration exists, and answers
/// the server's version, such as `15.18`.
///
/// # Errors
/// As [`Migrator::boot`].
pub async fn prepare(
    connector: &Connector,
    program: &'static Program,
    scope: Vec<SetName>,
    search_config: &str,
    patience: Duration,
) -> anyhow::Result<String> {
    let settings = Settings {
        program,
        scope,
        only: None,
        with: Vec::new(),
        migrations_dir: None,
        patience,
        locks: LockPolicy::default(),
        pooled: false,
    };
    let migrator = Migrator::new(connector.clone(), settings)?;
    let booted = migrator.boot(BootMode::Auto, search_config).await?;
    Ok(booted.server_version)
}

impl Migrator {
    /// A boot does as the mode says, checks that the text search configuration exists, and answers what there is then. Any number of servers may do so at once.
    ///
    /// # Errors
    /// An unreachable database, a failed migration, a schema that is too old or too new, an unknown configuration;
    /// each to be shown as one line.
    pub async fn boot(&self, mode: BootMode, search_config: &str) -> anyhow::Result<BootedSchema> {
        let client = match mode {
            BootMode::Auto => {
                let client = self.connect().await?;
                if self.is_up_to_date(&client).await? {
                    client
                } else {
                    let session = MigrationRun::open(self, &progress::log, false).await?;
                    session.up(Until::Head, None).await?;
                    session.close().await?
                }
            }
            BootMode::Check => {
                let client = self.connect().await?;
                self.check(&client).await?;
                client
            }
            BootMode::Off => self.connect().await?,
        };
        check_search_config(&client, search_config).await?;
        let version = text_of(&client, "SHOW server_version").await?;
        let states = self.states(&client).await?;
        let versions = states
            .iter()
            .filter_map(|state| Some((state.set.name.to_string(), state.current()?)));
        Ok(BootedSchema {
            // Debian's PostgreSQL says `15.18 (Debian 15.18-0+deb12u1)`.
            server_version: version.split(' ').next().unwrap_or_default().to_owned(),
            versions: versions.collect(),
        })
    }

    /// Whether there is nothing to migrate, so that nobody has to be waited for. Anything that isn't as it should be is
    /// looked at under the lock, and told there.
    async fn is_up_to_date(&self, client: &Client) -> anyhow::Result<bool> {
        let all = self.states(client).await?;
        let states = self.chosen(&all);
        if states
            .iter()
            .any(|state| state.check().is_err() || !state.pending().is_empty())
        {
            return Ok(false);
        }
        match &self.settings.program.late {
            Some(late) if states.iter().any(|state| state.set.name == late.set) => {
                is_valid(client, late).await
            }
            _ => Ok(true),
        }
    }

    /// Fails unless the schema is one that this program can serve.
    async fn check(&self, client: &Client) -> anyhow::Result<()> {
        for state in self.chosen(&self.states(client).await?) {
            state.check()?;
            let pending = state.pending();
            if let Some(first) = pending.first() {
                anyhow::bail!(
                    "the schema is older than this program: {first} is pending, and {} in all of this set; run \
                     `{} migrate up` (with the same --scope and --migrations-dir), or serve with --migrate=auto",
                    pending.len(),
                    self.settings.program.name
                );
            }
        }
        Ok(())
    }
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

/// Whether the database answers and has a schema that this server can use. Asked when a database has come
/// back, which may be a restored one.
pub async fn is_usable(db: &Db, scope: &[SetName]) -> bool {
    for set in scope {
        let Some(sql) = set.version() else { continue };
        let head = Set::embedded(*set).head().unwrap_or(0);
        match db.read(None, sql, &[]).await {
            Ok(rows) => {
                let current = rows.first().map_or(0, |row| row.get::<_, i64>(0));
                if current < head || major(current) > major(head) {
                    tracing::warn!(%set, current, head, "the database's schema is not one that this server can use");
                    return false;
                }
            }
            // Other clients have all of the database's connections, which is no fault of it.
            Err(DbError::Full) => return true,
            Err(error) => {
                tracing::debug!(%error, %set, "the database can't be used yet");
                return false;
            }
        }
    }
    true
}
