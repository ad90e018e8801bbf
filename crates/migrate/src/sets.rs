//! The sets: migrations that are installed together, with a history of their own. A program embeds some; one more is
//! a team's own, from a directory.

use std::fmt;

use refinery::{Migration, Runner};
use serde::{Serialize, Serializer};

use crate::script::Script;
use chatledger_postgres::Sql;

/// A set of migrations: where its history is, and what a program brings along for it.
#[derive(Debug)]
pub struct SetDescription {
    /// As it is written in `--set`.
    pub name: &'static str,
    /// Where the set's history is, in refinery's form. Pasted into SQL.
    pub table: &'static str,
    /// Whether it is installed only where it was asked for.
    pub is_optional: bool,
    /// The sets whose tables it alters, so that they can't be taken down before it.
    pub stands_on: &'static [&'static str],
    /// refinery's migrations; none, where they come from a directory.
    pub runner: Option<fn() -> Runner>,
    /// The ways back, which refinery doesn't embed: file, such as `V2__messages`, and text.
    pub downs: &'static [(&'static str, &'static str)],
    /// Answers the newest version that was applied, 0 for none; of sets that every server needs.
    pub version: Option<Sql>,
}

/// A set, by its description.
#[derive(Clone, Copy)]
pub struct SetName(pub &'static SetDescription);

impl SetName {
    /// As it is written in `--set`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0.name
    }

    pub(crate) fn table(self) -> &'static str {
        self.0.table
    }

    /// Whether it is installed only where it was asked for.
    #[must_use]
    pub fn is_optional(self) -> bool {
        self.0.is_optional
    }

    /// Whether it is the team's own, from a directory.
    #[must_use]
    pub fn is_own(self) -> bool {
        self.0.runner.is_none()
    }

    pub(crate) fn stands_on(self, other: SetName) -> bool {
        self.0.stands_on.contains(&other.as_str())
    }

    /// refinery's, of an embedded set.
    pub(crate) fn runner(self) -> Option<Runner> {
        self.0.runner.map(|runner| runner())
    }
}

impl PartialEq for SetName {
    fn eq(&self, other: &SetName) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for SetName {}

impl fmt::Debug for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SetName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How many versions a major version of an embedded set's schema has: V1 to V999 are 0, V1000 to V1999 are 1, and
/// so on. A server accepts newer versions of its own major version (see migrations/README.md).
const MAJOR: i64 = 1000;

/// The major version of an embedded set's version.
#[must_use]
pub fn major(version: i64) -> i64 {
    version / MAJOR
}

/// A set with its migrations.
#[derive(Clone, Debug)]
pub struct Set {
    /// Which one.
    pub name: SetName,
    /// In order of version.
    pub steps: Vec<Step>,
    /// Whether its files are at hand; not, where there is no `--migrations-dir`.
    pub is_known: bool,
}

/// One migration of a set.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its set.
    pub set: SetName,
    /// As refinery knows it: version, name, checksum.
    pub migration: Migration,
    /// The way there.
    pub up: Script,
    /// The way back, where the team has written one.
    pub down: Option<Script>,
}

impl Step {
    /// Its place in the set.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.migration.version()
    }

    /// Such as `V2__messages`.
    #[must_use]
    pub fn file(&self) -> String {
        self.migration.to_string()
    }
}

/// Such as `chat V2__messages`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.set, self.migration)
    }
}

impl Set {
    /// An embedded set. `own` has no migrations here.
    #[must_use]
    pub fn embedded(name: SetName) -> Set {
        let runner = name.runner();
        let migrations = runner.iter().flat_map(Runner::get_migrations);
        let mut steps: Vec<Step> = migrations.map(|migration| step(name, migration)).collect();
        steps.sort_by_key(Step::version);
        Set {
            name,
            steps,
            is_known: !name.is_own(),
        }
    }

    /// The newest version that there is.
    #[must_use]
    pub fn head(&self) -> Option<i64> {
        self.steps.last().map(Step::version)
    }

    /// The migration of a version.
    #[must_use]
    pub fn step(&self, version: i64) -> Option<&Step> {
        self.steps.iter().find(|step| step.version() == version)
    }
}

fn step(set: SetName, migration: &Migration) -> Step {
    let file = migration.to_string();
    let down = set.0.downs.iter().find(|(name, _)| *name == file);
    Step {
        set,
        up: Script::new(migration.sql().unwrap_or_default()),
        down: down.map(|(_, text)| Script::new(*text)),
        migration: migration.clone(),
    }
}
