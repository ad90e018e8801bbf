//! Migrations beyond refinery: a schema is brought up to date, and back, while servers use it. refinery has the embedded
//! migrations, their checksums and the form of the histories; what it lacks is here. What a program brings along is passed
//! in ([`Program`]): its sets of migrations, a constraint that waits for its rows, and the statements that it runs. Texts
//! for people name the commands as a program is expected to have them, such as `migrate up`.
//!
//! - [`sets`]: what there is to apply, and [`own`]: a team's own migrations, from a directory.
//! - [`script`]: a migration's SQL, split into statements.
//! - [`history`]: what was applied, and how that differs from the files.
//! - [`choose`]: which migrations a command means; [`change`] applies them, takes them back, and records them
//!   ([`lock`]: one at a time); [`plan`] prints what that would run.
//! - [`driver`]: one migration, in a transaction that waits for locks only briefly; [`unwrapped`]: without one.
//!   [`progress`] is what they tell, [`watch`] how it is seen from outside.
//! - [`catalog`]: the tables as they are; [`verify`] compares them with what the migrations make ([`difference`]),
//!   in a [`scratch`] database; [`mend`] writes the SQL for what is missing.
//! - [`dump`]: backups by pg_dump; [`rehearse`]: the pending migrations on a copy.
//! - [`boot`]: what a server does; [`within`]: all of it in one transaction, for `adopt`.

pub mod boot;
mod catalog;
mod change;
mod choose;
mod difference;
mod driver;
mod dump;
mod history;
mod lock;
mod mend;
pub mod own;
mod plan;
mod progress;
mod rehearse;
mod scratch;
mod script;
pub mod sets;
mod unwrapped;
mod verify;
mod watch;
mod within;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use backon::Retryable;
use serde::Serialize;
use tokio::time::{self, Instant};
use tokio_postgres::Client;

pub use boot::{Mode, is_usable, prepare};
pub use change::{Backup, Change, Stamped};
pub use choose::Until;
pub use difference::Difference;
pub use driver::LockPolicy;
pub use history::{Drift, Problem};
pub use plan::Planned;
pub use progress::{Event, Listener};
pub use rehearse::{Copy, Rehearsal};
pub use verify::Verdict;
pub use watch::HeldLock;
pub use within::Within;

use chatledger_postgres::{
    Sql,
    connect::{self, Connector, describe},
};
use history::State;
use sets::{Set, SetName};

/// The oldest PostgreSQL whose SQL the migrations and the statements are written in, as `server_version_num` has it.
const OLDEST: u32 = 140_000;

fn check_version(number: u32) -> anyhow::Result<()> {
    anyhow::ensure!(
        number >= OLDEST,
        "PostgreSQL {}.{} is too old: 14 or newer is needed; nothing was changed",
        number / 10_000,
        number % 10_000
    );
    Ok(())
}

/// What a program brings along.
#[derive(Debug)]
pub struct Program {
    /// What its scratch databases are named after.
    pub name: &'static str,
    /// All its sets, in the order in which they are installed; the team's own is the last.
    pub sets: &'static [SetName],
    /// A constraint that waits for its rows to be right.
    pub late: Option<LateConstraint>,
    /// Every statement that it runs, for a rehearsal.
    pub statements: fn() -> Vec<&'static Sql>,
}

/// A constraint that a migration adds NOT VALID, since there may be rows that don't keep it. It is validated as soon as none
/// is left, by whoever migrates next.
#[derive(Debug)]
pub struct LateConstraint {
    /// The set whose migration adds it.
    pub set: SetName,
    /// Its table.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Counts the rows that don't keep it, as a bigint.
    pub exceptions: &'static str,
    /// What is said of them, behind their number.
    pub what: &'static str,
}

impl Program {
    /// The tables that the histories are in.
    fn histories(&self) -> Vec<&'static str> {
        self.sets.iter().map(|set| set.table()).collect()
    }

    fn own(&self) -> Option<SetName> {
        self.sets.iter().copied().find(|set| set.is_own())
    }

    fn set(&self, name: &str) -> Option<SetName> {
        self.sets.iter().copied().find(|set| set.as_str() == name)
    }
}

/// A set by its name.
///
/// # Errors
/// There is none with this name; those that there are.
pub fn parse_set(program: &'static Program, name: &str) -> Result<SetName, String> {
    let names = || {
        program
            .sets
            .iter()
            .map(|set| set.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    program
        .set(name)
        .ok_or_else(|| format!("is none of the sets: {}", names()))
}

/// What to migrate, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the program brings along.
    pub program: &'static Program,
    /// Which of its sets this is about, in the order in which they are installed.
    pub scope: Vec<SetName>,
    /// Only this set.
    pub only: Option<SetName>,
    /// An optional set that is wanted although it isn't installed.
    pub with: Vec<SetName>,
    /// Where the team's own migrations are.
    pub migrations_dir: Option<PathBuf>,
    /// How long to go on trying to connect.
    pub patience: Duration,
    /// How to wait for locks.
    pub locks: LockPolicy,
    /// Whether the connection goes through a transaction pooler.
    pub pooled: bool,
}

/// The migrations of a scope, over a database.
pub struct Migrator {
    connector: Connector,
    settings: Settings,
    /// All of them, whatever the scope.
    sets: Vec<Set>,
}

impl Migrator {
    /// Reads the team's own migrations.
    ///
    /// # Errors
    /// A file of them that is wrong; a set that is not in the scope.
    pub fn new(connector: Connector, settings: Settings) -> anyhow::Result<Migrator> {
        if let Some(only) = settings.only {
            anyhow::ensure!(
                settings.scope.contains(&only),
                "--set {only}: isn't part of this --scope"
            );
            anyhow::ensure!(
                !only.is_own() || settings.migrations_dir.is_some(),
                "--set own: needs --migrations-dir"
            );
        }
        for with in &settings.with {
            anyhow::ensure!(
                settings.scope.contains(with),
                "--with {with}: isn't part of this --scope"
            );
        }
        let program = settings.program;
        let mut sets: Vec<Set> = program.sets.iter().map(|name| Set::embedded(*name)).collect();
        if let (Some(dir), Some(own)) = (&settings.migrations_dir, program.own()) {
            sets.retain(|set| !set.name.is_own());
            sets.push(own::read(own, dir)?);
        }
        Ok(Migrator {
            connector,
            settings,
            sets,
        })
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let client = connect(&self.connector, self.settings.patience).await?;
        let number = text_of(&client, "SHOW server_version_num").await?;
        check_version(number.parse().unwrap_or_default())?;
        Ok(client)
    }

    /// All sets as the database has them.
    async fn states(&self, client: &Client) -> anyhow::Result<Vec<State<'_>>> {
        let mut states = Vec::new();
        for set in &self.sets {
            states.push(State::read(client, set).await?);
        }
        Ok(states)
    }

    /// Those that the command is about: of the scope, and wanted or installed where they are optional.
    fn chosen<'a>(&self, states: &[State<'a>]) -> Vec<State<'a>> {
        let is_chosen = |state: &&State<'a>| {
            let name = state.set.name;
            let is_there = !state.applied.is_empty();
            let is_wanted = self.settings.with.contains(&name) || self.settings.only == Some(name);
            self.settings.scope.contains(&name)
                && self.settings.only.is_none_or(|only| only == name)
                && (!name.is_optional() || is_there || is_wanted)
                && (state.set.is_known || is_there)
        };
        states.iter().filter(is_chosen).cloned().collect()
    }

    /// How far each set of the scope is.
    ///
    /// # Errors
    /// A database that can't be reached.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let shown = states.iter().filter(|state| {
            let name = state.set.name;
            self.settings.scope.contains(&name)
                && self.settings.only.is_none_or(|only| only == name)
                && (state.set.is_known || !state.applied.is_empty())
        });
        let sets: Vec<SetStatus> = shown.map(SetStatus::of).collect();
        Ok(Status {
            up_to_date: sets.iter().all(|set| !set.installed || set.pending.is_empty()),
            sets,
        })
    }

    /// Every migration that was applied, as it was, and those that are pending.
    ///
    /// # Errors
    /// A database that can't be reached.
    pub async fn history(&self) -> anyhow::Result<Vec<Entry>> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let mut entries = Vec::new();
        for state in self.chosen(&states) {
            let problems = state.problems();
            for applied in &state.applied {
                let problem = problems
                    .iter()
                    .find(|problem| problem.migration == applied.file());
                entries.push(Entry {
                    set: state.set.name,
                    version: applied.version,
                    migration: applied.file(),
                    applied_at: Some(seconds(&applied.at)),
                    drift: problem.map_or(Drift::None, |problem| problem.drift),
                });
            }
            entries.extend(
                state
                    .set
                    .steps
                    .iter()
                    .filter(|step| !state.has(step.version()))
                    .map(|step| Entry {
                        set: state.set.name,
                        version: step.version(),
                        migration: step.file(),
                        applied_at: None,
                        drift: problems
                            .iter()
                            .find(|problem| {
                                problem.drift == Drift::OutOfOrder && problem.migration == step.file()
                            })
                            .map_or(Drift::None, |problem| problem.drift),
                    }),
            );
        }
        Ok(entries)
    }
}

/// The answer of `migrate status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Whether nothing is pending in the sets that are installed.
    pub up_to_date: bool,
    /// The sets of the scope.
    pub sets: Vec<SetStatus>,
}

/// How far a set is.
#[derive(Debug, Serialize)]
pub struct SetStatus {
    /// Which one.
    pub set: SetName,
    /// Whether servers of this scope need it, or somebody wanted it: all but optional ones, and those that are there.
    pub installed: bool,
    /// The newest version that was applied.
    pub current: Option<i64>,
    /// The newest that there is.
    pub head: Option<i64>,
    /// What `up` would apply, such as `V2__messages`.
    pub pending: Vec<String>,
    /// When the newest was applied, in RFC 3339.
    pub applied_at: Option<String>,
    /// How history and files differ.
    pub drift: Drift,
    /// The same at length.
    pub problems: Vec<Problem>,
}

impl SetStatus {
    fn of(state: &State<'_>) -> SetStatus {
        SetStatus {
            set: state.set.name,
            installed: !state.set.name.is_optional() || !state.applied.is_empty(),
            current: state.current(),
            head: state.set.head(),
            pending: state.pending().iter().map(|step| step.file()).collect(),
            applied_at: state.applied.last().map(|applied| seconds(&applied.at)),
            drift: state.drift(),
            problems: state.problems(),
        }
    }
}

/// A line of `migrate history`.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The set.
    pub set: SetName,
    /// The version.
    pub version: i64,
    /// Such as `V2__messages`.
    pub migration: String,
    /// When, in RFC 3339; `None`: it is pending.
    pub applied_at: Option<String>,
    /// How it differs from its file.
    pub drift: Drift,
}

/// A time in RFC 3339 without the fractions; as it is where it is none.
fn seconds(text: &str) -> String {
    let time = text.parse::<jiff::Timestamp>();
    time.map_or_else(
        |_| text.to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// How long an attempt to connect that began in time may take when the time is over: enough for TLS to the
/// other side of the world.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

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

/// The first column of the first row, where a statement answers one.
async fn text_of(client: &Client, sql: &str) -> anyhow::Result<String> {
    let rows = client.query_typed(sql, &[]).await.map_err(explain)?;
    rows.first()
        .map(|row| row.get(0))
        .context("the database answered nothing")
}

#[cfg(test)]
mod tests {
    #[test]
    fn postgresql_13_is_too_old() {
        for number in [0, 90_624, 130_023] {
            assert!(super::check_version(number).is_err(), "{number}");
        }
        for number in [140_000, 150_018, 180_001] {
            assert!(super::check_version(number).is_ok(), "{number}");
        }
    }
}
