//! A server of the comparison, with a cluster of its own: neither has the other's rows in its caches.

use std::sync::Arc;

use super::GrowthOptions;
use crate::{
    database::{BenchDatabase, told},
    halt::Halt,
    own_server::OwnServer,
    progress::BenchProgress,
    rows::IdKind,
    target,
    workload::{ContentSizes, Workload, WorkloadOptions},
};
use chatledger_client::ServerChannel;

/// Unary requests on one connection: half of what servers commonly allow (hyper: 200).
const A_CONNECTION: usize = 100;
/// A database without messages, whose sessions are as new.
const EMPTY: &str = "TRUNCATE messages, message_citations;
    UPDATE chat_sessions SET last_seq = 0, last_message_at = NULL;";

/// A server, its database, and the sessions in it.
pub(super) struct StoredSide {
    own: OwnServer,
    pub(super) channels: Vec<ServerChannel>,
    pub(super) database: BenchDatabase,
    workload: Workload,
}

/// The two that are compared.
pub(super) struct Sides<'a> {
    pub(super) empty: &'a StoredSide,
    pub(super) full: &'a StoredSide,
}

impl StoredSide {
    pub(super) async fn start(options: &GrowthOptions, halt: &Halt) -> anyhow::Result<Self> {
        let progress = BenchProgress::waiting("starting a server");
        let own = halt
            .unless_asked(OwnServer::start(options.pg_bin.clone()))
            .await?;
        let prepared = halt.unless_asked(Box::pin(Self::prepare(&own, options))).await;
        progress.clear();
        match prepared {
            Ok((channels, database, workload)) => Ok(StoredSide {
                own,
                channels,
                database,
                workload,
            }),
            Err(error) => {
                own.stop().await?;
                Err(error)
            }
        }
    }

    async fn prepare(
        own: &OwnServer,
        options: &GrowthOptions,
    ) -> anyhow::Result<(Vec<ServerChannel>, BenchDatabase, Workload)> {
        let mut channels = Vec::new();
        for _ in 0..options.unary_in_flight.div_ceil(A_CONNECTION).max(1) {
            channels.push(own.target.connect().await?);
        }
        let workload = Workload::new(&WorkloadOptions {
            seed: options.seed,
            sessions: options.sessions,
            content: ContentSizes::Fixed(options.content_bytes),
            citations: 0,
        });
        target::create_sessions(&channels[0], &workload).await?;
        let database = BenchDatabase::connect(&own.database_url).await?;
        Ok((channels, database, workload))
    }

    /// What is sent to it, with ids of a kind.
    pub(super) fn workload(&self, ids: IdKind) -> Arc<Workload> {
        Arc::new(self.workload.with_ids(ids))
    }

    /// How many messages it has.
    pub(super) async fn stored(&self) -> anyhow::Result<u64> {
        let query = "SELECT coalesce(sum(last_seq), 0)::bigint FROM chat_sessions";
        let row = self.database.sql().query_one(query, &[]).await.map_err(told)?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }

    /// Deletes all messages.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        self.database.sql().batch_execute(EMPTY).await.map_err(told)
    }

    /// How many sessions have a gap, or another number of messages than their counter says.
    pub(super) async fn broken_sessions(&self) -> anyhow::Result<i64> {
        self.database.broken_sessions(self.workload.sessions()).await
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.own.stop().await
    }
}
