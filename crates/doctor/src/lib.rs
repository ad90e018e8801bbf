//! Looks at a database as a server would use it, and tells what is well and what isn't.
//!
//! [`examine`] takes a [`Patient`] (the database, and how a server is to use it) and answers an [`Examination`]: a [`Finding`] for
//! each [`DatabaseCheck`] of [`CHECKS`]. A check has an id that stays, a severity, what was found, and what to do. Nothing here knows what
//! is stored.
//!
//! # The walk of an examination
//!
//! 1. `connection` connects, and looks at the way to the database: TLS, poolers, latency. Where there is none, that is all.
//! 2. The other groups are asked one after the other over a `Line`, a connection on which no question is waited for long:
//!    `server`, `settings` (durability and timeouts), `schema`, `privileges`, `vacuum`, `replication`, `room`.
//! 3. A group asks by a statement of `sql/`, and judges the rows by functions that need no database.
//!
//! `finding` has the catalogue of checks, and what a finding is.
//!
//! # What it promises
//!
//! - It only reads: no statement writes, takes a lock that others wait for, or leaves something in a session.
//! - What a role may not see, or what isn't answered in time, is a finding that says so; the rest is told all the same.
//! - It ends in time: [`EXAMINED_WITHIN`] after connecting at most.
//! - No finding shows a password, a row, or a setting's value that could hold one.

mod connection;
mod finding;
mod line;
mod privileges;
mod replication;
mod room;
mod schema;
mod server;
mod settings;
mod units;
mod vacuum;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use tokio::time;

use chatledger_migrate::{Migrator, Program};
use chatledger_postgres::url::DatabaseUrl;

pub use finding::{CHECKS, DatabaseCheck, Finding, Severity};

use line::{Line, Unknown};

/// The longest time that an examination takes, once there is a connection.
pub const EXAMINED_WITHIN: Duration = Duration::from_secs(30);

/// A database, and how a server is to use it.
pub struct Patient {
    /// Where statements go.
    pub url: DatabaseUrl,
    /// Where migrations go, and notifications come from.
    pub direct_url: DatabaseUrl,
    /// Whether a direct URL was given besides.
    pub has_direct: bool,
    /// Whether the server takes `url` for a transaction pooler's.
    pub is_pooled: bool,
    /// Whether it only migrates and listens through one, having no other way.
    pub migrates_pooled: bool,
    /// The directory of an embedded database's data, whose disk can be seen.
    pub data_dir: Option<PathBuf>,
    /// The migrations, and the statements that are run.
    pub program: &'static Program,
    /// How many connections all servers together may have.
    pub connections: ConnectionNeed,
    /// The longest time that a request may take.
    pub request_timeout: Duration,
    /// How long connecting is tried.
    pub patience: Duration,
    /// The migrations over `direct_url`.
    pub migrator: Migrator,
}

/// How many connections servers may have.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionNeed {
    /// The most of one server.
    pub per_server: u32,
    /// How many servers there are.
    pub servers: u32,
}

impl ConnectionNeed {
    /// The most of all servers.
    #[must_use]
    pub fn all(self) -> u32 {
        self.per_server.saturating_mul(self.servers)
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// The database, without secrets.
    pub database: String,
    /// PostgreSQL's version, such as `15.18`; nothing, where it couldn't be asked.
    pub server_version: Option<String>,
    /// The findings, in the order of [`CHECKS`].
    pub checks: Vec<Finding>,
}

impl Examination {
    /// How many findings have this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.checks
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    }
}

/// Examines a database.
pub async fn examine(patient: &Patient) -> Examination {
    let mut examination = Examination {
        database: patient.url.display(),
        server_version: None,
        checks: Vec::new(),
    };
    let mut line = match Line::open(&patient.url, patient.patience).await {
        Ok(line) => line,
        Err(reason) => {
            examination.checks = connection::away(patient, &reason);
            return examination;
        }
    };
    let looking = Box::pin(look(patient, &mut line, &mut examination));
    if time::timeout(EXAMINED_WITHIN, looking).await.is_err() {
        let looked = examination.checks.len();
        let left = CHECKS.iter().skip(looked);
        examination
            .checks
            .extend(left.map(|check| check.unknown(&Unknown::Late)));
    }
    examination
}

/// Looks at everything, in the order of [`CHECKS`].
async fn look(patient: &Patient, line: &mut Line, examination: &mut Examination) {
    let found = &mut examination.checks;
    found.extend(connection::look(patient, line).await);
    // Past a pooler, where there is a way, more can be asked.
    let mut direct = if patient.has_direct {
        Line::open(&patient.direct_url, patient.patience).await.ok()
    } else {
        None
    };
    let line = direct.as_mut().unwrap_or(line);
    let version = server::version(line).await;
    examination.server_version = version.as_ref().ok().map(|version| version.text.clone());
    found.extend(server::look(patient, line, &version).await);
    found.extend(settings::look(patient, line).await);
    let made = schema::made(patient).await;
    found.extend(schema::look(patient, line, &made).await);
    // Whoever may not read the histories can still be told of the tables that there should be.
    let tables = made
        .as_ref()
        .map_or_else(|_| patient.migrator.makes().tables, |made| made.tables.clone());
    found.extend(privileges::look(patient, line, &tables).await);
    found.extend(vacuum::look(line, &tables).await);
    found.extend(replication::look(line).await);
    found.extend(room::look(patient, line, &tables).await);
}
