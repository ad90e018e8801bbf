//! Settings: what a commit is worth, and who ends what is long or idle.

use std::{collections::HashMap, time::Duration};

use tokio_postgres::types::Type;

use crate::{
    DatabaseCheck, Finding, Patient,
    finding::{
        FSYNC, FULL_PAGE_WRITES, IDLE_IN_TRANSACTION, IDLE_SESSION, LOCK_TIMEOUT, STATEMENT_TIMEOUT,
        SYNCHRONOUS_COMMIT, TRANSACTION_TIMEOUT, WAL_LEVEL,
    },
    line::{Asked, Line, Unknown, cell},
    units::span,
};

/// All that are asked for, at once.
const NAMES: [&str; 10] = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_level",
    "statement_timeout",
    "lock_timeout",
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
];

const SETTINGS: &str = include_str!("sql/settings.sql");

/// How long the pool keeps a connection that nobody uses (see docs/operations.md).
const POOL_IDLE: Duration = Duration::from_mins(5);
/// The server's own limits within a transaction: 5 s for locks, 10 s without a statement.
const OWN_LOCK_LIMIT: Duration = Duration::from_secs(5);
const OWN_IDLE_LIMIT: Duration = Duration::from_secs(10);
/// A statement of a request takes milliseconds; one that is ended sooner than this, under load, would have come to its end.
const SHORT: Duration = Duration::from_secs(5);

/// A setting, and who set it.
#[derive(Debug)]
struct Setting {
    value: String,
    /// PostgreSQL's word, such as `database` or `configuration file`.
    source: String,
}

/// The settings by name.
#[derive(Debug, Default)]
struct Settings(HashMap<String, Setting>);

impl Settings {
    fn value(&self, name: &str) -> Asked<&str> {
        self.0
            .get(name)
            .map(|setting| setting.value.as_str())
            .ok_or_else(|| Unknown::Other(format!("this server has no {name}")))
    }

    /// A time limit, which the catalog has in milliseconds; nothing where there is none.
    fn limit(&self, name: &str) -> Asked<Option<Duration>> {
        let millis: u64 = self.value(name)?.parse().unwrap_or(0);
        Ok((millis > 0).then(|| Duration::from_millis(millis)))
    }

    /// Where it is set, for people.
    fn whence(&self, name: &str) -> &str {
        match self.0.get(name).map(|setting| setting.source.as_str()) {
            Some("database") => "for the database",
            Some("user") => "for the role",
            Some("database user") => "for the role in this database",
            Some("client") => "by the URL",
            Some("default") => "by default",
            _ => "in the server's configuration",
        }
    }
}

/// What judges a setting.
type Judge = fn(&Patient, &Settings) -> Asked<Finding>;

/// Looks at the settings that a session of ours has.
pub(crate) async fn look(patient: &Patient, line: &mut Line) -> Vec<Finding> {
    let checks: [(&DatabaseCheck, Judge); 9] = [
        (&FSYNC, |_, it| fsync(it)),
        (&FULL_PAGE_WRITES, |_, it| full_page_writes(it)),
        (&SYNCHRONOUS_COMMIT, |_, it| synchronous_commit(it)),
        (&WAL_LEVEL, |_, it| wal_level(it)),
        (&STATEMENT_TIMEOUT, |patient, it| {
            statement_timeout(patient.request_timeout, it)
        }),
        (&LOCK_TIMEOUT, |_, it| lock_timeout(it)),
        (&IDLE_SESSION, |_, it| idle_session(it)),
        (&IDLE_IN_TRANSACTION, |_, it| idle_in_transaction(it)),
        (&TRANSACTION_TIMEOUT, |patient, it| {
            transaction_timeout(patient.request_timeout, it)
        }),
    ];
    match read(line).await {
        Ok(settings) => checks
            .iter()
            .map(|(check, judge)| check.settle(judge(patient, &settings)))
            .collect(),
        Err(reason) => checks.iter().map(|(check, _)| check.unknown(&reason)).collect(),
    }
}

async fn read(line: &mut Line) -> Asked<Settings> {
    let rows = line
        .ask(SETTINGS, &[(&NAMES.as_slice(), Type::TEXT_ARRAY)])
        .await?;
    let mut settings = Settings::default();
    for row in &rows {
        let setting = Setting {
            value: cell(row, 1)?,
            source: cell(row, 2)?,
        };
        settings.0.insert(cell(row, 0)?, setting);
    }
    Ok(settings)
}

fn fsync(settings: &Settings) -> Asked<Finding> {
    Ok(if settings.value("fsync")? == "on" {
        FSYNC.ok("on")
    } else {
        FSYNC.error(
            "off: a crash of the machine can lose everything, and not the newest alone",
            "fsync = on in postgresql.conf",
        )
    })
}

fn full_page_writes(settings: &Settings) -> Asked<Finding> {
    Ok(if settings.value("full_page_writes")? == "on" {
        FULL_PAGE_WRITES.ok("on")
    } else {
        FULL_PAGE_WRITES.error(
            "off: a page that was half written when the machine crashed can't be mended",
            "full_page_writes = on, unless the file system writes whole pages (ZFS)",
        )
    })
}

fn synchronous_commit(settings: &Settings) -> Asked<Finding> {
    let value = settings.value("synchronous_commit")?;
    let has_standbys = !settings
        .value("synchronous_standby_names")
        .unwrap_or_default()
        .is_empty();
    let whence = settings.whence("synchronous_commit");
    Ok(match value {
        "off" => SYNCHRONOUS_COMMIT.warning(
            format!("off, {whence}: what was acknowledged in the last moments before a crash is lost"),
            "synchronous_commit = on, or know that receipts promise less",
        ),
        "local" if has_standbys => SYNCHRONOUS_COMMIT.notice(
            format!("local, {whence}: a failover to a standby can lose what was acknowledged last"),
            "synchronous_commit = on waits for the synchronous standbys as well",
        ),
        value => SYNCHRONOUS_COMMIT.ok(value),
    })
}

fn wal_level(settings: &Settings) -> Asked<Finding> {
    let value = settings.value("wal_level")?;
    Ok(if value == "minimal" {
        WAL_LEVEL.warning(
            "minimal: neither replicas nor backups to a point in time are possible",
            "wal_level = replica, and a restart",
        )
    } else {
        WAL_LEVEL.ok(value)
    })
}

fn statement_timeout(request: Duration, settings: &Settings) -> Asked<Finding> {
    let name = "statement_timeout";
    Ok(match settings.limit(name)? {
        None => STATEMENT_TIMEOUT.ok("none: a request's own deadline ends its statements"),
        Some(limit) if limit < SHORT => STATEMENT_TIMEOUT.warning(
            format!(
                "{}, {}: appends and reports under load, and migrations, would be cut",
                span(limit),
                settings.whence(name)
            ),
            "ALTER ROLE … SET statement_timeout = 0 for the server's role: it cancels what nobody waits for",
        ),
        Some(limit) if limit < request => STATEMENT_TIMEOUT.notice(
            format!(
                "{}, {}: less than --request-timeout, so that long requests and migrations are cut",
                span(limit),
                settings.whence(name)
            ),
            "ALTER ROLE … SET statement_timeout = 0 for the server's role: it cancels what nobody waits for",
        ),
        Some(limit) => STATEMENT_TIMEOUT.ok(format!("{}, {}", span(limit), settings.whence(name))),
    })
}

fn lock_timeout(settings: &Settings) -> Asked<Finding> {
    let name = "lock_timeout";
    Ok(match settings.limit(name)? {
        None => LOCK_TIMEOUT.ok("none: the server has its own, 5 s, in its transactions"),
        Some(limit) if limit < OWN_LOCK_LIMIT => LOCK_TIMEOUT.warning(
            format!(
                "{}, {}: appends that wait for one another would fail",
                span(limit),
                settings.whence(name)
            ),
            "ALTER ROLE … SET lock_timeout = 0 for the server's role",
        ),
        Some(limit) => LOCK_TIMEOUT.ok(format!("{}, {}", span(limit), settings.whence(name))),
    })
}

fn idle_session(settings: &Settings) -> Asked<Finding> {
    let name = "idle_session_timeout";
    Ok(match settings.limit(name)? {
        Some(limit) if limit < POOL_IDLE => IDLE_SESSION.warning(
            format!(
                "{}, {}: shorter than the pool keeps idle connections (5 min), so that requests find them closed",
                span(limit),
                settings.whence(name)
            ),
            "ALTER ROLE … SET idle_session_timeout = 0 for the server's role: its pool closes idle connections itself",
        ),
        Some(limit) => IDLE_SESSION.ok(format!("{}, {}", span(limit), settings.whence(name))),
        None => IDLE_SESSION.ok("none: the pool closes idle connections itself, after 5 min"),
    })
}

fn idle_in_transaction(settings: &Settings) -> Asked<Finding> {
    let name = "idle_in_transaction_session_timeout";
    Ok(match settings.limit(name)? {
        None => IDLE_IN_TRANSACTION.notice(
            "none: the server ends its own after 10 s, and another program that forgets a transaction holds locks and dead rows \
             for ever",
            "idle_in_transaction_session_timeout = '5min' for the database",
        ),
        Some(limit) if limit < OWN_IDLE_LIMIT => IDLE_IN_TRANSACTION.notice(
            format!("{}, {}; the server has its own, 10 s, in its transactions", span(limit), settings.whence(name)),
            "imports, exports and migrations are slower than that where clients are: give them more, such as 5 min",
        ),
        Some(limit) => IDLE_IN_TRANSACTION.ok(format!("{}, {}", span(limit), settings.whence(name))),
    })
}

fn transaction_timeout(request: Duration, settings: &Settings) -> Asked<Finding> {
    let name = "transaction_timeout";
    // PostgreSQL 17 and later have it.
    if settings.value(name).is_err() {
        return Ok(TRANSACTION_TIMEOUT.ok("none: this server has no such limit"));
    }
    Ok(match settings.limit(name)? {
        Some(limit) if limit < request => TRANSACTION_TIMEOUT.warning(
            format!(
                "{}, {}: less than --request-timeout; histories, exports and migrations would be cut",
                span(limit),
                settings.whence(name)
            ),
            "ALTER ROLE … SET transaction_timeout = 0 for the server's role",
        ),
        Some(limit) => TRANSACTION_TIMEOUT.ok(format!("{}, {}", span(limit), settings.whence(name))),
        None => TRANSACTION_TIMEOUT.ok("none"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity::{self, Error, Notice, Ok as Well, Warning};

    type Judged = Box<dyn Fn(&Settings) -> Asked<Finding>>;
    type Cases = &'static [(&'static str, Severity)];

    fn of(name: &str, value: &str) -> Settings {
        let setting = Setting {
            value: value.to_owned(),
            source: "user".to_owned(),
        };
        Settings(HashMap::from([(name.to_owned(), setting)]))
    }

    #[test]
    fn each_value_is_judged() {
        let minute = Duration::from_mins(1);
        let judges: [(&str, Judged, Cases); 9] = [
            ("fsync", Box::new(fsync), &[("on", Well), ("off", Error)]),
            (
                "full_page_writes",
                Box::new(full_page_writes),
                &[("on", Well), ("off", Error)],
            ),
            (
                "synchronous_commit",
                Box::new(synchronous_commit),
                &[("on", Well), ("off", Warning), ("local", Well)],
            ),
            (
                "wal_level",
                Box::new(wal_level),
                &[("replica", Well), ("logical", Well), ("minimal", Warning)],
            ),
            (
                "statement_timeout",
                Box::new(move |it| statement_timeout(minute, it)),
                &[("0", Well), ("2000", Warning), ("30000", Notice), ("90000", Well)],
            ),
            (
                "lock_timeout",
                Box::new(lock_timeout),
                &[("0", Well), ("100", Warning), ("10000", Well)],
            ),
            (
                "idle_session_timeout",
                Box::new(idle_session),
                &[("0", Well), ("60000", Warning), ("600000", Well)],
            ),
            (
                "idle_in_transaction_session_timeout",
                Box::new(idle_in_transaction),
                &[("0", Notice), ("1000", Notice), ("60000", Well)],
            ),
            (
                "transaction_timeout",
                Box::new(move |it| transaction_timeout(minute, it)),
                &[("0", Well), ("1000", Warning), ("120000", Well)],
            ),
        ];
        for (name, judge, cases) in judges {
            for (value, severity) in cases {
                let found = judge(&of(name, value)).expect("it is there");
                assert_eq!(found.severity, *severity, "{name} = {value}: {found:?}");
            }
        }
        assert_eq!(
            transaction_timeout(minute, &Settings::default())
                .expect("older servers")
                .severity,
            Well
        );
    }
}
