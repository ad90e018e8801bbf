//! What a program brings along: its sets, a constraint that waits for its rows, and its statements.

use crate::sets::{Set, SetName};
use chatledger_postgres::Sql;

/// The migrations and statements that a program brings along.
#[derive(Debug)]
pub struct Program {
    /// The name that its scratch databases begin with.
    pub name: &'static str,
    /// All its sets, in the order in which they are installed; the team's own is the last.
    pub sets: &'static [SetName],
    /// A constraint that waits for its rows to be right.
    pub late: Option<LateConstraint>,
    /// The columns, by table, whose values nobody else is to read.
    pub secrets: &'static [(&'static str, &'static str)],
    /// Every statement that it runs, for a rehearsal.
    pub statements: fn() -> Vec<&'static Sql>,
    /// The hint where a migration would create a table that is there already.
    pub table_exists: &'static str,
    /// The table of the examples in a new migration's file.
    pub example_table: &'static str,
}

/// A constraint that a migration adds NOT VALID, since there may be rows that don't keep it. It is validated as soon as none
/// is left, by whoever migrates next.
#[derive(Debug)]
pub struct LateConstraint {
    /// The set whose migration adds it.
    pub set: SetName,
    /// The constraint's table.
    pub table: &'static str,
    /// The constraint's name.
    pub name: &'static str,
    /// Counts the rows that don't keep it, as a bigint.
    pub exceptions: &'static str,
    /// The words on those rows, behind their number.
    pub what: &'static str,
}

impl Program {
    /// The set with this name; without one, the names that there are.
    ///
    /// # Errors
    /// No set has this name.
    pub fn parse_set(&self, name: &str) -> Result<SetName, String> {
        let found = self.sets.iter().copied().find(|set| set.as_str() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.sets.iter().map(|set| set.as_str()).collect();
            format!("is none of the sets: {}", names.join(", "))
        })
    }

    /// The tables that the histories are in.
    pub(crate) fn histories(&self) -> Vec<&'static str> {
        self.sets.iter().map(|set| set.table()).collect()
    }

    /// The set whose migrations come from a directory.
    pub(crate) fn own(&self) -> Option<SetName> {
        self.sets.iter().copied().find(|set| set.is_own())
    }

    /// Checks the embedded migrations, for a test of the program's: every set has some, in versions without a gap, and each
    /// is well formed, as is its way back.
    ///
    /// # Errors
    /// The first that isn't as it should be, and why.
    pub fn check(&self) -> Result<(), String> {
        for name in self.sets.iter().copied().filter(|name| !name.is_own()) {
            let set = Set::embedded(name);
            if set.steps.is_empty() {
                return Err(format!("{name}: has no migration"));
            }
            for (step, version) in set.steps.iter().zip(1..) {
                if step.version() != version {
                    return Err(format!("{step}: is the set's number {version}"));
                }
                let down = step.down.as_ref();
                let down = down.ok_or_else(|| format!("{step}: has no way back"))?;
                step.up.check().map_err(|why| format!("{step}: {why}"))?;
                down.check()
                    .map_err(|why| format!("{step}, its way back: {why}"))?;
            }
        }
        Ok(())
    }
}
