//! The database that a command reads or fills, past any pooler.

use anyhow::Context;

use super::target::CommandTarget;
use chatledger::{
    config::{DatabaseConfig, SourceConfig},
    migrations::{self, Scope},
};
use chatledger_postgres::{Db, connect::Connector};

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
        migrations::prepare(
            &self.direct,
            scope,
            search_config,
            settings.source.connect_timeout,
        )
        .await
        .with_context(|| format!("database {}", self.target.direct_url.display()))?;
        Db::new(
            Connector::new(&self.target.url)?,
            settings.options(&self.target.url),
        )
    }

    pub(super) async fn close(self) {
        self.target.close().await;
    }
}
