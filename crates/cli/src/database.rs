//! The database that a command reads or fills, past any pooler.

use anyhow::Context;

use super::target::CommandTarget;
use chatledger::{
    config::{DatabaseConfig, SourceConfig},
    domain::Limits,
    migrations::{self, PROGRAM, Scope},
    store::Store,
};
use chatledger_migrate::SetName;
use chatledger_postgres::{Db, connect::Connector};

/// The text search configuration where none is used: PostgreSQL has this one always.
pub(super) const ANY_SEARCH_CONFIG: &str = "simple";

/// A database that can be reached, whatever is in it.
pub(super) struct DatabaseAccess {
    target: CommandTarget,
    /// Without a pooler between.
    pub(super) direct: Connector,
}

impl DatabaseAccess {
    /// Reads the URLs, or starts an embedded PostgreSQL.
    pub(super) async fn find(source: &SourceConfig) -> anyhow::Result<DatabaseAccess> {
        let target = CommandTarget::open(source).await?;
        match Connector::new(&target.direct_url) {
            Ok(direct) => Ok(DatabaseAccess { target, direct }),
            Err(error) => {
                target.close().await;
                Err(error.into())
            }
        }
    }

    /// Brings the scope's schema up to date, and answers a pool.
    pub(super) async fn migrated(
        &self,
        settings: &DatabaseConfig,
        scope: Scope,
        search_config: &str,
    ) -> anyhow::Result<Db> {
        let patience = settings.source.connect_timeout;
        let prepared = migrations::prepare(&self.direct, scope, search_config, patience).await;
        self.pool(settings, prepared)
    }

    /// Brings only some sets up to date, and answers a pool.
    pub(super) async fn with_sets(
        &self,
        settings: &DatabaseConfig,
        sets: Vec<SetName>,
    ) -> anyhow::Result<Db> {
        let patience = settings.source.connect_timeout;
        let prepared =
            chatledger_migrate::prepare(&self.direct, &PROGRAM, sets, ANY_SEARCH_CONFIG, patience).await;
        self.pool(settings, prepared)
    }

    /// A store over the schema as it is.
    pub(super) fn unchanged(&self, settings: &DatabaseConfig) -> anyhow::Result<Store> {
        let db = self.pool(settings, Ok(String::new()))?;
        Ok(Store::new(
            db,
            Limits::default().into(),
            Scope::All,
            ANY_SEARCH_CONFIG,
        ))
    }

    fn pool(&self, settings: &DatabaseConfig, prepared: anyhow::Result<String>) -> anyhow::Result<Db> {
        prepared.with_context(|| format!("database {}", self.target.direct_url.display()))?;
        Db::new(
            Connector::new(&self.target.url)?,
            settings.options(&self.target.url),
        )
    }

    pub(super) async fn close(self) {
        self.target.close().await;
    }
}
