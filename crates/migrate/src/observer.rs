//! Sees from a second connection what the migrating one is doing: its locks, and how far an index is. Each look is a
//! transaction of its own, which CREATE INDEX CONCURRENTLY may have to wait for, and ends at once.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use crate::{
    client::{connect, explain},
    program::Program,
};
use chatledger_postgres::connect::Connector;

/// A lock on a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TableLock {
    /// The table.
    pub table: String,
    /// The lock's mode, such as `AccessExclusiveLock`.
    pub mode: String,
}

/// Only relations that others see, and so may wait for: what a transaction has just made is its own.
const LOCKS: &str = "SELECT DISTINCT c.oid::regclass::text, l.mode FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = $1 AND l.granted AND c.relkind IN ('r', 'p', 'm') AND l.mode <> 'AccessShareLock'
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'pg_toast'))
        AND c.relname <> ALL ($2)";

const PROGRESS: &str = "SELECT phase || CASE WHEN blocks_total > 0
        THEN format(' (%s%%)', 100 * blocks_done / blocks_total) ELSE '' END
    FROM pg_stat_progress_create_index WHERE pid = $1";

/// Looks at another connection.
pub(crate) struct Observer {
    client: Client,
    pid: i32,
    /// The tables whose locks are nobody's concern.
    histories: Vec<&'static str>,
    /// Whether the locks are wanted, as for a rehearsal's report; else only how far an index is.
    pub(crate) sees_locks: bool,
}

impl Observer {
    /// An observer of what `watched` does.
    pub(crate) async fn new(
        connector: &Connector,
        patience: Duration,
        watched: &Client,
        program: &'static Program,
        sees_locks: bool,
    ) -> anyhow::Result<Observer> {
        let rows = watched
            .query_typed("SELECT pg_backend_pid()", &[])
            .await
            .map_err(explain)?;
        Ok(Observer {
            client: connect(connector, patience).await?,
            pid: rows.first().map(|row| row.get(0)).unwrap_or_default(),
            histories: program.histories(),
            sees_locks,
        })
    }

    /// The locks that the watched connection has now. Nothing where that can't be seen: it is no reason to stop a
    /// migration.
    pub(crate) async fn locks(&self) -> BTreeSet<TableLock> {
        if !self.sees_locks {
            return BTreeSet::new();
        }
        let rows = self
            .client
            .query_typed(
                LOCKS,
                &[(&self.pid, Type::INT4), (&self.histories, Type::TEXT_ARRAY)],
            )
            .await;
        let locks = rows.unwrap_or_default();
        let locks = locks.iter().map(|row| TableLock {
            table: row.get(0),
            mode: row.get(1),
        });
        locks.collect()
    }

    /// The progress of the index that it builds.
    pub(crate) async fn progress(&self) -> Option<String> {
        let rows = self
            .client
            .query_typed(PROGRESS, &[(&self.pid, Type::INT4)])
            .await;
        rows.ok()?.first()?.get(0)
    }
}
