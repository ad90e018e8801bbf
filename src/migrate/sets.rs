//! The sets: migrations that are installed together, with a history of their own. Four are embedded; the fifth is
//! a team's own, from a directory.

use std::fmt;

use clap::ValueEnum;
use refinery::{Migration, Runner};
use serde::Serialize;

use super::script::Script;
use crate::{postgres::Sql, store::Scope};

mod auth {
    refinery::embed_migrations!("migrations/auth");
}
mod chat {
    refinery::embed_migrations!("migrations/chat");
}
mod link {
    refinery::embed_migrations!("migrations/link");
}
mod search {
    refinery::embed_migrations!("migrations/search");
}

/// The ways back, which refinery doesn't embed: set, file, text.
static DOWNS: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/downs.rs"));

/// The sets, in the order in which they are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SetName {
    /// Users and profiles.
    Auth,
    /// Sessions, messages, citations and documents.
    Chat,
    /// The foreign key from sessions to users, where both are kept.
    Link,
    /// The index for searching the messages of a whole tenant; opt-in.
    Search,
    /// The team's own, from --migrations-dir.
    Own,
}

impl SetName {
    /// All of them, in the order in which they are installed.
    pub const ALL: [SetName; 5] = [
        SetName::Auth,
        SetName::Chat,
        SetName::Link,
        SetName::Search,
        SetName::Own,
    ];

    /// As it is written in `--set`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SetName::Auth => "auth",
            SetName::Chat => "chat",
            SetName::Link => "link",
            SetName::Search => "search",
            SetName::Own => "own",
        }
    }

    /// Where the set's history is, in refinery's form. Pasted into SQL.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            SetName::Auth => "chatledger_auth_migrations",
            SetName::Chat => "chatledger_chat_migrations",
            SetName::Link => "chatledger_link_migrations",
            SetName::Search => "chatledger_search_migrations",
            SetName::Own => "chatledger_own_migrations",
        }
    }

    /// Whether it is installed only where it was asked for.
    #[must_use]
    pub fn is_optional(self) -> bool {
        self == SetName::Search
    }

    /// Whether a scope has it.
    #[must_use]
    pub fn is_in(self, scope: Scope) -> bool {
        match self {
            SetName::Auth => scope.has_auth(),
            SetName::Chat | SetName::Search => scope.has_chat(),
            SetName::Link => scope.has_auth() && scope.has_chat(),
            SetName::Own => true,
        }
    }

    /// Whether it alters what `other` makes, so that `other` can't be taken down before it.
    #[must_use]
    pub fn stands_on(self, other: SetName) -> bool {
        match self {
            SetName::Auth | SetName::Chat => false,
            SetName::Link | SetName::Own => matches!(other, SetName::Auth | SetName::Chat),
            SetName::Search => other == SetName::Chat,
        }
    }

    /// refinery's, of an embedded set.
    pub(super) fn runner(self) -> Option<Runner> {
        match self {
            SetName::Auth => Some(auth::migrations::runner()),
            SetName::Chat => Some(chat::migrations::runner()),
            SetName::Link => Some(link::migrations::runner()),
            SetName::Search => Some(search::migrations::runner()),
            SetName::Own => None,
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
            is_known: name != SetName::Own,
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
    let down = DOWNS
        .iter()
        .find(|(of, name, _)| *of == set.as_str() && *name == file);
    Step {
        set,
        up: Script::new(migration.sql().unwrap_or_default()),
        down: down.map(|(_, _, text)| Script::new(*text)),
        migration: migration.clone(),
    }
}

macro_rules! version_of {
    ($table:literal) => {
        Sql {
            text: concat!("SELECT coalesce(max(version), 0)::bigint FROM ", $table),
            params: &[],
        }
    };
}

/// How far the sets are that every server of their scope needs.
pub static VERSIONS: [(SetName, Sql); 3] = [
    (SetName::Auth, version_of!("chatledger_auth_migrations")),
    (SetName::Chat, version_of!("chatledger_chat_migrations")),
    (SetName::Link, version_of!("chatledger_link_migrations")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_migration_has_a_way_back_and_is_well_formed() {
        for name in SetName::ALL {
            let set = Set::embedded(name);
            assert_eq!(set.steps.is_empty(), name == SetName::Own);
            for step in &set.steps {
                assert_eq!(step.up.check(), Ok(()), "{step}");
                let down = step.down.as_ref().expect("build.rs has found it");
                assert_eq!(down.check(), Ok(()), "{step}");
            }
            // No gaps, so that the count is the version.
            let versions: Vec<i64> = set.steps.iter().map(Step::version).collect();
            assert_eq!(versions, (1..).take(versions.len()).collect::<Vec<_>>(), "{name}");
        }
    }
}
