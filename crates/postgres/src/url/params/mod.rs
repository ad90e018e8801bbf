//! What each parameter of a connection string means here.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{LoadBalanceHosts, TargetSessionAttrs};

use super::parse::UrlParams;
use super::{ServerAddress, SessionAttrs, UrlError};
use crate::tls::TlsOptions;

mod encryption;
mod hosts;

/// Where libpq would wait for ever. Long enough for a serverless database to wake and for TLS to the other side
/// of the world, short enough that the patience of those who wait is left for other hosts when one is dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepted without effect. Nothing here makes a connection less safe than asked for, or leads to
/// another database.
const IGNORED: [&str; 37] = [
    // libpq: Kerberos, files and encodings that aren't used; hints to the server.
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "sslcompression",
    "passfile",
    "client_encoding",
    "sslkeylogfile",
    "max_protocol_version",
    // Prisma, and Supabase and Vercel in the URLs that they show for it.
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "max_connection_lifetime",
    "max_idle_connection_lifetime",
    "single_use_connections",
    "supa",
    "workaround",
    // asyncpg, SQLAlchemy, Django.
    "statement_cache_size",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "max_cached_statement_lifetime",
    "max_cacheable_statement_size",
    "command_timeout",
    "async_fallback",
    "conn_max_age",
    // node-postgres, postgres.js, Go, sqlx, JDBC.
    "uselibpqcompat",
    "prepare",
    "binary_parameters",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "statement-cache-capacity",
    "pool_max_conns",
    "pool_min_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_idle_time",
    "pool_health_check_period",
    "prepareThreshold",
    "preparedStatementCacheQueries",
];

/// Refused, because a connection that ignores it would be less safe than asked for, or go
/// elsewhere.
const REFUSED: [(&str, &str); 15] = [
    ("sslcrl", "isn't supported (no revocation lists): remove it"),
    ("sslcrldir", "isn't supported (no revocation lists): remove it"),
    ("requirepeer", "isn't supported: remove it"),
    (
        "require_auth",
        "isn't supported: channel_binding=require enforces SCRAM",
    ),
    (
        "sslpassword",
        "isn't supported: give sslkey as an unencrypted file",
    ),
    (
        "sslidentity",
        "isn't supported: give sslcert and sslkey as PEM files",
    ),
    ("service", "isn't supported: write out what the service file says"),
    (
        "servicefile",
        "isn't supported: write out what the service file says",
    ),
    ("scram_client_key", "isn't supported: give the password"),
    ("scram_server_key", "isn't supported: give the password"),
    (
        "oauth_issuer",
        "isn't supported: use a password or a client certificate",
    ),
    (
        "oauth_client_id",
        "isn't supported: use a password or a client certificate",
    ),
    (
        "oauth_client_secret",
        "isn't supported: use a password or a client certificate",
    ),
    (
        "oauth_scope",
        "isn't supported: use a password or a client certificate",
    ),
    ("min_protocol_version", "isn't supported: remove it"),
];

pub(crate) struct ParsedUrl {
    pub base: Config,
    pub(crate) targets: Vec<ServerAddress>,
    pub(crate) session_attrs: SessionAttrs,
    pub tls: TlsOptions,
    pub pgbouncer: bool,
}

/// Translates all parameters. Each function takes those that it knows; what is left is ignored,
/// refused or unknown.
pub(super) fn read(mut params: UrlParams) -> Result<ParsedUrl, UrlError> {
    let params = &mut params;
    let mut base = Config::new();
    let targets = hosts::read(params)?;
    identity(params, &mut base)?;
    timing(params, &mut base)?;
    let session_attrs = session_attrs(params, &mut base)?;
    let tls = encryption::read(params)?;
    encryption::tell_driver(params, &tls, &mut base)?;
    let pgbouncer = switch(params, "pgbouncer")?.unwrap_or(false);
    leftovers(params)?;
    Ok(ParsedUrl {
        base,
        targets,
        session_attrs,
        tls,
        pgbouncer,
    })
}

fn wrong(name: &'static str, why: &'static str) -> UrlError {
    UrlError::Parameter { name, why }
}

/// Takes a parameter. One that is set to nothing counts as not given, as in libpq.
fn take(params: &mut UrlParams, name: &'static str) -> Result<Option<String>, UrlError> {
    let Some(value) = params.remove(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    String::from_utf8(value)
        .map(Some)
        .map_err(|_| wrong(name, "isn't UTF-8"))
}

/// Takes one of a fixed set of words.
fn word<T: Copy>(
    params: &mut UrlParams,
    name: &'static str,
    words: &[(&str, T)],
    why: &'static str,
) -> Result<Option<T>, UrlError> {
    let Some(value) = take(params, name)? else {
        return Ok(None);
    };
    let found = words.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| Some(*meaning)).ok_or(wrong(name, why))
}

fn switch(params: &mut UrlParams, name: &'static str) -> Result<Option<bool>, UrlError> {
    let words = [
        ("true", true),
        ("1", true),
        ("on", true),
        ("false", false),
        ("0", false),
        ("off", false),
    ];
    word(params, name, &words, "must be true or false")
}

fn number(params: &mut UrlParams, name: &'static str) -> Result<Option<i64>, UrlError> {
    let Some(value) = take(params, name)? else {
        return Ok(None);
    };
    value
        .trim()
        .parse()
        .map(Some)
        .map_err(|_| wrong(name, "must be a whole number"))
}

/// A number of units, where 0 and less mean the default.
fn duration(
    params: &mut UrlParams,
    name: &'static str,
    unit: Duration,
) -> Result<Option<Duration>, UrlError> {
    let units = number(params, name)?.and_then(|units| u32::try_from(units).ok());
    Ok(units.filter(|units| *units > 0).map(|units| unit * units))
}

/// Who connects, to which database, with which settings.
fn identity(params: &mut UrlParams, base: &mut Config) -> Result<(), UrlError> {
    if let Some(user) = take(params, "user")? {
        base.user(user);
    }
    if let Some(password) = params.remove("password").filter(|password| !password.is_empty()) {
        base.password(password);
    }
    if let Some(dbname) = take(params, "dbname")? {
        base.dbname(dbname);
    }
    let name = take(params, "application_name")?;
    let fallback = take(params, "fallback_application_name")?;
    base.application_name(name.or(fallback).unwrap_or_else(|| "chatledger".to_owned()));

    let mut options: Vec<String> = take(params, "options")?.into_iter().collect();
    if let Some(path) = search_path(params)? {
        // The server splits `options` at blanks that have no backslash before them.
        let escaped = path.replace('\\', r"\\").replace(' ', r"\ ");
        options.push(format!("-c search_path={escaped}"));
    }
    if !options.is_empty() {
        base.options(options.join(" "));
    }
    if take(params, "replication")?.is_some_and(|mode| !matches!(mode.as_str(), "false" | "off" | "no" | "0"))
    {
        return Err(wrong("replication", "isn't supported: remove it"));
    }
    Ok(())
}

/// Prisma's `schema` and JDBC's `currentSchema` are one name, Go's `search_path` is a list as in
/// SQL. The default needs no setting, which matters: poolers refuse `options` (PgBouncer, unless
/// told to ignore it) or this in it (Neon).
fn search_path(params: &mut UrlParams) -> Result<Option<String>, UrlError> {
    let schema = take(params, "schema")?;
    let current_schema = take(params, "currentSchema")?;
    let quoted = |schema: String| format!("\"{}\"", schema.replace('"', "\"\""));
    let path = schema
        .or(current_schema)
        .filter(|schema| schema != "public")
        .map(quoted);
    let list = take(params, "search_path")?.filter(|list| list != "public");
    Ok(path.or(list))
}

/// Where the URL says nothing, a peer that is gone without a word is noticed within half a minute, idle or not. The
/// system's own defaults are two hours for an idle connection, and a quarter of an hour for one that sends.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVES_COUNT: u32 = 3;

fn timing(params: &mut UrlParams, base: &mut Config) -> Result<(), UrlError> {
    const SECOND: Duration = Duration::from_secs(1);
    let timeout_given = params
        .get("connect_timeout")
        .is_some_and(|value| !value.is_empty());
    let timeout = duration(params, "connect_timeout", SECOND)?;
    // A given 0 means "for ever", as in libpq.
    if let Some(timeout) = timeout.or((!timeout_given).then_some(CONNECT_TIMEOUT)) {
        base.connect_timeout(timeout);
    }
    // libpq and the manual: milliseconds. (tokio_postgres' own parser takes them for seconds.)
    let timeout = duration(params, "tcp_user_timeout", Duration::from_millis(1))?;
    base.tcp_user_timeout(timeout.unwrap_or(TCP_USER_TIMEOUT));
    if let Some(on) = number(params, "keepalives")? {
        base.keepalives(on != 0);
    }
    base.keepalives_idle(duration(params, "keepalives_idle", SECOND)?.unwrap_or(KEEPALIVES_IDLE));
    let interval = duration(params, "keepalives_interval", SECOND)?;
    base.keepalives_interval(interval.unwrap_or(KEEPALIVES_INTERVAL));
    // libpq's name, and tokio_postgres' for the same.
    let count = number(params, "keepalives_count")?;
    let count = count
        .or(number(params, "keepalives_retries")?)
        .and_then(|count| u32::try_from(count).ok());
    base.keepalives_retries(count.filter(|count| *count > 0).unwrap_or(KEEPALIVES_COUNT));
    Ok(())
}

fn session_attrs(params: &mut UrlParams, base: &mut Config) -> Result<SessionAttrs, UrlError> {
    let words = [
        ("any", SessionAttrs::Any),
        ("read-write", SessionAttrs::ReadWrite),
        ("read-only", SessionAttrs::ReadOnly),
        ("primary", SessionAttrs::Primary),
        ("standby", SessionAttrs::Standby),
        ("prefer-standby", SessionAttrs::PreferStandby),
    ];
    let why = "must be any, read-write, read-only, primary, standby or prefer-standby";
    let attrs = word(params, "target_session_attrs", &words, why)?.unwrap_or_default();
    // The nearest that tokio_postgres has, for those who use the Config without the Connector.
    base.target_session_attrs(match attrs {
        SessionAttrs::Any | SessionAttrs::PreferStandby => TargetSessionAttrs::Any,
        SessionAttrs::ReadWrite | SessionAttrs::Primary => TargetSessionAttrs::ReadWrite,
        SessionAttrs::ReadOnly | SessionAttrs::Standby => TargetSessionAttrs::ReadOnly,
    });
    let words = [
        ("disable", LoadBalanceHosts::Disable),
        ("random", LoadBalanceHosts::Random),
    ];
    if let Some(balance) = word(params, "load_balance_hosts", &words, "must be disable or random")? {
        base.load_balance_hosts(balance);
    }
    Ok(attrs)
}

fn leftovers(params: &UrlParams) -> Result<(), UrlError> {
    for (name, value) in params {
        if let Some((name, why)) = REFUSED.iter().find(|(refused, _)| refused == name) {
            if !value.is_empty() {
                return Err(wrong(name, why));
            }
        } else if !IGNORED.contains(&name.as_str()) {
            // Anything else than a plain word could be a piece of a password that wasn't encoded.
            let is_plain = name.len() <= 40
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
            return Err(UrlError::Unknown(if is_plain {
                name.clone()
            } else {
                "(not shown)".to_owned()
            }));
        }
    }
    Ok(())
}
