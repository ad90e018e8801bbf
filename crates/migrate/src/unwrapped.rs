//! Migrations without a transaction: one statement after the other, each safe to run again.
//!
//! What an interrupted CREATE INDEX CONCURRENTLY leaves is dealt with first: a build that still goes on in the
//! server is waited for (its program was killed, and the server takes a moment to see that), an INVALID index is
//! dropped, and a valid one of the name is the finished work of a run that couldn't record it.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::{error::SqlState, types::Type};

use crate::{
    driver::{Driver, MigrationFailure, retried, ticking},
    observer::TableLock,
    progress::MigrationEvent,
    script::{ConcurrentIndex, Script, ScriptStatement, line_of},
};

/// A query with a row while another process builds an index of this name.
const BUILDER: &str = "SELECT pid FROM pg_stat_progress_create_index
    WHERE index_relid = to_regclass($1) AND pid <> pg_backend_pid() AND datname = current_database()";

/// The pause between two looks whether that process has ended.
const BUILDER_POLL: Duration = Duration::from_millis(100);

const IS_VALID: &str = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";

/// A statement runs as long as it needs. Where the server can (PostgreSQL 14 and later, on most systems), it
/// notices within a second that this program has been killed.
const SETTINGS: [&str; 2] = [
    "SET statement_timeout = 0",
    "SET client_connection_check_interval = '1s'",
];

/// The pause between two looks for the locks of a statement, for a rehearsal's report.
const LOCKS_POLL: Duration = Duration::from_millis(20);

/// The state of an index before a build.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BuildRemains {
    /// The index wasn't there.
    Nothing,
    /// An INVALID index was there, which has been dropped.
    Invalid,
    /// The whole index was there.
    Finished,
}

impl Driver<'_> {
    /// Runs a marked script.
    pub(super) async fn run_unwrapped(&mut self, text: &str) -> Result<(), MigrationFailure> {
        for setting in SETTINGS {
            // A setting is not to be had everywhere, and nothing depends on it.
            let _ = self.client.batch_execute(setting).await;
        }
        let script = Script::new(text);
        let mut result = Ok(());
        for statement in script.statements() {
            let first_line = line_of(text, statement.offset);
            let driver = &*self;
            let ran = retried(driver.locks, driver.listener, || {
                Box::pin(driver.run_one(&statement, first_line))
            })
            .await;
            match ran {
                Ok(seen) => self.seen.extend(seen),
                Err(failure) => {
                    result = Err(failure);
                    break;
                }
            }
        }
        let reset = "RESET lock_timeout; RESET statement_timeout; RESET client_connection_check_interval";
        let _ = self.client.batch_execute(reset).await;
        result
    }

    async fn run_one(
        &self,
        statement: &ScriptStatement<'_>,
        first_line: usize,
    ) -> Result<BTreeSet<TableLock>, MigrationFailure> {
        let fail_of = |error: &tokio_postgres::Error| self.failure_of(error, statement.text, first_line);
        let fail = |error: tokio_postgres::Error| fail_of(&error);
        let index = statement.concurrent_index();
        if let Some(index) = &index
            && self.make_way(&index.name).await.map_err(fail)? == BuildRemains::Finished
        {
            return match self.another(index).await {
                Some(found) => Err(MigrationFailure::because(format!(
                    "line {first_line}: another index has this name, {found}; drop it, or choose another name"
                ))),
                None => Ok(BTreeSet::new()),
            };
        }
        // A concurrent statement waits without holding others up.
        let timeout = if statement.is_concurrent() {
            "0".to_owned()
        } else {
            self.locks.setting()
        };
        let limit = format!("SET lock_timeout = '{timeout}'");
        self.client.batch_execute(&limit).await.map_err(fail)?;
        let run = self.watched(self.client.batch_execute(statement.text));
        let (result, seen) = ticking(run, self.listener, self.watch).await;
        let (Err(error), Some(index)) = (&result, &index) else {
            return result.map_err(fail).map(|()| seen);
        };
        if error.code() == Some(&SqlState::DUPLICATE_TABLE) {
            // An interrupted run's build wasn't to be seen yet when we looked.
            return match self.make_way(&index.name).await.map_err(fail)? {
                BuildRemains::Finished => Ok(seen),
                BuildRemains::Invalid => Err(fail_of(error).try_again()),
                BuildRemains::Nothing => Err(fail_of(error)),
            };
        }
        if error.as_db_error().is_some() {
            // An INVALID index, left behind, would cost every write, for nothing.
            let _ = self.drop_invalid(&index.name).await;
        }
        Err(fail_of(error))
    }

    /// The locks of a statement outside of a transaction can be seen only while it runs.
    async fn watched<T>(&self, run: impl Future<Output = T>) -> (T, BTreeSet<TableLock>) {
        let mut seen = BTreeSet::new();
        tokio::pin!(run);
        let Some(watch) = self.watch.filter(|watch| watch.sees_locks) else {
            return (run.await, seen);
        };
        loop {
            match tokio::time::timeout(LOCKS_POLL, &mut run).await {
                Ok(result) => return (result, seen),
                Err(_) => seen.extend(watch.locks().await),
            }
        }
    }

    /// The definition of a finished index, where it is another one than is wanted: that one is built over an empty
    /// table of the same form, to be compared. Where that can't be done, `verify` still tells.
    async fn another(&self, index: &ConcurrentIndex) -> Option<String> {
        let (table, plainly) = (index.table.as_ref()?, index.plainly.as_ref()?);
        let found = self.definition(&index.name).await?;
        // Names without a schema are those of temporary tables first.
        let build =
            format!("BEGIN; CREATE TEMPORARY TABLE {table} (LIKE {table} INCLUDING GENERATED); {plainly}");
        let is_built = self.client.batch_execute(&build).await.is_ok();
        let wanted = if is_built {
            self.definition(&index.name).await
        } else {
            None
        };
        let _ = self.client.batch_execute("ROLLBACK").await;
        // Up to here the schema, which differs.
        let form = |definition: &str| -> Option<(bool, String)> {
            let (head, rest) = definition.split_once(" USING ")?;
            Some((head.contains(" UNIQUE "), rest.to_owned()))
        };
        (form(&wanted?)? != form(&found)?).then_some(found)
    }

    async fn definition(&self, name: &str) -> Option<String> {
        const DEFINITION: &str = "SELECT pg_get_indexdef(to_regclass($1))";
        let rows = self.client.query_typed(DEFINITION, &[(&name, Type::TEXT)]).await;
        rows.ok()?.first()?.get(0)
    }

    /// Clears away what an interrupted build has left.
    async fn make_way(&self, name: &str) -> Result<BuildRemains, tokio_postgres::Error> {
        let mut told = false;
        while let Some(row) = self
            .client
            .query_typed(BUILDER, &[(&name, Type::TEXT)])
            .await?
            .first()
        {
            if !told {
                let pid: i32 = row.get(0);
                let note = format!(
                    "an interrupted run's build of {name} is still going on (process {pid}): waiting for it"
                );
                (self.listener)(&MigrationEvent::Note(note));
                told = true;
            }
            tokio::time::sleep(BUILDER_POLL).await;
        }
        let rows = self.client.query_typed(IS_VALID, &[(&name, Type::TEXT)]).await?;
        match rows.first().map(|row| row.get::<_, bool>(0)) {
            None => Ok(BuildRemains::Nothing),
            Some(true) => {
                (self.listener)(&MigrationEvent::Note(format!("the index {name} exists already")));
                Ok(BuildRemains::Finished)
            }
            Some(false) => {
                (self.listener)(&MigrationEvent::Note(format!(
                    "dropping {name}, which an interrupted build left INVALID"
                )));
                self.drop_invalid(name).await?;
                Ok(BuildRemains::Invalid)
            }
        }
    }

    /// `name` is as it stands in the statement, quoted where it has to be.
    async fn drop_invalid(&self, name: &str) -> Result<(), tokio_postgres::Error> {
        let rows = self.client.query_typed(IS_VALID, &[(&name, Type::TEXT)]).await?;
        if rows.first().is_some_and(|row| !row.get::<_, bool>(0)) {
            self.client.batch_execute("SET lock_timeout = 0").await?;
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
            self.client.batch_execute(&drop).await?;
        }
        Ok(())
    }
}
