//! Applies migrations, takes them back, and records them.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use refinery::{Runner, Target};
use refinery_core::AsyncMigrate;
use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use crate::{
    choose::{self, Until},
    client::explain,
    driver::Driver,
    dump::DumpPrograms,
    history::SetState,
    lock::MigrationLock,
    migrator::Migrator,
    observer::{Observer, TableLock},
    program::LateConstraint,
    progress::{MigrationEvent, MigrationListener},
    sets::{MigrationStep, Set, SetName},
};

/// An account of what was done to one migration.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The migration's set.
    pub set: SetName,
    /// The migration's version.
    pub version: i64,
    /// The migration's name, such as `V2__messages`.
    pub migration: String,
    /// The time that the migration took, in milliseconds.
    pub milliseconds: u128,
    /// The locks on tables that the migration took; seen by rehearsals only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<TableLock>,
}

/// A dump to be written before anything is changed.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The program pg_dump.
    pub programs: DumpPrograms,
    /// The file that the dump goes to.
    pub file: PathBuf,
}

/// Two connections: one that migrates, and one that holds the lock meanwhile.
pub(super) struct MigrationRun<'a> {
    pub migrator: &'a Migrator,
    pub client: Client,
    pub lock: MigrationLock,
    pub listener: &'a MigrationListener,
    /// Whether the locks are wanted, as for rehearsals.
    sees_locks: bool,
}

impl<'a> MigrationRun<'a> {
    pub(crate) async fn open(
        migrator: &'a Migrator,
        listener: &'a MigrationListener,
        sees_locks: bool,
    ) -> anyhow::Result<MigrationRun<'a>> {
        let client = migrator.connect().await?;
        let lock = MigrationLock::acquire(
            &migrator.connector,
            migrator.settings.program,
            migrator.settings.patience,
        )
        .await?;
        Ok(MigrationRun {
            migrator,
            client,
            lock,
            listener,
            sees_locks,
        })
    }

    pub(crate) async fn states(&self) -> anyhow::Result<Vec<SetState<'a>>> {
        self.migrator.states(&self.client).await
    }

    /// Applies what is pending, until there.
    pub(crate) async fn up(&self, until: Until, backup: Option<&Backup>) -> anyhow::Result<Vec<Change>> {
        let states = self.migrator.chosen(&self.states().await?);
        for state in &states {
            state.check()?;
        }
        let steps = choose::up(&states, until)?;
        self.back_up(backup, steps.is_empty()).await?;
        let mut changes = Vec::new();
        for step in steps {
            let set = states.iter().find(|state| state.set.name == step.set);
            let set = set.map(|state| state.set).context("a step of a set")?;
            changes.push(self.apply(set, step).await.with_context(|| step.to_string())?);
        }
        if let Some(late) = &self.migrator.settings.program.late
            && states.iter().any(|state| state.set.name == late.set)
        {
            validate(&self.client, late, self.listener).await?;
        }
        Ok(changes)
    }

    pub(crate) async fn back_up(&self, backup: Option<&Backup>, is_idle: bool) -> anyhow::Result<()> {
        match backup {
            Some(backup) if !is_idle => {
                (self.listener)(&MigrationEvent::Began(format!(
                    "backup to {}",
                    backup.file.display()
                )));
                let began = Instant::now();
                backup
                    .programs
                    .dump_to(self.migrator.connector.url(), &backup.file)
                    .await?;
                (self.listener)(&MigrationEvent::Done(began.elapsed()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn apply(&self, set: &Set, step: &MigrationStep) -> anyhow::Result<Change> {
        (self.listener)(&MigrationEvent::Began(format!("up {step}")));
        let migrations: Vec<_> = set.steps.iter().map(|step| step.migration.clone()).collect();
        let mut runner = Runner::new(&migrations);
        runner.set_migration_table_name(set.name.table());
        let runner = runner
            // A newer server may have been here: what that has applied isn't known, and is accepted by State::check.
            .set_abort_missing(false)
            .set_target(Target::Version(step.version()));
        self.run(step, !step.up.in_transaction, async |driver| {
            let applied = runner.run_async(driver).await;
            applied.map(drop).map_err(|error| anyhow::anyhow!(chain(&error)))
        })
        .await
    }

    async fn revert(&self, step: &MigrationStep) -> anyhow::Result<Change> {
        (self.listener)(&MigrationEvent::Began(format!("down {step}")));
        let down = step.down.as_ref().context("has no way back")?;
        let forget = format!(
            "DELETE FROM {} WHERE version = {}",
            step.set.table(),
            step.version()
        );
        self.run(step, !down.in_transaction, async |driver| {
            if down.in_transaction {
                driver.run_in_transaction(&[&down.text, &forget]).await?;
            } else {
                driver.run_unwrapped(&down.text).await?;
                driver.run_in_transaction(&[&forget]).await?;
            }
            Ok(())
        })
        .await
    }

    async fn run(
        &self,
        step: &MigrationStep,
        is_unwrapped: bool,
        work: impl AsyncFnOnce(&mut Driver<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Change> {
        let settings = &self.migrator.settings;
        anyhow::ensure!(
            !(is_unwrapped && settings.pooled),
            "a migration without a transaction can't go through a transaction pooler: give --database-direct-url"
        );
        self.lock.check()?;
        let began = Instant::now();
        let watch = if is_unwrapped || self.sees_locks {
            let connector = &self.migrator.connector;
            Some(
                Observer::new(
                    connector,
                    settings.patience,
                    &self.client,
                    settings.program,
                    self.sees_locks,
                )
                .await?,
            )
        } else {
            None
        };
        let mut driver = Driver::new(
            &self.client,
            &settings.locks,
            self.listener,
            watch.as_ref(),
            settings.program.table_exists,
            !step.set.is_own(),
        );
        let result = work(&mut driver).await;
        match driver.failure.take() {
            // refinery's error says the same with more words around it.
            Some(failure) => return Err(failure.into()),
            None => result?,
        }
        let elapsed = began.elapsed();
        (self.listener)(&MigrationEvent::Done(elapsed));
        Ok(Change {
            set: step.set,
            version: step.version(),
            migration: step.file(),
            milliseconds: elapsed.as_millis(),
            locks: driver.seen.into_iter().collect(),
        })
    }

    pub(crate) async fn close(self) -> anyhow::Result<Client> {
        self.lock.release().await?;
        Ok(self.client)
    }
}

/// The causes of an error, since refinery's `Display` says only "db error".
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

impl Migrator {
    /// Applies what is pending, until there.
    ///
    /// # Errors
    /// A file that was edited or comes late, a failed migration, named; those before it stay applied.
    pub async fn up(
        &self,
        until: Until,
        backup: Option<&Backup>,
        listener: &MigrationListener,
    ) -> anyhow::Result<Vec<Change>> {
        let session = MigrationRun::open(self, listener, false).await?;
        let changes = session.up(until, backup).await?;
        session.close().await?;
        Ok(changes)
    }

    /// Takes back what was applied, newest first, until there. `allow` is asked first, with the migrations and
    /// whether rows may be lost.
    ///
    /// # Errors
    /// A migration without a way back, one that others stand on, a failed one, or what `allow` says.
    pub async fn down(
        &self,
        until: Until,
        backup: Option<&Backup>,
        allow: impl FnOnce(&[String], bool) -> anyhow::Result<()>,
        listener: &MigrationListener,
    ) -> anyhow::Result<Vec<Change>> {
        // The question is asked without the lock: whoever is asked may take his time, and servers want to boot.
        let asked = self.states(&self.connect().await?).await?;
        let asked = choose::down(&self.chosen(&asked), &asked, until)?;
        let names: Vec<String> = asked.iter().map(ToString::to_string).collect();
        let mut downs = asked.iter().filter_map(|step| step.down.as_ref());
        if !asked.is_empty() {
            allow(&names, !downs.all(crate::script::Script::keeps_data))?;
        }
        let session = MigrationRun::open(self, listener, false).await?;
        let all = session.states().await?;
        let steps = choose::down(&self.chosen(&all), &all, until)?;
        anyhow::ensure!(
            steps.iter().map(ToString::to_string).eq(names),
            "somebody else has migrated meanwhile; nothing was changed"
        );
        session.back_up(backup, steps.is_empty()).await?;
        let mut changes = Vec::new();
        for step in steps {
            changes.push(session.revert(step).await.with_context(|| step.to_string())?);
        }
        session.close().await?;
        Ok(changes)
    }

    /// Makes a set's history say that all up to a version was applied, with the files as they are now, and nothing
    /// above it. Runs no migration. Version 0: nothing was applied; that needs the set to be given.
    ///
    /// # Errors
    /// A version that no set has, or several.
    pub async fn stamp(&self, version: i64) -> anyhow::Result<StampReport> {
        let candidates: Vec<&Set> = self
            .sets
            .iter()
            .filter(|set| self.settings.scope.contains(&set.name))
            .filter(|set| match self.settings.only {
                Some(only) => set.name == only,
                // An optional set is meant where it is named.
                None => !set.name.is_optional() && set.step(version).is_some(),
            })
            .filter(|set| version == 0 || set.step(version).is_some())
            .collect();
        anyhow::ensure!(
            version != 0 || self.settings.only.is_some(),
            "stamp 0: say of which set, with --set"
        );
        let names: Vec<SetName> = candidates.iter().map(|set| set.name).collect();
        let set = candidates[choose::only(&names, "stamp", version, "migration")?];
        let session = MigrationRun::open(self, &|_| {}, false).await?;
        let before = SetState::read(&session.client, set).await?;
        record(&session.client, set, version).await?;
        session.close().await?;
        let is_recorded = |step: &&MigrationStep| step.version() <= version;
        let forgotten = before.applied.iter().filter(|applied| applied.version > version);
        Ok(StampReport {
            set: set.name,
            version,
            recorded: set
                .steps
                .iter()
                .filter(is_recorded)
                .map(MigrationStep::file)
                .collect(),
            forgotten: forgotten.map(crate::history::AppliedMigration::file).collect(),
        })
    }
}

/// The answer of `migrate stamp`.
#[derive(Debug, Serialize)]
pub struct StampReport {
    /// The set.
    pub set: SetName,
    /// The version.
    pub version: i64,
    /// The migrations that its history now says were applied.
    pub recorded: Vec<String>,
    /// The migrations that its history said were applied, and no longer does.
    pub forgotten: Vec<String>,
}

async fn record(client: &Client, set: &Set, version: i64) -> anyhow::Result<()> {
    let table = set.name.table();
    let begin = format!(
        "BEGIN; {}",
        <Driver<'_> as AsyncMigrate>::assert_migrations_table_query(table)
    );
    client.batch_execute(&begin).await.map_err(explain)?;
    let forget = format!("DELETE FROM {table} WHERE version > $1");
    client
        .query_typed(&forget, &[(&version, Type::INT8)])
        .await
        .map_err(explain)?;
    // A migration that was recorded before keeps its time.
    let insert = format!(
        "INSERT INTO {table} AS h (version, name, applied_on, checksum) VALUES ($1, $2, $3, $4)
         ON CONFLICT (version) DO UPDATE SET name = excluded.name, checksum = excluded.checksum"
    );
    let now = jiff::Timestamp::now().to_string();
    for step in set.steps.iter().filter(|step| step.version() <= version) {
        let checksum = step.migration.checksum().to_string();
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
            (&step.version(), Type::INT8),
            (&step.migration.name(), Type::TEXT),
            (&now, Type::TEXT),
            (&checksum, Type::TEXT),
        ];
        client.query_typed(&insert, &params).await.map_err(explain)?;
    }
    client.batch_execute("COMMIT").await.map_err(explain)
}

/// Whether a late constraint has been validated.
pub(super) async fn is_valid(client: &Client, late: &LateConstraint) -> anyhow::Result<bool> {
    const UNVALIDATED: &str = "SELECT FROM pg_constraint WHERE conname = $1 AND conrelid = to_regclass($2)
        AND NOT convalidated";
    let unvalidated = client
        .query_typed(
            UNVALIDATED,
            &[(&late.name, Type::TEXT), (&late.table, Type::TEXT)],
        )
        .await
        .map_err(explain)?;
    Ok(unvalidated.is_empty())
}

/// Validates a late constraint, once every row keeps it.
async fn validate(
    client: &Client,
    late: &LateConstraint,
    listener: &MigrationListener,
) -> anyhow::Result<()> {
    if is_valid(client, late).await? {
        return Ok(());
    }
    let rows = client.query_typed(late.exceptions, &[]).await.map_err(explain)?;
    let exceptions: i64 = rows.first().map_or(0, |row| row.get(0));
    if exceptions > 0 {
        listener(&MigrationEvent::Note(format!("{exceptions} {}", late.what)));
        return Ok(());
    }
    let validate = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", late.table, late.name);
    client.batch_execute(&validate).await.map_err(explain)
}
