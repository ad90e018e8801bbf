//! The database under a comparison: connections to it, what is done between rounds, its settings,
//! and whether the ledger is whole at the end.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, ensure};
use tokio_postgres::Client;
use uuid::Uuid;

use chatledger_postgres::{
    connect::{Connector, describe},
    url::DatabaseUrl,
};

/// What decides on how fast and how safe a commit is, and what else is worth knowing.
const SETTINGS: [&str; 8] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "max_wal_size",
    "shared_buffers",
    "max_connections",
];

/// A database.
pub(crate) struct BenchDatabase {
    connector: Connector,
    /// The client for what isn't measured.
    client: Client,
}

/// An error of the database with its message: tokio-postgres says only "db error".
pub(crate) fn told(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow!("{}", describe(&error)).context("the database")
}

impl BenchDatabase {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let url = DatabaseUrl::parse(url).context("--database-url")?;
        let connector = Connector::new(&url).context("--database-url")?;
        let connected = connector.connect().await;
        let (client, _) = connected.map_err(|error| told(error).context("--database-url"))?;
        Ok(BenchDatabase { connector, client })
    }

    /// One more connection.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Ok(self.connector.connect().await.map_err(told)?.0)
    }

    /// The client for what isn't measured.
    pub(crate) fn sql(&self) -> &Client {
        &self.client
    }

    /// Checks that the server under test uses this database.
    pub(crate) async fn has_session(&self, session: Uuid) -> anyhow::Result<()> {
        let found = self
            .client
            .query_opt("SELECT FROM chat_sessions WHERE id = $1", &[&session])
            .await
            .map_err(told)?;
        ensure!(
            found.is_some(),
            "--database-url: a session made through --target isn't in this database; is it that server's?"
        );
        Ok(())
    }

    /// Here, and not when PostgreSQL would like to. Not everybody may.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        match self.client.batch_execute("CHECKPOINT").await {
            Err(error) if error.code() != Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(told(error))
            }
            _ => Ok(()),
        }
    }

    /// Here, and not when autovacuum would like to.
    pub(crate) async fn vacuum(&self) -> anyhow::Result<()> {
        self.client
            .batch_execute("VACUUM (ANALYZE) chat_sessions")
            .await
            .map_err(told)?;
        self.client
            .batch_execute("VACUUM (ANALYZE) messages")
            .await
            .map_err(told)?;
        self.client
            .batch_execute("VACUUM (ANALYZE) message_citations")
            .await
            .map_err(told)
    }

    /// The settings that matter.
    pub(crate) async fn settings(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let rows = self
            .client
            .query(
                "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1)",
                &[&&SETTINGS[..]],
            )
            .await
            .map_err(told)?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// How many of the sessions have a gap, or another number of messages than their counter says.
    pub(crate) async fn broken_sessions(&self, sessions: &[Uuid]) -> anyhow::Result<i64> {
        let row = self
            .client
            .query_one(
                "SELECT count(*) FROM chat_sessions s JOIN LATERAL (
                    SELECT count(*) AS count, coalesce(max(seq), 0) AS last FROM messages m WHERE m.session_id = s.id
                ) m ON true
                WHERE s.id = ANY($1) AND (s.last_seq <> m.count OR s.last_seq <> m.last)",
                &[&sessions],
            )
            .await
            .map_err(told)?;
        Ok(row.get(0))
    }
}
