//! The sets: migrations that are installed together, with a history of their own. A program embeds some; one more is
//! a team's own, from a directory.

use std::fmt;

use refinery::{Migration, Runner};
use serde::{Serialize, Serializer};

use crate::script::Script;
use chatledger_postgres::Sql;

/// A program's description of a set: where its history is, and where its migrations come from.
#[derive(Debug)]
pub struct SetDescription {
    name: &'static str,
    table: &'static str,
    is_optional: bool,
    stands_on: &'static [&'static str],
    runner: Option<fn() -> Runner>,
    downs: &'static [(&'static str, &'static str)],
    version: Option<Sql>,
}

impl SetDescription {
    /// A set that the program embeds. `name` is how it is written in `--set`; `table` has its history in refinery's form,
    /// and is pasted into SQL; `runner` gives refinery's migrations; `downs` are the ways back, which refinery doesn't embed:
    /// file, such as `V2__messages`, and text.
    #[must_use]
    pub const fn embedded(
        name: &'static str,
        table: &'static str,
        runner: fn() -> Runner,
        downs: &'static [(&'static str, &'static str)],
    ) -> SetDescription {
        SetDescription {
            name,
            table,
            is_optional: false,
            stands_on: &[],
            runner: Some(runner),
            downs,
            version: None,
        }
    }

    /// The team's own set, whose migrations come from a directory.
    #[must_use]
    pub const fn from_directory(name: &'static str, table: &'static str) -> SetDescription {
        SetDescription {
            name,
            table,
            is_optional: false,
            stands_on: &[],
            runner: None,
            downs: &[],
            version: None,
        }
    }

    /// The sets whose tables this one alters, so that they can't be taken down before it.
    #[must_use]
    pub const fn stands_on(mut self, others: &'static [&'static str]) -> SetDescription {
        self.stands_on = others;
        self
    }

    /// An optional set is installed only where it was asked for.
    #[must_use]
    pub const fn optional(mut self) -> SetDescription {
        self.is_optional = true;
        self
    }

    /// A set that every server needs has a statement that answers the newest version that was applied, 0 for none.
    #[must_use]
    pub const fn needed(mut self, version: Sql) -> SetDescription {
        self.version = Some(version);
        self
    }
}

/// A set, by its description.
#[derive(Clone, Copy)]
pub struct SetName(&'static SetDescription);

impl SetName {
    /// The set with this description.
    #[must_use]
    pub const fn of(description: &'static SetDescription) -> SetName {
        SetName(description)
    }

    /// The name as it is written in `--set`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0.name
    }

    /// The statement that answers the newest version that was applied; of sets that every server needs.
    #[must_use]
    pub fn version(self) -> Option<&'static Sql> {
        self.0.version.as_ref()
    }

    pub(crate) fn table(self) -> &'static str {
        self.0.table
    }

    /// Whether the set is installed only where it was asked for.
    pub(crate) fn is_optional(self) -> bool {
        self.0.is_optional
    }

    /// Whether the set is the team's own, from a directory.
    pub(crate) fn is_own(self) -> bool {
        self.0.runner.is_none()
    }

    pub(crate) fn stands_on(self, other: SetName) -> bool {
        self.0.stands_on.contains(&other.as_str())
    }

    /// refinery's runner, of an embedded set.
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
pub(crate) fn major(version: i64) -> i64 {
    version / MAJOR
}

/// A set with its migrations.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    /// The set's description.
    pub(crate) name: SetName,
    /// The migrations in order of version.
    pub(crate) steps: Vec<MigrationStep>,
    /// Whether the set's files are at hand; not, where there is no `--migrations-dir`.
    pub(crate) is_known: bool,
}

/// One migration of a set.
#[derive(Clone, Debug)]
pub(crate) struct MigrationStep {
    /// The migration's set.
    pub(crate) set: SetName,
    /// The migration as refinery knows it: version, name, checksum.
    pub(crate) migration: Migration,
    /// The way there.
    pub(crate) up: Script,
    /// The way back, where the team has written one.
    pub(crate) down: Option<Script>,
}

impl MigrationStep {
    /// The migration's place in the set.
    pub(crate) fn version(&self) -> i64 {
        self.migration.version()
    }

    /// The full name, such as `V2__messages`.
    pub(crate) fn file(&self) -> String {
        self.migration.to_string()
    }
}

/// The set and the full name, such as `chat V2__messages`.
impl fmt::Display for MigrationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.set, self.migration)
    }
}

impl Set {
    /// An embedded set. `own` has no migrations here.
    pub(crate) fn embedded(name: SetName) -> Set {
        let runner = name.runner();
        let migrations = runner.iter().flat_map(Runner::get_migrations);
        let mut steps: Vec<MigrationStep> = migrations.map(|migration| step(name, migration)).collect();
        steps.sort_by_key(MigrationStep::version);
        Set {
            name,
            steps,
            is_known: !name.is_own(),
        }
    }

    /// The newest version that there is.
    pub(crate) fn head(&self) -> Option<i64> {
        self.steps.last().map(MigrationStep::version)
    }

    /// The migration of a version.
    pub(crate) fn step(&self, version: i64) -> Option<&MigrationStep> {
        self.steps.iter().find(|step| step.version() == version)
    }
}

fn step(set: SetName, migration: &Migration) -> MigrationStep {
    let file = migration.to_string();
    let down = set.0.downs.iter().find(|(name, _)| *name == file);
    MigrationStep {
        set,
        up: Script::new(migration.sql().unwrap_or_default()),
        down: down.map(|(_, text)| Script::new(*text)),
        migration: migration.clone(),
    }
}
