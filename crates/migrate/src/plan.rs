//! What `up` would run, as a script that psql can run as well.

use std::fmt::Write;

use refinery_core::AsyncMigrate;
use serde::Serialize;

use crate::{
    choose::{self, Until},
    driver::Driver,
    migrator::Migrator,
    sets::{MigrationStep, SetName},
};

/// A pending migration, and the SQL that applies it.
#[derive(Debug, Serialize)]
pub struct PlannedMigration {
    /// The migration's set.
    pub set: SetName,
    /// The migration's version.
    pub version: i64,
    /// The migration's name, such as `V2__messages`.
    pub migration: String,
    /// Whether it is one transaction.
    pub in_transaction: bool,
    /// The exact SQL, with what records it.
    pub sql: String,
}

impl Migrator {
    /// The SQL that `up` would run now. Runs nothing but the reading of the histories.
    ///
    /// # Errors
    /// As `up`, before it begins.
    pub async fn plan(&self, until: Until) -> anyhow::Result<Vec<PlannedMigration>> {
        let client = self.connect().await?;
        let states = self.chosen(&self.states(&client).await?);
        for state in &states {
            state.check()?;
        }
        let steps = choose::up(&states, until)?;
        Ok(steps.into_iter().map(|step| self.planned(step)).collect())
    }

    fn planned(&self, step: &MigrationStep) -> PlannedMigration {
        let table = step.set.table();
        let history = <Driver<'_> as AsyncMigrate>::assert_migrations_table_query(table);
        let record = format!(
            "INSERT INTO {table} (version, name, applied_on, checksum) VALUES ({}, '{}', '{}', '{}');",
            step.version(),
            step.migration.name(),
            jiff::Timestamp::now(),
            step.migration.checksum()
        );
        let text = step.up.text.trim_end();
        let mut sql = format!("{}\n", history.split_whitespace().collect::<Vec<_>>().join(" "));
        // Writing to a String doesn't fail.
        let _ = if step.up.in_transaction {
            let timeout = self.settings.locks.setting();
            write!(
                sql,
                "BEGIN;\nSET LOCAL lock_timeout = '{timeout}';\nSET LOCAL statement_timeout = 0;\n{text}\n;\n{record}\nCOMMIT;\n"
            )
        } else {
            let reset = "RESET lock_timeout;\nRESET statement_timeout;";
            write!(
                sql,
                "SET statement_timeout = 0;\n{}{reset}\n{record}\n",
                self.one_by_one(step)
            )
        };
        PlannedMigration {
            set: step.set,
            version: step.version(),
            migration: step.file(),
            in_transaction: step.up.in_transaction,
            sql,
        }
    }

    /// The statements of a migration without a transaction, each with its limit.
    fn one_by_one(&self, step: &MigrationStep) -> String {
        let timeout = self.settings.locks.setting();
        let statements = step.up.statements();
        let texts = statements.iter().map(|statement| {
            let timeout = if statement.is_concurrent() { "0" } else { &timeout };
            format!("SET lock_timeout = '{timeout}';\n{};\n", statement.text)
        });
        texts.collect()
    }
}
