//! The append path: how messages get their place in a session.
//!
//! Every append, unary or streamed, goes through the [`Ledger`]: it is put on the queue of its session's
//! lane ([`lane`]), which commits all that waits together. [`append()`] is what a lane does with a batch: one
//! statement on the fast path, and on the slow path a transaction that decides unit by unit under the
//! sessions' locks ([`decide`], which needs no database). A unit is stored as a whole or not at all, and a bad one
//! harms no other. What all this asks of a database is a trait ([`database`]): PostgreSQL answers it
//! ([`mod@statements`]), and, in tests, a database that fails by a seed's plan (`simulation`).

mod append;
mod aside;
mod backlog;
mod batch;
mod database;
mod decide;
mod lane;
mod load;
mod order;
mod queue;
#[cfg(test)]
mod simulation;
mod statements;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use uuid::Uuid;

pub use load::{LaneLoad, LaneStatus};
pub use order::StreamOrder;
pub use queue::PendingOutcome;

use crate::{
    auth::Caller,
    deadline,
    domain::{
        Error, Result, Shortage,
        message::{NewMessage, Receipt},
    },
    watch::Hub,
};
use aside::Aside;
use backlog::Backlog;
use chatledger_postgres::Db;
use database::Database;
use lane::Lane;
use queue::{AppendSize, QueuedUnit, Room, RoomLease, enqueue};

/// Messages for one session that are stored together, in order.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The caller who appends.
    pub caller: Caller,
    /// The session to which it appends.
    pub session_id: Uuid,
    /// The messages; at least one, and no id twice.
    pub messages: Vec<NewMessage>,
    /// The unit is stored only if this is the session's last seq.
    pub expected_last_seq: Option<i64>,
}

/// What of a session a caller sees: units of one line are stored in their order. Units for one session by callers of whom one
/// sees it and another doesn't have different lines, so that the one never waits where the other does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UnitLine {
    session_id: Uuid,
    tenant: Arc<str>,
    end_user: Option<Uuid>,
}

impl Unit {
    fn line(&self) -> UnitLine {
        UnitLine {
            session_id: self.session_id,
            tenant: Arc::clone(&self.caller.tenant),
            end_user: self.caller.end_user,
        }
    }
}

/// The outcome of a unit: a receipt for each of its messages, or why it was not stored.
pub type Outcome = Result<Vec<Receipt>>;

/// The layout of the append path.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// How many batches are committed at a time.
    pub lanes: usize,
    /// The most messages that wait, or are being appended, at a time.
    pub queue_rows: usize,
    /// The most bytes of them.
    pub queue_bytes: usize,
}

impl LedgerOptions {
    /// As many lanes as there are processors, 2 to 4: two, so that one slow commit leaves another; and more than there are to work
    /// on their batches make these smaller, at the price of whole ones. On 2 cores, 4 took a tenth off the rate of unary appends.
    #[must_use]
    pub fn usual_lanes() -> usize {
        std::thread::available_parallelism().map_or(4, |processors| processors.get().clamp(2, 4))
    }
}

impl Default for LedgerOptions {
    fn default() -> Self {
        LedgerOptions {
            lanes: LedgerOptions::usual_lanes(),
            queue_rows: 65_536,
            queue_bytes: 64 << 20,
        }
    }
}

/// A batch has at most this much, or one unit. 256 rows were a third slower than 1,024 when measured; and as many
/// messages of usual length have less than a MiB, beyond which others of the lane would only wait for longer.
const BATCH_CAP: AppendSize = AppendSize {
    rows: 1024,
    bytes: 1 << 20,
};

/// How long a lone append waits for room before it is told to come back: others' shares move on within a few
/// batches.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// A function that hears which sessions have new messages.
type ChangeHook = Arc<dyn Fn(&[Uuid]) + Send + Sync>;

/// The append path. Its lanes end when the last clone is gone and all that was queued is answered.
#[derive(Clone, Debug)]
pub struct Ledger {
    lanes: Arc<[LaneEntrance]>,
    room: Room,
    /// Decides which lane a session has. Nobody knows it, so nobody can make all of somebody's sessions share one.
    key: u64,
    /// Whether the database answered when it was last asked.
    reachable: watch::Receiver<bool>,
    /// The lanes' connections, and those that wait for sessions.
    pools: Arc<[Db]>,
}

/// Where a lane takes units, and what it has of them.
#[derive(Debug)]
struct LaneEntrance {
    queue: mpsc::UnboundedSender<QueuedUnit>,
    load: Arc<LaneLoad>,
}

/// The parts that a ledger works with.
struct LedgerParts<D> {
    /// Each lane has a connection of its own from here.
    lanes: D,
    /// The tasks that wait for sessions locked by somebody else have their connections from here.
    aside: D,
    on_change: ChangeHook,
    key: u64,
    batch_cap: AppendSize,
    reachable: watch::Receiver<bool>,
}

impl Ledger {
    /// Starts the lanes, which tell the hub what they have stored. Each has a connection of its own, and
    /// there are as many again for waiting for sessions that somebody else has locked; the rest of the
    /// service has `db`'s for itself.
    ///
    /// # Errors
    /// No lanes.
    pub fn start(db: &Db, hub: &Hub, options: &LedgerOptions) -> anyhow::Result<Ledger> {
        let (lanes, aside) = (
            db.another("lanes", options.lanes)?,
            db.another("aside", options.lanes)?.unfollowed(),
        );
        let pools = Arc::from([lanes.clone(), aside.clone()]);
        let hub = hub.clone();
        let parts = LedgerParts {
            lanes,
            aside,
            on_change: Arc::new(move |session_ids| hub.changed(session_ids)),
            // The random half.
            key: Uuid::now_v7().as_u64_pair().1,
            batch_cap: BATCH_CAP,
            reachable: db.reachable(),
        };
        Ok(Ledger {
            pools,
            ..Ledger::of(&parts, options)
        })
    }

    fn of<D: Database>(parts: &LedgerParts<D>, options: &LedgerOptions) -> Ledger {
        let room = Room::new(AppendSize {
            rows: options.queue_rows,
            bytes: options.queue_bytes,
        });
        let lanes = (0..options.lanes).map(|number| {
            let (sender, queue) = mpsc::unbounded_channel();
            let lane = Lane {
                number,
                queue,
                backlog: Backlog::default(),
                db: parts.lanes.clone(),
                aside: Aside::new(parts.aside.clone(), Arc::clone(&parts.on_change)),
                on_change: Arc::clone(&parts.on_change),
                batch_cap: parts.batch_cap,
                room: room.clone(),
            };
            tokio::spawn(lane.run());
            LaneEntrance {
                queue: sender,
                load: Arc::new(LaneLoad::new()),
            }
        });
        Ledger {
            lanes: lanes.collect(),
            room,
            key: parts.key,
            reachable: parts.reachable.clone(),
            pools: Arc::default(),
        }
    }

    /// Appends a unit.
    ///
    /// # Errors
    /// The unit's own; [`Error::Overloaded`] where the queue is full; [`Error::DatabaseUnavailable`] or
    /// [`Error::DeadlineExceeded`] shortly before the caller's deadline, after which the unit may still be
    /// stored.
    pub async fn append(&self, unit: Unit) -> Outcome {
        let patience = Instant::now() + ROOM_PATIENCE;
        let end = unit
            .caller
            .deadline
            .map(|deadline| deadline::APPEND.before(deadline));
        let room = time::timeout_at(end.unwrap_or(patience).min(patience), self.room.take(&unit));
        let room = room.await.map_err(|_| Error::Overloaded(Shortage::Queue))?;
        let pending = self.queue(unit, None, room);
        let Some(end) = end else {
            return pending.await;
        };
        match time::timeout_at(end, pending).await {
            Ok(outcome) => outcome,
            Err(_) if !*self.reachable.borrow() => Err(Error::DatabaseUnavailable),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Queues a unit of a stream, as soon as there is room, and answers what its outcome will come by. Units of one
    /// session are stored in the order in which they were queued, or not at all: see [`StreamOrder`].
    pub async fn submit(&self, unit: Unit, order: &Arc<StreamOrder>) -> PendingOutcome {
        let room = self.room.take(&unit).await;
        self.queue(unit, Some(Arc::clone(order)), room)
    }

    /// The load of each lane, for as long as somebody wants to look at it.
    #[must_use]
    pub fn loads(&self) -> Vec<Arc<LaneLoad>> {
        self.lanes.iter().map(|lane| Arc::clone(&lane.load)).collect()
    }

    /// Closes the lanes' connections that have been unused for long, or are old.
    pub fn prune(&self) {
        self.pools.iter().for_each(Db::prune);
    }

    fn queue(&self, unit: Unit, order: Option<Arc<StreamOrder>>, room: RoomLease) -> PendingOutcome {
        let mut hasher = DefaultHasher::new();
        (self.key, unit.session_id).hash(&mut hasher);
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(u64::MAX);
        let lane = usize::try_from(hasher.finish() % lanes).unwrap_or(0);
        let lane_entrance = &self.lanes[lane];
        let (queued, pending) = enqueue(unit, order, room, &lane_entrance.load);
        if lane_entrance.queue.send(queued).is_err() {
            // The unit is dropped, and its caller hears of it.
            tracing::error!(lane, "the lane is gone");
        }
        pending
    }
}

/// Appends units to their sessions, in the order given, past the queue, and answers each. Ids that are given twice,
/// in this call, an earlier one or one on another server, are stored once.
pub async fn append(db: &Db, units: &[&Unit]) -> Vec<Outcome> {
    append::append(db, units).await
}
