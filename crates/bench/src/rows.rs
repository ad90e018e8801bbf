//! Rows that are made in the database itself, faster than any client could send them.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

use crate::database::{BenchDatabase, told};

const FILL_MESSAGES: &str = include_str!("sql/fill_messages.sql");
const FILL_CITATIONS: &str = include_str!("sql/fill_citations.sql");
/// The tables that reads of messages touch.
const READ_TABLES: [&str; 2] = ["messages", "message_citations"];

/// Which ids messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum IdKind {
    /// UUIDv7, in the order of time: what the service gives, and clients should
    V7,
    /// UUIDv4, at random: each append touches another place of the index
    V4,
}

impl IdKind {
    /// The kind's name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            IdKind::V7 => "v7",
            IdKind::V4 => "v4",
        }
    }
}

/// Messages to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    /// How many in each session.
    pub(crate) each: i64,
    /// How long a content is.
    pub(crate) content_bytes: usize,
    /// Their ids.
    pub(crate) ids: IdKind,
}

impl BenchDatabase {
    /// Makes messages in all of the sessions, as if their users had written in turn.
    pub(crate) async fn fill(&self, sessions: &[Uuid], filling: &Filling) -> anyhow::Result<()> {
        let client = self.filler().await?;
        fill(&client, sessions, filling).await
    }

    /// The same with two citations for each message of the sessions.
    pub(crate) async fn fill_with_citations(
        &self,
        sessions: &[Uuid],
        filling: &Filling,
    ) -> anyhow::Result<()> {
        let client = self.filler().await?;
        fill(&client, sessions, filling).await?;
        client.execute(FILL_CITATIONS, &[&sessions]).await.map_err(told)?;
        Ok(())
    }

    /// A connection on which foreign keys aren't looked at row by row, which takes as long as the rest: these rows keep
    /// them. Not everybody may.
    async fn filler(&self) -> anyhow::Result<Client> {
        let client = self.client().await?;
        match client
            .batch_execute("SET session_replication_role = replica")
            .await
        {
            Err(error) if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(told(error)),
            _ => Ok(client),
        }
    }

    /// The bytes of messages and citations, with their indexes.
    pub(crate) async fn read_bytes(&self) -> anyhow::Result<i64> {
        let query =
            "SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint FROM unnest($1::text[]) name";
        let row = self
            .sql()
            .query_one(query, &[&&READ_TABLES[..]])
            .await
            .map_err(told)?;
        row.try_get(0).map_err(told).context("the size of the tables")
    }

    /// The files of messages and citations, indexes included; `None` where this user may not know.
    pub(crate) async fn read_files(&self) -> anyhow::Result<Option<Vec<PathBuf>>> {
        let query = "SELECT current_setting('data_directory') || '/' || pg_relation_filepath(relation)
            FROM unnest($1::text[]) name, LATERAL (
                SELECT to_regclass(name)::oid UNION ALL
                SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass(name)
            ) relations (relation)";
        match self.sql().query(query, &[&&READ_TABLES[..]]).await {
            Ok(rows) => Ok(Some(
                rows.iter()
                    .map(|row| PathBuf::from(row.get::<_, String>(0)))
                    .collect(),
            )),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }
}

async fn fill(client: &Client, sessions: &[Uuid], filling: &Filling) -> anyhow::Result<()> {
    let content_bytes = i32::try_from(filling.content_bytes)?;
    let is_v7 = filling.ids == IdKind::V7;
    client
        .execute(FILL_MESSAGES, &[&sessions, &filling.each, &content_bytes, &is_v7])
        .await
        .map(drop)
        .map_err(told)
}
