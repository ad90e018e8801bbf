//! The flags of the database.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Secret, duration};
use chatledger_postgres::{DbOptions, connect::Connector, url::DatabaseUrl};

/// Which database, and how to use it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseConfig {
    /// Which one.
    #[command(flatten)]
    pub source: SourceConfig,
    /// The most connections, besides those of appends (one a lane, and as many for waiting) and of watches (3)
    #[arg(long, env = "CHATLEDGER_POOL_SIZE", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pool_size: u32,
    /// How long a request waits for a connection while all are in use
    #[arg(long, env = "CHATLEDGER_POOL_WAIT_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub pool_wait_timeout: Duration,
}

/// Which database.
#[derive(Debug, Args)]
#[command(next_help_heading = "Database")]
pub struct SourceConfig {
    /// The PostgreSQL database, as a URL; without one (and without NEON_DATABASE_URL), an embedded PostgreSQL
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<Secret>,
    /// The same database without a pooler between, for migrations and for notifications between servers
    #[arg(long, env = "DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true)]
    pub database_direct_url: Option<Secret>,
    /// What Neon calls its URL; used where DATABASE_URL is not given.
    #[arg(
        long,
        env = "NEON_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        hide = true
    )]
    pub neon_database_url: Option<Secret>,
    /// Whether the URL's endpoint is a transaction pooler such as PgBouncer; auto: by its name
    #[arg(long, env = "CHATLEDGER_POOLER", value_enum, default_value_t = Pooler::Auto)]
    pub pooler: Pooler,
    /// How long to go on trying to connect to a database that is away or waking up
    #[arg(long, env = "CHATLEDGER_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub connect_timeout: Duration,
    /// Where the embedded PostgreSQL keeps its data [default: $XDG_DATA_HOME/chatledger; as root /var/lib/chatledger]
    #[arg(long, env = "CHATLEDGER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the embedded PostgreSQL's programs are [default: wherever they are found]
    #[arg(long, env = "CHATLEDGER_PG_BIN", value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
}

/// Whether there is a transaction pooler between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pooler {
    /// As the URL's host name, port or parameters suggest.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// An external database: the endpoint of the pool, and the one without a pooler.
#[derive(Clone, Debug)]
pub struct ExternalDatabase {
    /// The URL to which statements go.
    pub url: DatabaseUrl,
    /// The URL to which migrations go, and notifications come from.
    pub direct_url: DatabaseUrl,
}

impl SourceConfig {
    /// The external database, if one is given. An empty variable is one that isn't set.
    ///
    /// # Errors
    /// A URL that can't be read, with the flag that it came by, and never the URL.
    pub fn external(&self) -> anyhow::Result<Option<ExternalDatabase>> {
        let read = |secret: &Option<Secret>, flag| match secret {
            Some(secret) => secret.url(flag),
            None => Ok(None),
        };
        let url = match read(&self.database_url, "--database-url (DATABASE_URL)")? {
            Some(url) => Some(url),
            None => read(&self.neon_database_url, "NEON_DATABASE_URL")?,
        };
        let direct = read(
            &self.database_direct_url,
            "--database-direct-url (DATABASE_DIRECT_URL)",
        )?;
        match (url, direct) {
            (Some(url), direct) => {
                let direct_url = direct.unwrap_or_else(|| url.clone());
                Ok(Some(ExternalDatabase { url, direct_url }))
            }
            (None, Some(url)) => Ok(Some(ExternalDatabase {
                url: url.clone(),
                direct_url: url,
            })),
            (None, None) => Ok(None),
        }
    }

    /// Checks the URLs and the certificates that they name, without connecting.
    ///
    /// # Errors
    /// One that can't be used, with the flag that it came by, and never the URL.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(external) = self.external()? {
            Connector::new(&external.url)?;
            Connector::new(&external.direct_url)?;
        }
        Ok(())
    }

    /// Whether `url` goes through a transaction pooler. A direct URL that is given doesn't.
    #[must_use]
    pub fn is_pooled(&self, url: &DatabaseUrl) -> bool {
        match self.pooler {
            Pooler::Auto => url.is_pooled(),
            Pooler::On => true,
            Pooler::Off => false,
        }
    }

    /// Whether a direct URL is given besides.
    #[must_use]
    pub fn has_direct(&self) -> bool {
        self.database_direct_url
            .as_ref()
            .is_some_and(|url| !url.is_empty())
    }

    /// Whether migrations and notifications would go through one, over `url`.
    #[must_use]
    pub fn migrates_pooled(&self, url: &DatabaseUrl) -> bool {
        !self.has_direct() && self.is_pooled(url)
    }
}

impl DatabaseConfig {
    /// How the pool over `url` behaves.
    #[must_use]
    pub fn options(&self, url: &DatabaseUrl) -> DbOptions {
        DbOptions {
            // A u32 fits wherever this runs.
            pool_size: usize::try_from(self.pool_size).unwrap_or(usize::MAX),
            wait_timeout: self.pool_wait_timeout,
            connect_for: self.source.connect_timeout,
            attempt_limit: DbOptions::ATTEMPT_LIMIT,
            pooled: self.source.is_pooled(url),
        }
    }
}
