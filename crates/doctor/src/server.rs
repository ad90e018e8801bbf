//! The server itself: its version, whether it can be written to, its clock, and room for connections.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    ConnectionNeed, Finding, Patient,
    finding::{CLOCK, CONNECTIONS, ENCODING, EXTENSIONS, PRIMARY, VERSION},
    line::{Asked, Line, cell},
    units::span,
};

/// The major versions that are built and tested with.
const SUPPORTED: std::ops::RangeInclusive<i32> = 14..=18;
/// How many times the clock is asked; the quickest answer is the most exact.
const SAMPLES: usize = 5;
/// A clock that is off by this shows: times of messages and of logs are compared.
const SKEW: Duration = Duration::from_secs(1);
/// Off by this, tokens are refused and reports are of other days.
const GREAT_SKEW: Duration = Duration::from_mins(1);

const ABOUT: &str = include_str!("sql/server.sql");
const CONNECTIONS_SQL: &str = include_str!("sql/connections.sql");
const EXTENSIONS_SQL: &str = include_str!("sql/extensions.sql");
const CLOCK_SQL: &str = "SELECT clock_timestamp()";

/// PostgreSQL's version.
pub(crate) struct ServerVersion {
    /// Such as `15.18`.
    pub(crate) text: String,
    number: i32,
    is_read_only: bool,
    is_standby: bool,
    encoding: String,
}

/// Asks for the version, and what comes with it.
pub(crate) async fn version(line: &mut Line) -> Asked<ServerVersion> {
    let row = line.ask_one(ABOUT, &[]).await?;
    let text: String = cell(&row, 0)?;
    Ok(ServerVersion {
        // Distributions add a name of their own.
        text: text.split_whitespace().next().unwrap_or_default().to_owned(),
        number: cell(&row, 1)?,
        is_standby: cell(&row, 2)?,
        is_read_only: cell(&row, 3)?,
        encoding: cell(&row, 4)?,
    })
}

/// Looks at the server.
pub(crate) async fn look(patient: &Patient, line: &mut Line, version: &Asked<ServerVersion>) -> Vec<Finding> {
    let mut found = match version {
        Ok(version) => vec![
            judge_version(version),
            judge_primary(version),
            judge_encoding(version),
        ],
        Err(reason) => [VERSION, PRIMARY, ENCODING]
            .iter()
            .map(|check| check.unknown(reason))
            .collect(),
    };
    found.push(CLOCK.settle(clock(line).await));
    found.push(CONNECTIONS.settle(connections(patient, line).await));
    found.push(EXTENSIONS.settle(extensions(line).await));
    found
}

fn judge_version(version: &ServerVersion) -> Finding {
    let major = version.number / 10_000;
    let found = format!("PostgreSQL {}", version.text);
    if SUPPORTED.contains(&major) {
        VERSION.ok(found)
    } else if major < *SUPPORTED.start() {
        VERSION.error(format!("{found} is too old"), "PostgreSQL 14 or newer is needed")
    } else {
        VERSION.notice(
            format!("{found} is newer than any that this program was tested with"),
            "14 to 18 are; look for a newer chatledger",
        )
    }
}

fn judge_primary(version: &ServerVersion) -> Finding {
    const ADVICE: &str = "give the primary's URL, or several hosts with target_session_attrs=read-write";
    if version.is_standby {
        PRIMARY.error("it is a standby, which can't be written to", ADVICE)
    } else if version.is_read_only {
        PRIMARY.error(
            "transactions are read-only (default_transaction_read_only)",
            ADVICE,
        )
    } else {
        PRIMARY.ok("it can be written to")
    }
}

fn judge_encoding(version: &ServerVersion) -> Finding {
    if version.encoding == "UTF8" {
        ENCODING.ok("UTF8")
    } else {
        ENCODING.error(
            format!(
                "{}: texts with other characters can't be stored",
                version.encoding
            ),
            "make a database with ENCODING UTF8, and move to it by `export` and `import`",
        )
    }
}

async fn clock(line: &mut Line) -> Asked<Finding> {
    let mut best: Option<(i64, Duration)> = None;
    for _ in 0..SAMPLES {
        let before = Timestamp::now();
        let began = std::time::Instant::now();
        let theirs: Timestamp = cell(&line.ask_one(CLOCK_SQL, &[]).await?, 0)?;
        let took = began.elapsed();
        // It looked at its clock somewhere between: in the middle, give or take half of the time that it took.
        let middle = before.as_microsecond() + micros(took / 2);
        let offset = theirs.as_microsecond().saturating_sub(middle);
        if best.is_none_or(|(_, least)| took < least) {
            best = Some((offset, took));
        }
    }
    let (offset, took) = best.unwrap_or_default();
    Ok(judge_clock(offset, took))
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// `offset` is in microseconds, and exact to half of what the question took.
fn judge_clock(offset: i64, took: Duration) -> Finding {
    const ADVICE: &str = "keep both clocks by NTP (chrony, systemd-timesyncd)";
    let off = Duration::from_micros(offset.unsigned_abs());
    let way = if offset < 0 { "behind" } else { "ahead of" };
    let found = format!(
        "{} {way} this machine's, give or take {}",
        span(off),
        span(took / 2)
    );
    // What is certain of it.
    let certain = off.saturating_sub(took / 2);
    if certain < SKEW {
        CLOCK.ok(found)
    } else if certain < GREAT_SKEW {
        CLOCK.warning(found, ADVICE)
    } else {
        CLOCK.error(found, ADVICE)
    }
}

/// What there is of connections.
#[derive(Debug)]
struct ConnectionRoom {
    /// All that the server has.
    most: i64,
    /// How many of these are not for us.
    reserved: i64,
    /// The role's own limit; none, where it is negative.
    of_role: i64,
    /// The database's; likewise.
    of_database: i64,
    /// How many are in use.
    used: i64,
    /// How many of these are our servers'.
    ours: i64,
}

impl ConnectionRoom {
    fn read(row: &Row) -> Asked<ConnectionRoom> {
        Ok(ConnectionRoom {
            most: cell(row, 0)?,
            reserved: cell(row, 1)?,
            of_role: cell(row, 2)?,
            of_database: cell(row, 3)?,
            used: cell(row, 4)?,
            ours: cell(row, 5)?,
        })
    }
}

async fn connections(patient: &Patient, line: &mut Line) -> Asked<Finding> {
    let room = ConnectionRoom::read(&line.ask_one(CONNECTIONS_SQL, &[]).await?)?;
    if patient.is_pooled {
        return Ok(CONNECTIONS.ok(format!(
            "max_connections is {}; the pooler's limits count (PgBouncer: max_client_conn at least {}, default_pool_size)",
            room.most,
            patient.connections.all()
        )));
    }
    Ok(judge_connections(patient.connections, &room))
}

fn judge_connections(wanted: ConnectionNeed, room: &ConnectionRoom) -> Finding {
    const ADVICE: &str = "fewer by --pool-size or --append-lanes, more by max_connections (a restart), or a pooler between; \
                          --servers says how many servers there are";
    let need = i64::from(wanted.all());
    let usable = room.most - room.reserved;
    let (limit, whose) = [
        (room.of_role, "the role's limit"),
        (room.of_database, "the database's limit"),
    ]
    .into_iter()
    .filter(|(limit, _)| *limit >= 0)
    .fold(
        (usable, "max_connections without those reserved"),
        |least, next| {
            if next.0 < least.0 { next } else { least }
        },
    );
    let others = (room.used - room.ours).max(0);
    let found = format!(
        "{} server{} may want {need} (--pool-size, --append-lanes), {whose} is {limit}, {others} are others'",
        wanted.servers,
        if wanted.servers == 1 { "" } else { "s" }
    );
    if need > limit {
        CONNECTIONS.error(found, ADVICE)
    } else if need + others > limit {
        CONNECTIONS.warning(found, ADVICE)
    } else {
        CONNECTIONS.ok(found)
    }
}

async fn extensions(line: &mut Line) -> Asked<Finding> {
    let rows = line.ask(EXTENSIONS_SQL, &[]).await?;
    let names = rows
        .iter()
        .map(|row| cell(row, 0))
        .collect::<Asked<Vec<String>>>()?;
    Ok(EXTENSIONS.ok(if names.is_empty() {
        "none, and none is needed".to_owned()
    } else {
        format!("{}; none is needed", names.join(", "))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity::{self, Error, Notice, Ok as Well, Warning};

    fn version(number: i32) -> ServerVersion {
        ServerVersion {
            text: format!("{}.{}", number / 10_000, number % 10_000),
            number,
            is_read_only: false,
            is_standby: false,
            encoding: "UTF8".to_owned(),
        }
    }

    #[test]
    fn versions_that_are_too_old_or_unknown_are_told() {
        for (number, severity) in [
            (130_023, Error),
            (140_000, Well),
            (180_001, Well),
            (190_000, Notice),
        ] {
            assert_eq!(judge_version(&version(number)).severity, severity, "{number}");
        }
        let standby = ServerVersion {
            is_standby: true,
            ..version(150_018)
        };
        assert_eq!(judge_primary(&standby).severity, Error);
    }

    #[test]
    fn a_slow_answer_is_no_skew() {
        let cases: [(i64, u64, Severity); 5] = [
            (100, 1, Well),
            (-1_500_000, 1, Warning),
            (1_500_000, 2_000, Well),
            (-120_000_000, 1, Error),
            (i64::MIN, 1, Error),
        ];
        for (offset, took, severity) in cases {
            let found = judge_clock(offset, Duration::from_millis(took));
            assert_eq!(found.severity, severity, "{offset}: {found:?}");
        }
    }

    #[test]
    fn the_least_limit_counts_and_others_do_too() {
        let wanted = ConnectionNeed {
            per_server: 20,
            servers: 2,
        };
        let room = |of_role, used| ConnectionRoom {
            most: 100,
            reserved: 3,
            of_role,
            of_database: -1,
            used,
            ours: 10,
        };
        for (of_role, used, severity) in [
            (-1, 20, Well),
            (-1, 80, Warning),
            (30, 20, Error),
            (50, 20, Well),
            (50, 30, Warning),
        ] {
            let found = judge_connections(wanted, &room(of_role, used));
            assert_eq!(found.severity, severity, "{found:?}");
        }
    }
}
