//! Flags and environment variables, validated.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::{
    domain::limits::{Limits, MOST_JSON_DEPTH, MOST_SOURCE_ID_BYTES},
    memory,
    migrations::Scope,
};
use chatledger_migrate as migrate;
use chatledger_postgres::{DbOptions, url::DatabaseUrl};

/// The configuration of `chatledger serve`.
#[derive(Debug, Args)]
pub struct ServeConfig {
    /// Where to listen; port 0: any free one
    #[arg(
        long,
        env = "CHATLEDGER_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,
    /// Listen beyond this machine, without TLS and without authentication
    #[arg(long, env = "CHATLEDGER_INSECURE")]
    pub insecure: bool,
    /// What to keep and serve
    #[arg(long, env = "CHATLEDGER_SCOPE", value_enum, default_value_t = Scope::All)]
    pub scope: Scope,
    /// How to log, to stderr; RUST_LOG says what
    #[arg(long, env = "CHATLEDGER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// The longest that a request may take
    #[arg(long, env = "CHATLEDGER_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub request_timeout: Duration,
    /// The most requests at a time of one connection, streams aside, and half of the most of all; more wait a moment, and
    /// are told to come back
    #[arg(long, env = "CHATLEDGER_MAX_REQUESTS", value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_requests: u32,
    /// The same for StreamAppendMessages and WatchMessages streams
    #[arg(long, env = "CHATLEDGER_MAX_STREAMS", value_name = "N", default_value_t = 16384,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_streams: u32,
    /// The most connections at a time; idle ones make room for others
    #[arg(long, env = "CHATLEDGER_MAX_CONNECTIONS", value_name = "N", default_value_t = 4096,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// How old a connection may become before its client is told to open another, so that clients spread over servers; a
    /// tenth more or less
    #[arg(long, env = "CHATLEDGER_MAX_CONNECTION_AGE", value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub max_connection_age: Duration,
    /// How long what is under way on an old connection may go on, streams and watches included
    #[arg(long, env = "CHATLEDGER_MAX_CONNECTION_AGE_GRACE", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub max_connection_age_grace: Duration,
    /// What requests, answers and watches may hold together, in bytes; what doesn't fit waits, or is told to come back
    #[arg(long, env = "CHATLEDGER_MEMORY_BUDGET", value_name = "BYTES", default_value_t = memory::DEFAULT_BYTES)]
    pub memory_budget: usize,
    /// How long a request, or a message of a stream that has begun, may take to arrive, and a connection to begin
    #[arg(long, env = "CHATLEDGER_READ_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub read_timeout: Duration,
    /// How long requests under way may take to end at shutdown
    #[arg(long, env = "CHATLEDGER_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub shutdown_grace: Duration,
    /// How many batches of appends are committed at a time, on a connection each [default: as many as there are processors, 2 to 4]
    #[arg(long, env = "CHATLEDGER_APPEND_LANES", value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub append_lanes: Option<u8>,
    /// After how long a WatchMessages without news sends a heartbeat
    #[arg(long, env = "CHATLEDGER_WATCH_HEARTBEAT", value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub watch_heartbeat: Duration,
    /// The text search configuration of SearchMessages
    #[arg(
        long,
        env = "CHATLEDGER_SEARCH_CONFIG",
        value_name = "NAME",
        default_value = "english"
    )]
    pub search_config: String,
    /// What to do with the schema at boot: bring it up to date, refuse to serve an older one, or not look at it
    #[arg(long, env = "CHATLEDGER_MIGRATE", value_enum, default_value_t = migrate::BootMode::Auto)]
    pub migrate: migrate::BootMode,
    /// A directory of your own migrations, which run after the embedded ones
    #[arg(long, env = "CHATLEDGER_MIGRATIONS_DIR", value_name = "DIR")]
    pub migrations_dir: Option<PathBuf>,
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// How large requests may be.
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// How large the parts of a request may be; see [`Limits`].
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Longest content of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_CONTENT_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_content_bytes)]
    pub max_content_bytes: usize,
    /// Longest payload of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_PAYLOAD_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_payload_bytes)]
    pub max_payload_bytes: usize,
    /// Longest selected_text of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_SELECTED_TEXT_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_selected_text_bytes)]
    pub max_selected_text_bytes: usize,
    /// Largest JSON field, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_JSON_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_json_bytes)]
    pub max_json_bytes: usize,
    /// Deepest JSON field, in levels of objects and arrays
    #[arg(long, env = "CHATLEDGER_MAX_JSON_DEPTH", value_name = "LEVELS", default_value_t = Limits::DEFAULT.max_json_depth,
          value_parser = parse_json_depth)]
    pub max_json_depth: usize,
    /// Longest document_id or chunk_id, in bytes, up to 1024
    #[arg(long, env = "CHATLEDGER_MAX_SOURCE_ID_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_source_id_bytes,
          value_parser = parse_source_id_bytes)]
    pub max_source_id_bytes: usize,
    /// Most citations of one message
    #[arg(
        long,
        env = "CHATLEDGER_MAX_CITATIONS",
        value_name = "N",
        default_value_t = Limits::DEFAULT.max_citations
    )]
    pub max_citations: usize,
    /// Most messages of one BatchAppendMessages
    #[arg(
        long,
        env = "CHATLEDGER_MAX_BATCH_MESSAGES",
        value_name = "N",
        default_value_t = Limits::DEFAULT.max_batch_messages
    )]
    pub max_batch_messages: usize,
    /// Largest request, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_REQUEST_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_request_bytes)]
    pub max_request_bytes: usize,
}

impl LimitFlags {
    /// The limits that the flags give.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            max_content_bytes: self.max_content_bytes,
            max_payload_bytes: self.max_payload_bytes,
            max_selected_text_bytes: self.max_selected_text_bytes,
            max_json_bytes: self.max_json_bytes,
            max_json_depth: self.max_json_depth,
            max_source_id_bytes: self.max_source_id_bytes,
            max_citations: self.max_citations,
            max_batch_messages: self.max_batch_messages,
            max_request_bytes: self.max_request_bytes,
        }
    }
}

fn parse_json_depth(text: &str) -> Result<usize, String> {
    parse_at_most(text, MOST_JSON_DEPTH)
}

fn parse_source_id_bytes(text: &str) -> Result<usize, String> {
    parse_at_most(text, MOST_SOURCE_ID_BYTES)
}

fn parse_at_most(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from 1 to {most}")),
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

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

/// A text that must not be shown. Its `Debug` doesn't.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Reads it as a database's URL; nothing where it is empty. `flag` is what it came by.
    ///
    /// # Errors
    /// It can't be read; the flag, and never the URL.
    pub fn url(&self, flag: &str) -> anyhow::Result<Option<DatabaseUrl>> {
        parse(flag, Some(self))
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
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
        let url = match parse("--database-url (DATABASE_URL)", self.database_url.as_ref())? {
            Some(url) => Some(url),
            None => parse("NEON_DATABASE_URL", self.neon_database_url.as_ref())?,
        };
        let direct = parse(
            "--database-direct-url (DATABASE_DIRECT_URL)",
            self.database_direct_url.as_ref(),
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

    /// Whether `url` goes through a transaction pooler. A direct URL that is given doesn't.
    #[must_use]
    pub fn is_pooled(&self, url: &DatabaseUrl) -> bool {
        match self.pooler {
            Pooler::Auto => url.is_pooled(),
            Pooler::On => true,
            Pooler::Off => false,
        }
    }

    /// Whether migrations and notifications would go through one, over `url`.
    #[must_use]
    pub fn migrates_pooled(&self, url: &DatabaseUrl) -> bool {
        let direct = self.database_direct_url.as_ref();
        direct.is_none_or(|direct| direct.0.is_empty()) && self.is_pooled(url)
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

fn parse(flag: &str, url: Option<&Secret>) -> anyhow::Result<Option<DatabaseUrl>> {
    url.filter(|url| !url.0.is_empty())
        .map(|url| DatabaseUrl::parse(&url.0))
        .transpose()
        .with_context(|| flag.to_owned())
}

impl ServeConfig {
    /// Checks what one flag alone can't tell.
    ///
    /// # Errors
    /// An address beyond this machine without `--insecure`; a memory budget that a request doesn't fit in.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.insecure || self.listen.ip().is_loopback(),
            "--listen {}: refusing to listen beyond this machine without TLS and authentication; \
             --insecure does it all the same",
            self.listen
        );
        let least = self
            .limits
            .max_request_bytes
            .saturating_mul(memory::LEAST_REQUESTS);
        anyhow::ensure!(
            self.memory_budget >= least,
            "--memory-budget {}: must be at least {} times --max-request-bytes, {least}",
            self.memory_budget,
            memory::LEAST_REQUESTS
        );
        Ok(())
    }
}

/// A duration such as `500ms`, `10s` or `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok());
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be a positive duration such as 500ms, 10s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for text in ["", "0s", "-1s", "5", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret: Secret = "postgres://u:hunter2@h/d".parse().expect("never fails");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
