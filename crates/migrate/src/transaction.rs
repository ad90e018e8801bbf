//! The migrations within one transaction, together with work of the caller's: for `migrate adopt`. refinery wants a
//! transaction of its own for each.

use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use refinery_core::Migration;
use tokio_postgres::Client;

use crate::{
    change::{Backup, MigrationRun},
    client::explain,
    driver::{MigrationFailure, retried, ticking},
    migrator::Migrator,
    privileges::{REMEMBER, REVOKE},
    progress::{MigrationEvent, MigrationListener},
    sets::SetName,
};

/// Work on the schema while nobody else migrates. What isn't committed is undone.
pub struct SchemaTransaction<'a> {
    session: MigrationRun<'a>,
}

impl Migrator {
    /// Waits until nobody else migrates.
    ///
    /// # Errors
    /// A database that can't be reached.
    pub async fn within<'a>(
        &'a self,
        listener: &'a MigrationListener,
    ) -> anyhow::Result<SchemaTransaction<'a>> {
        let session = MigrationRun::open(self, listener, false).await?;
        Ok(SchemaTransaction { session })
    }
}

impl SchemaTransaction<'_> {
    /// The connection that all is done by.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.session.client
    }

    /// Writes a backup, if one is wanted, and begins the transaction with these tables locked. Waits for them as a
    /// migration does: briefly, and again and again.
    ///
    /// # Errors
    /// A backup that can't be written; tables that others don't let go of.
    pub async fn begin(&self, tables: &[String], backup: Option<&Backup>) -> anyhow::Result<()> {
        self.session.back_up(backup, false).await?;
        let policy = &self.session.migrator.settings.locks;
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = '{}'; SET LOCAL statement_timeout = 0; \
             LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            policy.setting(),
            tables.join(", ")
        );
        let (client, begin) = (self.client(), begin.as_str());
        let locked = retried(policy, self.session.listener, || {
            Box::pin(async move {
                let done = client.batch_execute(begin).await;
                if done.is_err() {
                    // A failure of the ROLLBACK would hide the first one.
                    let _ = client.batch_execute("ROLLBACK").await;
                }
                done.map_err(|error| MigrationFailure::new(&error, begin, 1, None))
            })
        });
        Ok(locked.await?)
    }

    /// One part of the work, which may take long.
    ///
    /// # Errors
    /// The work's own, named by the part.
    pub async fn step<T>(
        &self,
        what: &str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let listener = self.session.listener;
        listener(&MigrationEvent::Began(what.to_owned()));
        let began = Instant::now();
        let done = ticking(work, listener, None).await;
        let value = done.with_context(|| what.to_owned())?;
        listener(&MigrationEvent::Done(began.elapsed()));
        Ok(value)
    }

    /// Applies all migrations of a scope to a database that has none of them, or some sets, and records them as refinery does.
    ///
    /// # Errors
    /// A migration that fails; it is named.
    pub async fn install(&self, scope: &[SetName]) -> anyhow::Result<()> {
        let client = self.client();
        client.batch_execute(REMEMBER).await.map_err(explain)?;
        for name in scope.iter().filter(|name| !name.is_optional()) {
            let Some(runner) = name.runner() else { continue };
            let table = name.table();
            let made = format!(
                "CREATE TABLE IF NOT EXISTS {table} (version INT8 PRIMARY KEY, name VARCHAR(255), applied_on VARCHAR(255), checksum VARCHAR(255))"
            );
            let made = client.batch_execute(&made).await.map_err(explain);
            made.with_context(|| format!("migration set {name}"))?;
            // A server that met other tables before may have come as far as some sets.
            let applied = client.query(&format!("SELECT version FROM {table}"), &[]).await;
            let applied = applied.map_err(explain)?;
            let applied: Vec<i64> = applied.iter().map(|row| row.get(0)).collect();
            let is_new = |migration: &&Migration| !applied.contains(&migration.version());
            for migration in runner.get_migrations().iter().filter(is_new) {
                let done = format!(
                    "{};\nINSERT INTO {table} VALUES ({}, '{}', '{}', '{}')",
                    migration.sql().unwrap_or_default(),
                    migration.version(),
                    migration.name(),
                    Timestamp::now(),
                    migration.checksum()
                );
                let done = client.batch_execute(&done).await.map_err(explain);
                done.with_context(|| format!("migration {migration} of set {name}"))?;
            }
        }
        client.batch_execute(REVOKE).await.map_err(explain)?;
        Ok(())
    }

    /// Makes all of it last.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn commit(self) -> anyhow::Result<()> {
        self.session.lock.check()?;
        self.client().batch_execute("COMMIT").await.map_err(explain)?;
        self.session.close().await.map(drop)
    }
}
