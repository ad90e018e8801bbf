//! The database's URL, read as libpq reads it, so that what a provider's console shows works as
//! pasted.
//!
//! `tokio_postgres` reads URLs as well, but knows only three of the six `sslmode`s, no
//! `sslrootcert`, and none of the parameters that other stacks add. So the text is split
//! ([`parse`]) and each parameter is translated ([`params`]) here, and `tokio_postgres` is handed a
//! finished [`Config`].
//!
//! Sources: "Connection Strings" and "Parameter Key Words" in the PostgreSQL manual's libpq
//! chapter, up to version 18 (<https://www.postgresql.org/docs/current/libpq-connect.html>), and
//! the documentation of what else puts parameters into such URLs: SQLAlchemy, asyncpg, Prisma,
//! node-postgres, Vercel, pgx, JDBC.
//!
//! What differs from libpq:
//! - the `PG*` environment variables, `~/.pgpass` and service files aren't read: what isn't in the
//!   URL isn't in effect;
//! - `connect_timeout` defaults to 5 s instead of for ever, and `application_name` to
//!   `chatledger`;
//! - a bare `@` after the user part is refused: it is most often an unencoded password, which must
//!   not end up in a log;
//! - surrounding blanks and quotes, a leading `psql `, stray `&`s and a bare `=` in a query value
//!   are forgiven.

use std::fmt;
use std::net::IpAddr;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::tls::TlsOptions;

mod libpq;
mod params;
mod parse;

/// Why a URL was refused. One line that names the parameter, and never shows a value: a URL that is
/// written wrongly can have pieces of its password anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither form of connection string.
    #[error("the database URL is neither a postgres:// URL nor a list of key=value pairs")]
    NotAUrl,
    /// Another database's URL. The scheme is shown, it is a plain word.
    #[error("a database URL starts with postgres:// or postgresql://, not with {0}://")]
    Scheme(String),
    /// A part of the text that can't be read.
    #[error("the database URL's {part} {why}")]
    Malformed {
        /// The part: "host", "port", …
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A parameter that neither libpq nor another stack has.
    #[error(
        "the database URL has the unknown parameter `{0}` (a server setting is written as options=-c%20name%3Dvalue)"
    )]
    Unknown(String),
    /// A parameter whose value is wrong, or that can't be honoured.
    #[error("the database URL's parameter `{name}` {why}")]
    Parameter {
        /// The parameter's name.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Which servers of a list are acceptable: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SessionAttrs {
    /// The first that answers.
    #[default]
    Any,
    /// One whose transactions can write.
    ReadWrite,
    /// One whose transactions can't write by default.
    ReadOnly,
    /// One that isn't in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

/// One server of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    /// A name (which TLS verifies), an address, or a socket's directory.
    pub host: Host,
    /// `hostaddr`: where to connect to without asking DNS for `host`.
    pub(crate) addr: Option<IpAddr>,
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) if name.contains(':') => write!(f, "[{name}]")?,
            Host::Tcp(name) => f.write_str(name)?,
            Host::Unix(dir) => write!(f, "{}", dir.display())?,
        }
        if self.port == DEFAULT_PORT {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

/// PostgreSQL's registered port.
const DEFAULT_PORT: u16 = 5432;

/// A database's address, and how to connect to it. `Debug` and [`DatabaseUrl::display`] show
/// neither user nor password.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// Everything but the hosts: a single attempt is this plus one host ([`super::connect`]).
    pub(super) base: Config,
    pub(super) targets: Vec<ServerAddress>,
    pub(super) session_attrs: SessionAttrs,
    config: Config,
    tls: TlsOptions,
    pooled: bool,
}

impl DatabaseUrl {
    /// Reads a `postgres://` URI or a key=value DSN.
    ///
    /// # Errors
    /// [`UrlError`], when it can't be read, or asks for something that would be unsafe to ignore
    /// and isn't implemented.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let read = params::read(parse::split(text)?)?;
        let mut config = read.base.clone();
        for target in &read.targets {
            add_target(&mut config, target);
        }
        Ok(Self {
            base: read.base,
            pooled: read.pgbouncer || read.targets.iter().any(looks_pooled),
            targets: read.targets,
            session_attrs: read.session_attrs,
            config,
            tls: read.tls,
        })
    }

    /// The whole as `tokio_postgres` can express it: `allow` and `prefer` both become its `prefer`,
    /// and `verify-ca` and `verify-full` its `require`. [`super::connect::Connector`] does the
    /// difference.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the connection is encrypted, and whom it trusts.
    pub(crate) fn tls(&self) -> &TlsOptions {
        &self.tls
    }

    /// A guess whether this goes through a pooler that changes servers between transactions, where
    /// prepared statements, LISTEN and session settings don't work: true with `pgbouncer=true`
    /// (Prisma's way to say so), for a host whose first label ends in `-pooler` (Neon) or that
    /// contains `pooler.supabase`, and for port 6543 (Supabase). A pooler of one's own can't be
    /// told from PostgreSQL by its URL, so the caller has a setting that overrides this.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// `host[:port][,host2]/dbname`, for logs and the ready line. The port is left out where it is
    /// 5432.
    #[must_use]
    pub fn display(&self) -> String {
        let hosts: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        // Without a name the server takes the user's.
        let database = self
            .base
            .get_dbname()
            .or(self.base.get_user())
            .unwrap_or_default();
        format!("{}/{database}", hosts.join(","))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.display()).finish()
    }
}

/// Adds one server to a configuration. `hostaddr` must be given for all servers or for none, which
/// [`params`] has checked.
pub(super) fn add_target(config: &mut Config, target: &ServerAddress) {
    match &target.host {
        Host::Tcp(name) => config.host(name),
        Host::Unix(dir) => config.host_path(dir),
    };
    if let Some(addr) = target.addr {
        config.hostaddr(addr);
    }
    config.port(target.port);
}

fn looks_pooled(target: &ServerAddress) -> bool {
    let Host::Tcp(name) = &target.host else {
        return false;
    };
    let name = name.to_ascii_lowercase();
    let first_label = name.split('.').next().unwrap_or_default();
    first_label.ends_with("-pooler") || name.contains("pooler.supabase") || target.port == 6543
}

#[cfg(test)]
mod tests;
