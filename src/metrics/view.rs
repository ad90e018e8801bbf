//! The view of a server: its parts, as far as somebody who looks at the metrics wants to know how they are.

use std::{path::PathBuf, sync::Arc};

use super::replicas::{DatabaseState, DatabaseWatch};
use crate::{
    admin::Readiness,
    ledger::{LaneLoad, LaneStatus},
    memory::MemoryBudget,
    server::OpenConnections,
    store::Store,
    watch::Hub,
};
use chatledger_postgres::PoolStatus;

/// The view of a server.
#[derive(Clone, Debug)]
pub struct ServerView {
    parts: ServerParts,
    database: DatabaseWatch,
}

/// A server's parts.
#[derive(Clone, Debug)]
pub struct ServerParts {
    /// The rows, and the pools of connections.
    pub store: Store,
    /// The lanes' loads.
    pub lanes: Vec<Arc<LaneLoad>>,
    /// The watches.
    pub hub: Hub,
    /// The memory budget.
    pub memory: MemoryBudget,
    /// The clients' connections.
    pub connections: OpenConnections,
    /// Whether requests should be sent here.
    pub readiness: Readiness,
    /// What is known of the database.
    pub place: DatabasePlace,
}

/// What is known of the database since the server has booted.
#[derive(Clone, Debug, Default)]
pub struct DatabasePlace {
    /// The newest migration of each set.
    pub migrations: Vec<(String, i64)>,
    /// The directory of an embedded PostgreSQL's data.
    pub data_dir: Option<PathBuf>,
}

/// The state of a server at a moment.
#[derive(Clone, Debug)]
pub(super) struct ServerState {
    pub(super) ready: bool,
    pub(super) lanes: Vec<LaneStatus>,
    pub(super) pools: Vec<PoolStatus>,
    pub(super) watches: usize,
    pub(super) connections: usize,
    pub(super) memory_budget: usize,
    pub(super) memory_held: usize,
    pub(super) memory_waiting: bool,
    pub(super) migrations: Vec<(String, i64)>,
    pub(super) database: DatabaseState,
    pub(super) disk: Option<DiskState>,
}

/// The disk that an embedded PostgreSQL's data is on, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskState {
    pub(super) free: i64,
    pub(super) size: i64,
}

impl ServerView {
    /// The view of a server with these parts, within a runtime. It starts a task that asks for the state of the database, while somebody looks
    /// and the server is connected to it anyway.
    #[must_use]
    pub fn new(parts: ServerParts) -> Self {
        ServerView {
            database: DatabaseWatch::start(parts.store.clone()),
            parts,
        }
    }

    /// The state at this moment.
    pub(super) fn look(&self) -> ServerState {
        let parts = &self.parts;
        let pools = joined(parts.store.db().pools());
        let is_connected = pools.iter().any(|pool| pool.in_use + pool.idle > 0);
        let (budget, free) = (parts.memory.bytes(), parts.memory.free());
        ServerState {
            ready: parts.readiness.is_ready(),
            lanes: parts.lanes.iter().map(|lane| lane.status()).collect(),
            watches: parts.hub.watches(),
            connections: parts.connections.count(),
            memory_budget: budget,
            memory_held: budget.saturating_sub(free),
            memory_waiting: parts.memory.is_contended(),
            migrations: parts.place.migrations.clone(),
            database: self.database.state(is_connected),
            disk: self.disk(),
            pools,
        }
    }

    fn disk(&self) -> Option<DiskState> {
        let found = nix::sys::statvfs::statvfs(self.parts.place.data_dir.as_ref()?).ok()?;
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.fragment_size())).ok();
        Some(DiskState {
            free: bytes(found.blocks_available())?,
            size: bytes(found.blocks())?,
        })
    }
}

/// Pools of one name as one.
fn joined(pools: Vec<PoolStatus>) -> Vec<PoolStatus> {
    let mut joined: Vec<PoolStatus> = Vec::new();
    for pool in pools {
        match joined.iter_mut().find(|other| other.name == pool.name) {
            Some(other) => {
                other.max += pool.max;
                other.in_use += pool.in_use;
                other.idle += pool.idle;
                other.waiting += pool.waiting;
            }
            None => joined.push(pool),
        }
    }
    joined
}
