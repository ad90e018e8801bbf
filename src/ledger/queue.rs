//! What waits to be appended, and how much of it may.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::{Outcome, Unit};
use crate::domain::{Error, Result, message::NewMessage};

/// A unit on its way.
pub(super) struct Queued {
    pub(super) unit: Unit,
    pub(super) ticket: Ticket,
    pub(super) size: Size,
    pub(super) since: Instant,
}

impl Queued {
    /// The units of a batch, and to whom their outcomes go.
    pub(super) fn split(batch: Vec<Queued>) -> (Vec<Unit>, Vec<Ticket>) {
        batch
            .into_iter()
            .map(|queued| (queued.unit, queued.ticket))
            .unzip()
    }
}

/// Where a unit's outcome goes, and the room that the unit takes until then.
pub(super) struct Ticket {
    reply: oneshot::Sender<Outcome>,
    _room: [OwnedSemaphorePermit; 2],
}

impl Ticket {
    /// Answers. Nobody may be listening any more.
    pub(super) fn answer(self, outcome: Outcome) {
        let _ = self.reply.send(outcome);
    }

    /// Whether nobody listens any more: the client is gone, or its deadline has passed.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until nobody listens any more.
    pub(super) async fn abandoned(&mut self) {
        self.reply.closed().await;
    }
}

/// How much a unit, or a batch, is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn of(unit: &Unit) -> Size {
        Size {
            rows: unit.messages.len(),
            bytes: unit.messages.iter().map(NewMessage::weight).sum(),
        }
    }

    pub(super) fn plus(self, other: Size) -> Size {
        Size {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(super) fn fits(self, cap: Size) -> bool {
        self.rows <= cap.rows && self.bytes <= cap.bytes
    }
}

/// The room that all queued units share.
#[derive(Clone, Debug)]
pub(super) struct Room {
    rows: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
    cap: Size,
}

/// Bytes are counted in units that let a semaphore hold many of them.
const KIB: usize = 1024;

impl Room {
    pub(super) fn new(cap: Size) -> Room {
        Room {
            rows: Arc::new(Semaphore::new(cap.rows)),
            kibibytes: Arc::new(Semaphore::new(cap.bytes / KIB)),
            cap,
        }
    }

    /// How many rows wait or are being appended.
    pub(super) fn rows_taken(&self) -> usize {
        self.cap.rows - self.rows.available_permits()
    }

    /// Takes room for a unit, if there is enough.
    pub(super) fn try_take(&self, unit: Unit, reply: oneshot::Sender<Outcome>) -> Result<Queued> {
        let (size, [rows, kibibytes]) = self.permits(&unit);
        let full = |_| Error::Overloaded("too many messages wait to be appended");
        let rows = Arc::clone(&self.rows)
            .try_acquire_many_owned(rows)
            .map_err(full)?;
        let kibibytes = Arc::clone(&self.kibibytes)
            .try_acquire_many_owned(kibibytes)
            .map_err(full)?;
        Ok(queued(unit, reply, size, [rows, kibibytes]))
    }

    /// Takes room for a unit when there is enough.
    pub(super) async fn take(&self, unit: Unit, reply: oneshot::Sender<Outcome>) -> Result<Queued> {
        let (size, [rows, kibibytes]) = self.permits(&unit);
        // They are closed never.
        let closed = |_| Error::Internal;
        let rows = Arc::clone(&self.rows)
            .acquire_many_owned(rows)
            .await
            .map_err(closed)?;
        let kibibytes = Arc::clone(&self.kibibytes)
            .acquire_many_owned(kibibytes)
            .await
            .map_err(closed)?;
        Ok(queued(unit, reply, size, [rows, kibibytes]))
    }

    /// A unit that is larger than all the room takes all of it, so that it can pass.
    fn permits(&self, unit: &Unit) -> (Size, [u32; 2]) {
        let size = Size::of(unit);
        let permits = [
            size.rows.min(self.cap.rows),
            size.bytes.div_ceil(KIB).max(1).min(self.cap.bytes / KIB),
        ];
        (
            size,
            permits.map(|permits| u32::try_from(permits).unwrap_or(u32::MAX)),
        )
    }
}

fn queued(
    unit: Unit,
    reply: oneshot::Sender<Outcome>,
    size: Size,
    room: [OwnedSemaphorePermit; 2],
) -> Queued {
    Queued {
        unit,
        ticket: Ticket { reply, _room: room },
        size,
        since: Instant::now(),
    }
}
