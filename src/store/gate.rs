//! The gate before the pool: who waits for a connection gets one by how little its tenant, and then its client, has of them, and
//! not by who has asked for most. What a search or a report takes is a part of that.

use crate::{
    auth::Caller,
    fair::{FairPool, Holder, Lease},
    statements::Mode,
};
use chatledger_postgres::{Db, DbError};
use tokio::time::Instant;

/// Searches and reports have this part of the pool, so that short reads find a connection beside them.
const HEAVY_PART: usize = 4;

/// The gate before the connections of one pool.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    connections: FairPool<1>,
    /// For searches and reports.
    heavy: FairPool<1>,
}

/// The right to a connection. It is kept for as long as the connection is used.
#[derive(Debug)]
pub(super) struct Passage {
    _heavy: Option<Lease<1>>,
    _connection: Lease<1>,
}

impl Gate {
    pub(super) fn new(db: &Db) -> Self {
        let size = db.pool_size();
        Gate {
            connections: FairPool::of_turns([size]),
            heavy: FairPool::of_turns([size.div_ceil(HEAVY_PART)]),
        }
    }

    /// Waits for the caller's turn, as long as the pool has somebody wait.
    pub(super) async fn pass(&self, db: &Db, caller: &Caller, mode: Mode) -> Result<Passage, DbError> {
        self.pass_as(db, caller.holder, caller.deadline, mode).await
    }

    /// As [`Gate::pass`], of whoever takes the connection on that account.
    pub(super) async fn pass_as(
        &self,
        db: &Db,
        holder: Holder,
        deadline: Option<Instant>,
        mode: Mode,
    ) -> Result<Passage, DbError> {
        let heavy = match mode {
            // In this order: who waits for a search's turn holds no connection.
            Mode::ReadPlanned => Some(db.wait_for(deadline, self.heavy.take(holder, [1])).await?),
            Mode::Read | Mode::Write => None,
        };
        Ok(Passage {
            _heavy: heavy,
            _connection: db.wait_for(deadline, self.connections.take(holder, [1])).await?,
        })
    }
}
