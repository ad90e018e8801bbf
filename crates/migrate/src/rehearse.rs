//! The pending migrations on a copy of the database: how long each takes, what it locks, and whether the schema is
//! right afterwards and the server's own statements run.

use std::{error::Error, time::Instant};

use bytes::BytesMut;
use serde::Serialize;
use tokio_postgres::{
    Client,
    error::SqlState,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use crate::{
    change::{Change, MigrationRun},
    choose::Until,
    client::{connect, explain},
    dump::DumpPrograms,
    migrator::{Migrator, Settings},
    progress::{MigrationEvent, MigrationListener},
    scratch,
    verify::SchemaVerification,
};
use chatledger_postgres::{
    Sql,
    connect::{Connector, describe},
};

/// The place where the copy comes from.
pub enum RehearsalCopy {
    /// A database that is one already, such as a branch of a hosted PostgreSQL. It is left as it is afterwards.
    Branch(Connector),
    /// A copy made by pg_dump in a scratch database, and dropped.
    Dump(DumpPrograms),
}

/// The answer of `migrate rehearse`.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    /// How long the copying took, in milliseconds; `None` for a branch.
    pub copied_in_milliseconds: Option<u128>,
    /// The migrations that were applied to the copy.
    pub changes: Vec<Change>,
    /// The answer of `verify` on the copy.
    pub verify: SchemaVerification,
    /// The number of the server's statements that ran.
    pub statements_run: usize,
    /// The statements that didn't run, and why.
    pub statements_failed: Vec<String>,
}

impl Rehearsal {
    /// Whether `up` can be expected to go well.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verify.is_clean() && self.statements_failed.is_empty()
    }
}

impl Migrator {
    /// The migrations are rehearsed on a copy. `place` is where scratch databases are made, if not on the same server.
    ///
    /// # Errors
    /// A copy that can't be made; a migration that fails on it.
    pub async fn rehearse(
        &self,
        copy: &RehearsalCopy,
        place: Option<&Connector>,
        listener: &MigrationListener,
    ) -> anyhow::Result<Rehearsal> {
        let live = self.connector.url();
        match copy {
            RehearsalCopy::Branch(branch) => {
                anyhow::ensure!(
                    branch.url().display() != live.display(),
                    "--branch-url: is the database itself; give the URL of a copy"
                );
                let place = place.unwrap_or(branch);
                Box::pin(self.on(branch, place, None, listener)).await
            }
            RehearsalCopy::Dump(programs) => {
                let place = place.unwrap_or(&self.connector);
                let client = self.connect().await?;
                scratch::with(
                    self.settings.program.name,
                    place,
                    &client,
                    self.settings.patience,
                    async |scratch| {
                        listener(&MigrationEvent::Began("copy by pg_dump".to_owned()));
                        let began = Instant::now();
                        make_room(&connect(scratch, self.settings.patience).await?).await?;
                        programs.copy(live, scratch.url()).await?;
                        let elapsed = began.elapsed();
                        listener(&MigrationEvent::Done(elapsed));
                        Box::pin(self.on(scratch, place, Some(elapsed.as_millis()), listener)).await
                    },
                )
                .await
            }
        }
    }

    async fn on(
        &self,
        copy: &Connector,
        place: &Connector,
        copied_in_milliseconds: Option<u128>,
        listener: &MigrationListener,
    ) -> anyhow::Result<Rehearsal> {
        let mut settings = self.settings.clone();
        settings.pooled = false;
        let migrator = Migrator {
            connector: copy.clone(),
            settings,
            sets: self.sets.clone(),
        };
        let session = MigrationRun::open(&migrator, listener, true).await?;
        let changes = session.up(Until::Head, None).await?;
        let client = session.close().await?;
        let verify = migrator.verify(Some(place), listener).await?;
        listener(&MigrationEvent::Began("run the server's statements".to_owned()));
        let began = Instant::now();
        let (statements_run, statements_failed) = run_statements(&client, &self.settings).await?;
        listener(&MigrationEvent::Done(began.elapsed()));
        Ok(Rehearsal {
            copied_in_milliseconds,
            changes,
            verify,
            statements_run,
            statements_failed,
        })
    }
}

/// A dump brings its own schema `public` where that isn't as it was made.
async fn make_room(client: &Client) -> anyhow::Result<()> {
    let rows = client
        .query_typed("SELECT quote_ident(coalesce(current_schema(), 'public'))", &[])
        .await
        .map_err(explain)?;
    let schema: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    if schema == "public" {
        return Ok(());
    }
    let drop = format!("DROP SCHEMA IF EXISTS {schema}");
    client.batch_execute(&drop).await.map_err(explain)
}

/// Runs every statement of the server, with NULL for every parameter, and takes back what it did. What fails since
/// NULL isn't allowed was understood; what needs a table of another scope isn't served.
async fn run_statements(client: &Client, settings: &Settings) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut run, mut failed) = (0, Vec::new());
    let is_whole = settings.scope.len() == settings.program.sets.len();
    for sql in (settings.program.statements)() {
        client
            .batch_execute("BEGIN; SET LOCAL lock_timeout = '1s'")
            .await
            .map_err(explain)?;
        let result = run_statement(client, sql).await;
        client.batch_execute("ROLLBACK").await.map_err(explain)?;
        match result {
            Ok(()) => run += 1,
            Err(error) if error.code().is_some_and(is_about_null) => run += 1,
            Err(error) if !is_whole && error.code() == Some(&SqlState::UNDEFINED_TABLE) => {}
            Err(error) => {
                let text = sql.text.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
                failed.push(format!("{}: {text} ...", describe(&error)));
            }
        }
    }
    Ok((run, failed))
}

async fn run_statement(client: &Client, sql: &Sql) -> Result<(), tokio_postgres::Error> {
    let statement = client.prepare_typed(sql.text, sql.params).await?;
    let params: Vec<&(dyn ToSql + Sync)> = sql.params.iter().map(|_| &Null as &(dyn ToSql + Sync)).collect();
    client.query(&statement, &params).await.map(drop)
}

/// The classes of bad data (22) and constraints (23).
fn is_about_null(code: &SqlState) -> bool {
    code.code().starts_with("22") || code.code().starts_with("23")
}

/// NULL of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
