//! The append path: how messages get their place in a session.
//!
//! Every append, unary or streamed, goes through the [`Ledger`]: it is put on the queue of its session's
//! lane ([`lane`]), which commits all that waits together. [`append()`] is what a lane does with a batch: one
//! statement on the fast path, and on the slow path a transaction that decides unit by unit under the
//! sessions' locks. A unit is stored as a whole or not at all, and a bad one harms no other.

mod append;
mod batch;
mod decide;
mod lane;
mod lookup;
mod queue;

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use uuid::Uuid;

pub use append::append;

use crate::{
    auth::Caller,
    domain::{
        Error, Result,
        message::{NewMessage, Receipt},
    },
    postgres::{Db, Sql},
    watch::Hub,
};
use lane::{Aside, Lane};
use queue::{Queued, Room, Size};

/// Messages for one session that are stored together, in order.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Who appends.
    pub caller: Caller,
    /// To which session.
    pub session_id: Uuid,
    /// The messages; at least one, and no id twice.
    pub messages: Vec<NewMessage>,
    /// Only if this is the session's last seq.
    pub expected_last_seq: Option<i64>,
}

/// What became of a unit: a receipt for each of its messages, or why it was not stored.
pub type Outcome = Result<Vec<Receipt>>;

/// How the append path is laid out.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// How many batches are committed at a time.
    pub lanes: usize,
    /// The most messages that wait, or are being appended, at a time.
    pub queue_rows: usize,
    /// The most bytes of them.
    pub queue_bytes: usize,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        LedgerOptions {
            // Enough that one slow commit leaves others; more were no faster when measured on 2 cores.
            lanes: 4,
            queue_rows: 65_536,
            queue_bytes: 64 << 20,
        }
    }
}

/// A batch has at most this much, or one unit: 256 rows were a third slower than 1,024 when measured, and a
/// unit may have as many bytes as a request.
const BATCH_CAP: Size = Size {
    rows: 1024,
    bytes: 8 << 20,
};

/// An answer that says why must leave before the caller stops listening.
const ANSWER_MARGIN: Duration = Duration::from_millis(20);

/// The append path. Its lanes end when the last clone is gone and all that was queued is answered.
#[derive(Clone, Debug)]
pub struct Ledger {
    lanes: Arc<[mpsc::UnboundedSender<Queued>]>,
    room: Room,
    /// The lanes' connections, and those that wait for sessions.
    pools: [Db; 2],
}

/// The outcome of a unit that is on its way.
pub type Pending = oneshot::Receiver<Outcome>;

impl Ledger {
    /// Starts the lanes, which tell the hub what they have stored. Each has a connection of its own, and
    /// there are as many again for waiting for sessions that somebody else has locked; the rest of the
    /// service has `db`'s for itself.
    ///
    /// # Errors
    /// No lanes.
    pub fn start(db: &Db, hub: &Hub, options: &LedgerOptions) -> anyhow::Result<Ledger> {
        let room = Room::new(Size {
            rows: options.queue_rows,
            bytes: options.queue_bytes,
        });
        let lane_db = db.another(options.lanes)?;
        let aside_db = db.another(options.lanes)?;
        let lanes = (0..options.lanes).map(|number| {
            let (sender, queue) = mpsc::unbounded_channel();
            let lane = Lane {
                number,
                queue,
                db: lane_db.clone(),
                aside: Aside::new(aside_db.clone(), hub.clone()),
                hub: hub.clone(),
                batch_cap: BATCH_CAP,
                room: room.clone(),
            };
            tokio::spawn(lane.run());
            sender
        });
        Ok(Ledger {
            lanes: lanes.collect(),
            room,
            pools: [lane_db.clone(), aside_db.clone()],
        })
    }

    /// Appends a unit.
    ///
    /// # Errors
    /// The unit's own; [`Error::Overloaded`] where the queue is full; [`Error::DatabaseUnavailable`] or
    /// [`Error::DeadlineExceeded`] shortly before the caller's deadline, after which the unit may still be
    /// stored.
    pub async fn append(&self, unit: Unit) -> Outcome {
        let deadline = unit.caller.deadline;
        let (reply, pending) = oneshot::channel();
        self.queue(self.room.try_take(unit, reply)?);
        let Some(deadline) = deadline else {
            return received(pending.await);
        };
        match time::timeout_at(before(deadline), pending).await {
            Ok(outcome) => received(outcome),
            Err(_) if !*self.pools[0].reachable().borrow() => Err(Error::DatabaseUnavailable),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Queues a unit, as soon as there is room, and answers what its outcome will come by. Units of one
    /// session are stored in the order in which they were queued.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub async fn submit(&self, unit: Unit) -> Result<Pending> {
        let (reply, pending) = oneshot::channel();
        self.queue(self.room.take(unit, reply).await?);
        Ok(pending)
    }

    /// Closes the lanes' connections that have been unused for long, or are old.
    pub fn prune(&self) {
        self.pools.iter().for_each(Db::prune);
    }

    fn queue(&self, queued: Queued) {
        // The same lane on every day: it is no secret which sessions share one.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(queued.unit.session_id);
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(u64::MAX);
        let lane = usize::try_from(hash % lanes).unwrap_or(0);
        if let Err(returned) = self.lanes[lane].send(queued) {
            // Only where the lane has died.
            returned.0.ticket.answer(Err(Error::Internal));
        }
    }
}

/// A moment before a deadline; of a short time, only a small part.
fn before(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    Instant::now() + left.saturating_sub(ANSWER_MARGIN.min(left / 10))
}

/// What a lane answered. It always does, unless it has died.
pub fn received(outcome: Result<Outcome, oneshot::error::RecvError>) -> Outcome {
    outcome.unwrap_or(Err(Error::Internal))
}

/// Every statement of the append path, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    [
        &batch::APPEND,
        &decide::LOCK,
        &decide::LOCK_FREE,
        &lookup::LOOKUP,
        &append::RAISE_LAST_SEQ,
    ]
    .into_iter()
}
