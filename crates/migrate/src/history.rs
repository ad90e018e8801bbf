//! What the database says was applied, against the files that there are.

use std::fmt;

use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use crate::{
    client::explain,
    sets::{MigrationStep, Set, SetName, major},
};

/// A row of a set's history.
#[derive(Clone, Debug)]
pub(crate) struct AppliedMigration {
    /// The migration's version.
    pub version: i64,
    /// Its name, such as `messages`.
    pub name: String,
    /// The time at which it was applied, in RFC 3339.
    pub at: String,
    /// refinery's checksum of name, version and text.
    pub checksum: String,
}

impl AppliedMigration {
    /// The full name, such as `V2__messages`.
    pub(crate) fn file(&self) -> String {
        format!("V{}__{}", self.version, self.name)
    }

    /// Whether the file is what was applied.
    fn is(&self, step: &MigrationStep) -> bool {
        self.name == step.migration.name() && self.checksum == step.migration.checksum().to_string()
    }
}

/// How the history of a set and its files differ, in one word; the worst of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// History and files don't differ.
    None,
    /// The files aren't at hand: there is no `--migrations-dir`.
    Unread,
    /// The database is ahead of the files: a newer server has been here.
    Newer,
    /// A migration was applied whose file is gone.
    Missing,
    /// A file is older than the newest that was applied, and was never applied itself.
    OutOfOrder,
    /// A file was changed after it was applied.
    Edited,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Drift::None => "none",
            Drift::Unread => "unread",
            Drift::Newer => "newer",
            Drift::Missing => "missing",
            Drift::OutOfOrder => "out-of-order",
            Drift::Edited => "edited",
        })
    }
}

/// One way in which history and files differ.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The kind of difference.
    pub drift: Drift,
    /// The difference's set.
    pub set: SetName,
    /// The migration, such as `V2__messages`.
    pub migration: String,
    /// The text that says what happened, and what to do about it.
    explanation: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.set, self.migration, self.explanation)
    }
}

/// A set as a database has it.
#[derive(Clone, Debug)]
pub(crate) struct SetState<'a> {
    /// The set.
    pub set: &'a Set,
    /// Its history, in order of version.
    pub applied: Vec<AppliedMigration>,
}

impl<'a> SetState<'a> {
    /// Reads a set's history. No table is an empty one.
    pub(super) async fn read(client: &Client, set: &'a Set) -> anyhow::Result<SetState<'a>> {
        let table = set.name.table();
        let exists = client
            .query_typed("SELECT to_regclass($1) IS NOT NULL", &[(&table, Type::TEXT)])
            .await
            .map_err(explain)?;
        if !exists.first().is_some_and(|row| row.get::<_, bool>(0)) {
            return Ok(SetState {
                set,
                applied: Vec::new(),
            });
        }
        let sql = format!(
            "SELECT version::bigint, coalesce(name, '')::text, coalesce(applied_on, '')::text,
                coalesce(checksum, '')::text FROM {table} ORDER BY version"
        );
        let rows = client.query_typed(&sql, &[]).await.map_err(explain)?;
        let applied = rows.iter().map(|row| AppliedMigration {
            version: row.get(0),
            name: row.get(1),
            at: row.get(2),
            checksum: row.get(3),
        });
        Ok(SetState {
            set,
            applied: applied.collect(),
        })
    }

    /// The newest version that was applied.
    pub(crate) fn current(&self) -> Option<i64> {
        self.applied.last().map(|applied| applied.version)
    }

    /// Whether a version was applied.
    pub(crate) fn has(&self, version: i64) -> bool {
        self.applied.iter().any(|applied| applied.version == version)
    }

    /// The migrations to be applied, in order.
    pub(crate) fn pending(&self) -> Vec<&'a MigrationStep> {
        let current = self.current();
        let newer = |step: &&MigrationStep| current.is_none_or(|current| step.version() > current);
        self.set.steps.iter().filter(newer).collect()
    }

    /// All ways in which history and files differ.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let applied = self.applied.iter().filter_map(|applied| self.problem_of(applied));
        let late = self
            .set
            .steps
            .iter()
            .filter_map(|step| self.problem_of_file(step));
        applied.chain(late).collect()
    }

    fn problem_of(&self, applied: &AppliedMigration) -> Option<Problem> {
        let (drift, explanation) = match self.set.step(applied.version) {
            Some(step) if applied.is(step) => return None,
            Some(step) => (
                Drift::Edited,
                format!(
                    "the file {} is different from what was applied at {}. Restore it and write a new migration; \
                     or, where the change doesn't matter (a comment), record it as it is now with `migrate \
                     stamp {} --set {}`",
                    step.file(),
                    applied.at,
                    self.current().unwrap_or(applied.version),
                    self.set.name
                ),
            ),
            None if !self.set.is_known => return None,
            None if self.set.head().is_none_or(|head| applied.version > head) => (
                Drift::Newer,
                "was applied by a newer program or from a newer directory, which this one knows nothing of; or its file \
                 is gone"
                    .to_owned(),
            ),
            None => (
                Drift::Missing,
                format!(
                    "was applied at {}, and its file is gone. Restore it, from version control for instance",
                    applied.at
                ),
            ),
        };
        Some(Problem {
            drift,
            set: self.set.name,
            migration: applied.file(),
            explanation,
        })
    }

    fn problem_of_file(&self, step: &MigrationStep) -> Option<Problem> {
        let current = self.current()?;
        (step.version() <= current && !self.has(step.version())).then(|| Problem {
            drift: Drift::OutOfOrder,
            set: self.set.name,
            migration: step.file(),
            explanation: format!(
                "was never applied, and V{current}, which is newer, was. Give it a version above {current} (rename \
                 both of its files); or, if its changes are in the database already, record them with `migrate \
                 stamp {current} --set {}`",
                self.set.name
            ),
        })
    }

    /// The worst difference in one word.
    pub(crate) fn drift(&self) -> Drift {
        if !self.set.is_known && !self.applied.is_empty() {
            return Drift::Unread;
        }
        let problems = self.problems();
        problems
            .iter()
            .map(|problem| problem.drift)
            .max()
            .unwrap_or(Drift::None)
    }

    /// Fails where applying migrations, or serving, could do harm.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let problems = self.problems();
        if let Some(problem) = problems
            .iter()
            .find(|problem| matches!(problem.drift, Drift::Edited | Drift::OutOfOrder))
        {
            anyhow::bail!("{problem}");
        }
        if let (Some(current), Some(head)) = (self.current(), self.set.head())
            && !self.set.name.is_own()
            && major(current) > major(head)
        {
            anyhow::bail!(
                "the schema is too new for this program: {} V{current} is of the major version {}, and this program's \
                 newest is V{head}, of {}; use a newer program",
                self.set.name,
                major(current),
                major(head)
            );
        }
        Ok(())
    }
}
