//! Flags and environment variables, validated.

mod access;
mod database;
mod limits;
mod secret;
mod tls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};

pub use access::{AccessConfig, AuditMode, AuthMode};
pub use database::{DatabaseConfig, ExternalDatabase, Pooler, SourceConfig};
pub use limits::LimitFlags;
pub use secret::Secret;
pub use tls::TlsConfig;

use crate::{
    memory,
    migrations::Scope,
    rates::RateLimits,
    watched::{FlagFile, Looks},
};
use chatledger_migrate as migrate;

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
    /// Where to answer those who operate the server, over plain HTTP: /metrics, /livez, /readyz [default: nowhere]
    #[arg(long, env = "CHATLEDGER_ADMIN_LISTEN", value_name = "HOST:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Listen beyond this machine without TLS, or without authentication, or both
    #[arg(long, env = "CHATLEDGER_INSECURE")]
    pub insecure: bool,
    /// What to keep and serve
    #[arg(long, env = "CHATLEDGER_SCOPE", value_enum, default_value_t = Scope::All)]
    pub scope: Scope,
    /// How to log, to stderr
    #[arg(long, env = "CHATLEDGER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to log: a level, or levels by module, such as `info,chatledger=debug`
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "FILTER",
        default_value = "info,refinery_core=off"
    )]
    pub log_filter: String,
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
    /// How long requests are taken all the same after a SIGTERM, while readiness and health tell balancers to send them elsewhere
    #[arg(long, env = "CHATLEDGER_DRAIN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = duration_or_zero)]
    pub drain_delay: Duration,
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
    /// How often the database is asked whether it can be used, though nothing speaks against it: for one that doesn't sleep
    /// [default: never]
    #[arg(long, env = "CHATLEDGER_HEALTH_CHECK_INTERVAL", value_name = "DURATION", value_parser = duration)]
    pub health_check_interval: Option<Duration>,
    /// A directory of your own migrations, which run after the embedded ones
    #[arg(long, env = "CHATLEDGER_MIGRATIONS_DIR", value_name = "DIR")]
    pub migrations_dir: Option<PathBuf>,
    /// How often files that may change are looked at: certificates, keys, limits
    #[arg(long, env = "CHATLEDGER_RELOAD_INTERVAL", value_name = "DURATION", default_value = "3s", value_parser = duration, hide = true)]
    pub reload_interval: Duration,
    /// How connections are encrypted, and whose certificates are asked for.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// Who may call.
    #[command(flatten)]
    pub access: AccessConfig,
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// What each caller and tenant may do in a time and store, in TOML; read again when it changes
    #[arg(
        long,
        env = "CHATLEDGER_LIMITS_FILE",
        value_name = "FILE",
        help_heading = "Limits"
    )]
    pub limits_file: Option<PathBuf>,
    /// How large requests may be.
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl ServeConfig {
    /// Whether calls need credentials: where that is said, where a flag says who has some, and beyond this machine.
    #[must_use]
    pub fn is_auth_required(&self) -> bool {
        let is_far = !self.listen.ip().is_loopback() && !self.insecure;
        let names_credentials =
            self.access.names_credentials() || self.tls.client_certificates_file.is_some();
        self.access.is_required(is_far || names_credentials)
    }

    /// Checks what one flag alone can't tell.
    ///
    /// # Errors
    /// The first of [`mistakes`](Self::mistakes).
    pub fn validate(&self) -> anyhow::Result<()> {
        self.mistakes().into_iter().next().map_or(Ok(()), Err)
    }

    /// What one flag alone can't tell: flags that don't fit together; an address beyond this machine without TLS or
    /// authentication, unless `--insecure`; a memory budget that a request doesn't fit in.
    #[must_use]
    pub fn mistakes(&self) -> Vec<anyhow::Error> {
        let checks = [
            self.tls.validate(),
            self.access.validate(),
            self.validate_listen(),
            self.validate_memory(),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// What is wrong with URLs, and with the files that flags name. Nothing is asked of the network.
    ///
    /// Files are watched, so there must be a runtime.
    #[must_use]
    pub fn mistakes_in_files(&self) -> Vec<anyhow::Error> {
        let looks = &Looks::every(self.reload_interval);
        let migrations = self.migrations_dir.as_ref().map_or(Ok(()), |dir| {
            let looked = std::fs::read_dir(dir).map(drop);
            looked.with_context(|| format!("--migrations-dir {}", dir.display()))
        });
        let checks = [
            self.tls.open(looks).map(drop),
            self.tls.open_certificates(looks).map(drop),
            self.rates(looks).map(drop),
            self.access.open(looks).map(drop),
            self.database.source.check(),
            migrations,
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// What each caller and tenant may do, by the file that says so; looked at again when `looks` says so.
    ///
    /// # Errors
    /// The file can't be used: the error names its flag.
    pub fn rates(&self, looks: &Looks) -> anyhow::Result<RateLimits> {
        let Some(path) = &self.limits_file else {
            return Ok(RateLimits::default());
        };
        let file = FlagFile {
            flag: "--limits-file",
            path: path.clone(),
        };
        RateLimits::open(file, looks)
    }

    fn validate_listen(&self) -> anyhow::Result<()> {
        if self.insecure || self.listen.ip().is_loopback() {
            return Ok(());
        }
        let listen = self.listen;
        anyhow::ensure!(
            self.tls.tls_cert.is_some(),
            "--listen {listen}: refusing to listen beyond this machine without TLS: give --tls-cert and --tls-key \
             (or --insecure, which does it all the same)"
        );
        anyhow::ensure!(
            self.is_auth_required(),
            "--listen {listen}: refusing to listen beyond this machine without authentication: leave --auth off out \
             (or --insecure, which does it all the same)"
        );
        Ok(())
    }

    fn validate_memory(&self) -> anyhow::Result<()> {
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

/// A duration such as `500ms`, `10s`, `2m` or `90d`. A day has 24 hours.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_or_zero(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be a positive duration such as 500ms, 10s, 2m or 90d".to_owned())
}

/// The same, or none: `0s`.
fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::Span>().ok();
    let duration = span.and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "must be a duration such as 0s, 500ms, 10s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("90d"), Ok(Duration::from_hours(90 * 24)));
        for text in ["", "0s", "-1s", "5", "1mo", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert!(duration_or_zero("-1s").is_err());
    }
}
