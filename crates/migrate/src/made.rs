//! What the migrations that were applied have made, as their SQL says: tables, and indexes by name. Nothing is run for it, so
//! that whoever may only read can compare.

use crate::{
    migrator::Migrator,
    privileges::{self, Exposure},
    script::{Script, ScriptStatement},
};

/// An index, a primary key's and a unique constraint's included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeIndex {
    /// The index's table.
    pub table: String,
    /// The index's name.
    pub name: String,
}

/// The tables and indexes that the embedded sets' applied migrations have made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeObjects {
    /// The tables' names.
    pub tables: Vec<String>,
    /// The indexes.
    pub indexes: Vec<MadeIndex>,
}

impl Migrator {
    /// What the migrations have made that this database's histories name. A team's own are left out: nobody knows how their SQL
    /// is written.
    ///
    /// # Errors
    /// A database that can't be reached, or histories that can't be read.
    pub async fn made(&self) -> anyhow::Result<MadeObjects> {
        let client = self.connect().await?;
        let states = self.states(&client).await?;
        let mut made = MadeObjects::default();
        for state in states.iter().filter(|state| !state.set.name.is_own()) {
            for step in &state.set.steps {
                if state.has(step.version()) {
                    made.apply(&step.up);
                }
            }
        }
        Ok(made)
    }

    /// What the migrations of the scope would make, optional sets apart: for whoever may not read the histories.
    #[must_use]
    pub fn makes(&self) -> MadeObjects {
        let mut made = MadeObjects::default();
        let sets = self.sets.iter().filter(|set| {
            self.settings.scope.contains(&set.name) && !set.name.is_own() && !set.name.is_optional()
        });
        for step in sets.flat_map(|set| &set.steps) {
            made.apply(&step.up);
        }
        made
    }

    /// Who else may do what with these tables, or read the secrets in them.
    ///
    /// # Errors
    /// A database that can't be reached.
    pub async fn exposures(&self, tables: &[String]) -> anyhow::Result<Vec<Exposure>> {
        let client = self.connect().await?;
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        privileges::exposures(&client, self.settings.program, &tables).await
    }
}

impl MadeObjects {
    fn apply(&mut self, script: &Script) {
        for statement in script.statements() {
            self.apply_one(&statement);
        }
    }

    fn apply_one(&mut self, statement: &ScriptStatement<'_>) {
        let mut words = statement.words().iter().copied().filter(|word| !is_filler(word));
        let (verb, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
        let Some(name) = words.next() else { return };
        if is(verb, "CREATE") && is(kind, "TABLE") {
            self.tables.push(name.to_owned());
            self.add_keys(name, statement.words());
        } else if is(verb, "ALTER") && is(kind, "TABLE") {
            self.add_keys(name, statement.words());
        } else if is(verb, "CREATE") && is(kind, "INDEX") {
            // INDEX name ON table
            let table = words.nth(1).unwrap_or_default();
            self.indexes.push(MadeIndex {
                table: table.to_owned(),
                name: name.to_owned(),
            });
        } else if is(verb, "DROP") && is(kind, "INDEX") {
            self.indexes.retain(|index| index.name != name);
        } else if is(verb, "DROP") && is(kind, "TABLE") {
            self.tables.retain(|table| table != name);
            self.indexes.retain(|index| index.table != name);
        }
    }

    /// `CONSTRAINT name PRIMARY KEY` or `UNIQUE` makes an index of that name.
    fn add_keys(&mut self, table: &str, words: &[&str]) {
        for at in words.windows(3) {
            let [constraint, name, kind] = at else { continue };
            let is_key = kind.eq_ignore_ascii_case("PRIMARY") || kind.eq_ignore_ascii_case("UNIQUE");
            if constraint.eq_ignore_ascii_case("CONSTRAINT") && is_key {
                self.indexes.push(MadeIndex {
                    table: table.to_owned(),
                    name: (*name).to_owned(),
                });
            }
        }
    }
}

/// Words between a statement's verb and the name of what it is about.
fn is_filler(word: &str) -> bool {
    ["UNIQUE", "CONCURRENTLY", "IF", "NOT", "EXISTS", "ONLY"]
        .iter()
        .any(|filler| word.eq_ignore_ascii_case(filler))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_indexes_are_found_and_what_is_dropped_is_gone() {
        let mut made = MadeObjects::default();
        made.apply(&Script::new(
            "CREATE TABLE a (id uuid CONSTRAINT a_pkey PRIMARY KEY, b text, CONSTRAINT a_b_key UNIQUE (b));
             CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_lower_idx ON ONLY a (lower(b)); -- CREATE TABLE no ();
             CREATE TABLE gone (id uuid CONSTRAINT gone_pkey PRIMARY KEY);
             DROP TABLE gone;
             CREATE INDEX a_old_idx ON a (b);
             DROP INDEX IF EXISTS a_old_idx;",
        ));
        let index = |name: &str| MadeIndex {
            table: "a".to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(made.tables, ["a"]);
        assert_eq!(
            made.indexes,
            [index("a_pkey"), index("a_b_key"), index("a_lower_idx")]
        );
    }
}
