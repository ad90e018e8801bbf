//! The queue: which units wait to be appended, and how many may. A unit waits in a slot that its caller's
//! [`PendingOutcome`] shares: a caller who goes away takes it out at once, with the room and the memory that it holds.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use super::{
    Outcome, Unit, UnitLine,
    load::{LaneLoad, LoadLease},
    order::StreamOrder,
};
use crate::{
    domain::{Error, message::NewMessage},
    fair::{FairPool, Holder, Lease},
    telemetry::{self, SpanContextRef},
};

/// A unit that waits for its turn.
pub(super) struct QueuedUnit {
    slot: Arc<Slot>,
    pub(super) holder: Holder,
    pub(super) line: UnitLine,
}

/// The slot that a unit is in until its turn, or until its caller goes away.
type Slot = Mutex<Option<WaitingUnit>>;

struct WaitingUnit {
    unit: Unit,
    ticket: Ticket,
    size: AppendSize,
    since: Instant,
    /// The span of the request, where it is sampled.
    span: Option<SpanContextRef>,
}

/// The way back for a unit's outcome, and the room that the unit takes until then.
pub(super) struct Ticket {
    reply: oneshot::Sender<Outcome>,
    session_id: Uuid,
    order: Option<Arc<StreamOrder>>,
    _room: RoomLease,
    _load: LoadLease,
}

/// A unit whose turn has come. Its caller may still go away, but doesn't take it back.
pub(super) struct Turn {
    waiting: WaitingUnit,
    slot: Arc<Slot>,
}

/// The outcome of a unit that is on its way. Dropped before that is known, it takes the unit out of the queue;
/// and where the unit is a stream's, all of the stream's.
#[derive(Debug)]
pub struct PendingOutcome {
    reply: oneshot::Receiver<Outcome>,
    slot: Arc<Slot>,
    session_id: Uuid,
    order: Option<Arc<StreamOrder>>,
    is_known: bool,
}

/// Puts a unit into a slot.
pub(super) fn enqueue(
    unit: Unit,
    order: Option<Arc<StreamOrder>>,
    room: RoomLease,
    load: &Arc<LaneLoad>,
) -> (QueuedUnit, PendingOutcome) {
    let (reply, outcome) = oneshot::channel();
    let (holder, session_id, line) = (unit.caller.holder, unit.session_id, unit.line());
    let slot = Arc::new(Mutex::new(Some(WaitingUnit {
        size: room.size,
        unit,
        ticket: Ticket {
            reply,
            session_id,
            order: order.clone(),
            _load: load.take(room.size),
            _room: room,
        },
        since: Instant::now(),
        span: telemetry::current(),
    })));
    let queued = QueuedUnit {
        slot: Arc::clone(&slot),
        holder,
        line,
    };
    let pending = PendingOutcome {
        reply: outcome,
        slot,
        session_id,
        order,
        is_known: false,
    };
    (queued, pending)
}

impl QueuedUnit {
    /// Takes the unit, unless it must not be stored any more: its caller is gone (nobody has been promised
    /// anything), its stream's client is, or an earlier entry of its stream for this session was refused, which
    /// answers this one too.
    pub(super) fn take(self) -> Option<Turn> {
        let waiting = lock(&self.slot).take()?;
        let turn = Turn {
            waiting,
            slot: self.slot,
        };
        let ticket = &turn.waiting.ticket;
        let Some(order) = &ticket.order else {
            return (!ticket.reply.is_closed()).then_some(turn);
        };
        if order.is_gone() {
            return None;
        }
        match order.refusal(ticket.session_id) {
            Some(refusal) => {
                turn.split().1.answer(Err(refusal));
                None
            }
            None => Some(turn),
        }
    }
}

impl Turn {
    pub(super) fn unit(&self) -> &Unit {
        &self.waiting.unit
    }

    pub(super) fn size(&self) -> AppendSize {
        self.waiting.size
    }

    pub(super) fn since(&self) -> Instant {
        self.waiting.since
    }

    /// The span of the unit's request, where it is sampled.
    pub(super) fn span(&self) -> Option<&SpanContextRef> {
        self.waiting.span.as_ref()
    }

    /// The unit, and to whom its outcome goes.
    pub(super) fn split(self) -> (Unit, Ticket) {
        (self.waiting.unit, self.waiting.ticket)
    }

    /// Puts the unit back to wait once more, where its caller can take it out again.
    pub(super) fn wait_again(self) -> QueuedUnit {
        let queued = QueuedUnit {
            holder: self.waiting.unit.caller.holder,
            line: self.waiting.unit.line(),
            slot: Arc::clone(&self.slot),
        };
        *lock(&self.slot) = Some(self.waiting);
        queued
    }
}

impl Ticket {
    /// Answers the unit's caller, who may be gone. What follows the unit on its stream hears of a failure first.
    pub(super) fn answer(self, outcome: Outcome) {
        if let Some(order) = self.order {
            order.note(self.session_id, &outcome);
        }
        let _ = self.reply.send(outcome);
    }

    /// Waits until nobody listens any more.
    pub(super) async fn abandoned(&mut self) {
        self.reply.closed().await;
    }
}

impl PendingOutcome {
    /// The outcome, if it is known by now.
    pub fn try_outcome(&mut self) -> Option<Outcome> {
        match self.reply.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => None,
            outcome => Some(self.settle(outcome)),
        }
    }

    /// A unit that was never answered: what had it has panicked, and the log says why.
    fn settle<E>(&mut self, outcome: Result<Outcome, E>) -> Outcome {
        self.is_known = true;
        let outcome = outcome.unwrap_or(Err(Error::Internal));
        if let Some(order) = &self.order {
            order.note(self.session_id, &outcome);
        }
        outcome
    }
}

impl Future for PendingOutcome {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match Pin::new(&mut self.reply).poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(self.settle(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for PendingOutcome {
    fn drop(&mut self) {
        if self.is_known {
            return;
        }
        // In this order: whoever finds the slot empty finds the stream's later units forbidden.
        if let Some(order) = &self.order {
            order.leave();
        }
        let waiting = lock(&self.slot).take();
        drop(waiting);
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<WaitingUnit>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for WaitingUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitingUnit")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// The size of a unit, or of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AppendSize {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl AppendSize {
    pub(super) fn of(unit: &Unit) -> AppendSize {
        AppendSize {
            rows: unit.messages.len(),
            bytes: unit.messages.iter().map(NewMessage::weight).sum(),
        }
    }

    pub(super) fn plus(self, other: AppendSize) -> AppendSize {
        AppendSize {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(super) fn fits(self, cap: AppendSize) -> bool {
        self.rows <= cap.rows && self.bytes <= cap.bytes
    }
}

/// The room that all queued units share, in rows and KiB: fairly by tenant and connection, so that no client fills it, and
/// fairly by tenant and session, so that those who wait for one that somebody has locked don't either.
#[derive(Clone, Debug)]
pub(super) struct Room {
    by_connection: FairPool<2>,
    by_session: FairPool<2>,
}

/// A unit's room.
#[derive(Debug)]
pub(super) struct RoomLease {
    size: AppendSize,
    _leases: [Lease<2>; 2],
}

/// Bytes are counted in these, so that small units count for what the queue itself needs for them.
const KIB: usize = 1024;

impl Room {
    pub(super) fn new(cap: AppendSize) -> Room {
        let pool = FairPool::new([cap.rows, cap.bytes / KIB]);
        Room {
            by_session: FairPool::new(pool.total()),
            by_connection: pool,
        }
    }

    /// How many rows wait or are being appended.
    pub(super) fn rows_taken(&self) -> usize {
        self.by_connection.total()[0] - self.by_connection.free()[0]
    }

    /// Takes room for a unit as soon as the shares of its connection and its session have it.
    pub(super) async fn take(&self, unit: &Unit) -> RoomLease {
        let size = AppendSize::of(unit);
        let amount = [size.rows, size.bytes.div_ceil(KIB)];
        let (high, low) = unit.session_id.as_u64_pair();
        // A session is its tenant's: nobody else's ids are on the same account, whatever they are.
        let session = Holder::of(unit.caller.holder.group(), high ^ low);
        RoomLease {
            size,
            _leases: [
                self.by_connection.take(unit.caller.holder, amount).await,
                self.by_session.take(session, amount).await,
            ],
        }
    }
}
