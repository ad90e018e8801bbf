//! The migrations of a scope over a database: what all commands begin with.

use std::{path::PathBuf, time::Duration};

use tokio_postgres::Client;

use crate::{
    client::{check_version, connect, text_of},
    driver::LockPolicy,
    history::SetState,
    own,
    program::Program,
    sets::{Set, SetName},
};
use chatledger_postgres::connect::Connector;

/// What to migrate, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program, with what it brings along.
    pub program: &'static Program,
    /// The sets that this is about, in the order in which they are installed.
    pub scope: Vec<SetName>,
    /// The only set, where one is named.
    pub only: Option<SetName>,
    /// An optional set that is wanted although it isn't installed.
    pub with: Vec<SetName>,
    /// The directory of the team's own migrations.
    pub migrations_dir: Option<PathBuf>,
    /// The time for which connecting is tried.
    pub patience: Duration,
    /// The way to wait for locks.
    pub locks: LockPolicy,
    /// Whether the connection goes through a transaction pooler.
    pub pooled: bool,
}

/// The migrations of a scope, over a database.
pub struct Migrator {
    pub(crate) connector: Connector,
    pub(crate) settings: Settings,
    /// A migrator of all sets, whatever the scope.
    pub(crate) sets: Vec<Set>,
}

impl Migrator {
    /// Reads the team's own migrations.
    ///
    /// # Errors
    /// A file of them that is wrong; a set that is not in the scope.
    pub fn new(connector: Connector, settings: Settings) -> anyhow::Result<Migrator> {
        if let Some(only) = settings.only {
            anyhow::ensure!(
                settings.scope.contains(&only),
                "--set {only}: isn't part of this --scope"
            );
            anyhow::ensure!(
                !only.is_own() || settings.migrations_dir.is_some(),
                "--set own: needs --migrations-dir"
            );
        }
        for with in &settings.with {
            anyhow::ensure!(
                settings.scope.contains(with),
                "--with {with}: isn't part of this --scope"
            );
        }
        let program = settings.program;
        let mut sets: Vec<Set> = program.sets.iter().map(|name| Set::embedded(*name)).collect();
        if let (Some(dir), Some(own)) = (&settings.migrations_dir, program.own()) {
            sets.retain(|set| !set.name.is_own());
            sets.push(own::read(own, dir)?);
        }
        Ok(Migrator {
            connector,
            settings,
            sets,
        })
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let client = connect(&self.connector, self.settings.patience).await?;
        let number = text_of(&client, "SHOW server_version_num").await?;
        check_version(number.parse().unwrap_or_default())?;
        Ok(client)
    }

    /// All sets as the database has them.
    pub(crate) async fn states(&self, client: &Client) -> anyhow::Result<Vec<SetState<'_>>> {
        let mut states = Vec::new();
        for set in &self.sets {
            states.push(SetState::read(client, set).await?);
        }
        Ok(states)
    }

    /// The sets that the command is about: of the scope, and wanted or installed where they are optional.
    pub(crate) fn chosen<'a>(&self, states: &[SetState<'a>]) -> Vec<SetState<'a>> {
        let is_chosen = |state: &&SetState<'a>| {
            let name = state.set.name;
            let is_there = !state.applied.is_empty();
            let is_wanted = self.settings.with.contains(&name) || self.settings.only == Some(name);
            self.settings.scope.contains(&name)
                && self.settings.only.is_none_or(|only| only == name)
                && (!name.is_optional() || is_there || is_wanted)
                && (state.set.is_known || is_there)
        };
        states.iter().filter(is_chosen).cloned().collect()
    }
}
