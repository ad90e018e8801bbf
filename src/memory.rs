//! The memory budget: what requests, answers and watches hold together, shared fairly by connection.
//!
//! Whoever is about to hold much (a request's bytes, what they become, an answer) first takes as much from
//! here, waits where there isn't enough, and is told OVERLOADED where there is none for long. A [`Charge`] gives
//! it back when it is dropped.
//!
//! What connections have received and nobody has read yet has a part of its own ([`MemoryBudget::take_to_receive`]).
//!
//! Not charged, since each has a bound of its own that doesn't grow with what clients do: the code, connection pools
//! and caches of prepared statements; the pages that watches share, for which a part of the budget is set aside at the
//! start ([`MemoryBudget::cache_bytes`], and as much while they are read); and the batches that lanes encode, which are
//! no larger than one of the two copies that their requests are charged for (see `server::intake`).

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{self, Instant};

use crate::{
    domain::{Error, Result, Shortage},
    fair::{FairPool, Holder, Lease},
};

/// The budget where none is given: half of what the smallest servers of cloud providers have.
pub const DEFAULT_BYTES: usize = 512 << 20;

/// The smallest budget, in multiples of the largest request: one takes up to three times its size (see
/// `server::intake`), and nobody has more than half of the budget.
pub const LEAST_REQUESTS: usize = 8;

/// The largest message with all that belongs to it at its default limit: content and payload of 1 MiB each, and 300 KiB
/// of the rest.
pub const LARGEST_MESSAGE: usize = (2 << 20) + (300 << 10);

/// The pool counts in KiB: finer than anything that is charged.
const KIB: usize = 1024;

/// The part of the budget that is set aside for the pages that watches share: 32 MiB of the default.
const CACHE_PART: usize = 16;

/// The part that is set aside for what connections have received and nobody has read: 64 MiB of the default, of which one
/// connection alone may have more than its window.
const RECEIVING_PART: usize = 8;

/// How long somebody waits for memory: as long as for a connection to the database by default, for which the same
/// requests would wait otherwise.
const WAIT: Duration = Duration::from_secs(5);

/// The budget. A clone is the same one.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    pool: FairPool<1>,
    /// The part for what connections have received and nobody has read: by itself, so that those who are to read it
    /// don't wait for what it holds.
    receiving: FairPool<1>,
    cache_bytes: usize,
}

/// Memory that is taken from the budget; it goes back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    memory: MemoryBudget,
    holder: Holder,
    /// More than one where it has grown.
    leases: Vec<Lease<1>>,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let (cache_bytes, receiving) = (bytes / CACHE_PART, bytes / RECEIVING_PART);
        MemoryBudget {
            pool: FairPool::new([(bytes - 2 * cache_bytes - receiving) / KIB]),
            receiving: FairPool::new([receiving / KIB]),
            cache_bytes,
        }
    }

    /// The bytes that are set aside for reading the pages that watches share: 16 MiB of the default, as rows and as
    /// messages.
    #[must_use]
    pub fn read_bytes(&self) -> usize {
        self.cache_bytes / 2
    }

    /// The bytes that are set aside for the pages that watches share.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// The most that one request, as it is built, or one answer may take: a part that leaves room for others.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.pool.total()[0] * KIB / 4
    }

    /// The bytes that requests, answers and watches may hold together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pool.total()[0] * KIB
    }

    /// The bytes that nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pool.free()[0] * KIB
    }

    /// Whether somebody waits for memory.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.pool.is_contended() || self.receiving.is_contended()
    }

    /// A charge of nothing, which can grow.
    #[must_use]
    pub fn nothing(&self, holder: Holder) -> Charge {
        Charge {
            memory: self.clone(),
            holder,
            leases: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes so many bytes as soon as the holder's share allows it.
    pub async fn take(&self, holder: Holder, bytes: usize) -> Charge {
        let lease = self.pool.take(holder, [bytes.div_ceil(KIB)]).await;
        Charge {
            memory: self.clone(),
            holder,
            leases: vec![lease],
            bytes,
        }
    }

    /// Takes bytes as [`MemoryBudget::take`] does, of what is set aside for what connections receive.
    pub async fn take_to_receive(&self, holder: Holder, bytes: usize) -> Charge {
        let lease = self.receiving.take(holder, [bytes.div_ceil(KIB)]).await;
        Charge {
            memory: self.clone(),
            holder,
            leases: vec![lease],
            bytes,
        }
    }

    /// Takes bytes as [`MemoryBudget::take`] does, within the time that somebody waits for memory, and by `deadline`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] or [`Error::DeadlineExceeded`], whichever comes first.
    pub async fn take_soon(&self, holder: Holder, bytes: usize, deadline: Option<Instant>) -> Result<Charge> {
        soon(deadline, self.take(holder, bytes)).await
    }
}

impl Charge {
    /// The holder whose charge it is.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// The bytes that are charged.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows the charge to so many bytes, unless it is more already.
    pub async fn grow_to(&mut self, bytes: usize) {
        let Some(more @ 1..) = bytes.checked_sub(self.bytes) else {
            return;
        };
        let lease = self.memory.pool.take(self.holder, [more.div_ceil(KIB)]).await;
        self.leases.push(lease);
        self.bytes = bytes;
    }

    /// Grows the charge as [`Charge::grow_to`] does, with the limits of [`MemoryBudget::take_soon`].
    ///
    /// # Errors
    /// Those of [`MemoryBudget::take_soon`].
    pub async fn grow_soon(&mut self, bytes: usize, deadline: Option<Instant>) -> Result<()> {
        soon(deadline, self.grow_to(bytes)).await
    }

    /// Takes another one in.
    pub fn join(&mut self, other: Charge) {
        self.leases.extend(other.leases);
        self.bytes += other.bytes;
    }

    /// Gives back all above so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let mut keep = bytes.div_ceil(KIB);
        for lease in &mut self.leases {
            let kept = lease.amount()[0].min(keep);
            lease.shrink_to([kept]);
            keep -= kept;
        }
        self.leases.retain(|lease| lease.amount() != [0]);
        self.bytes = self.bytes.min(bytes);
    }

    /// Bytes that keep the charge, and something else, for as long as any part of them is anywhere, such as in the
    /// queue of a client that doesn't read.
    #[must_use]
    pub fn attach<T: Send + 'static>(self, bytes: Bytes, other: T) -> Bytes {
        Bytes::from_owner(ChargedBytes {
            bytes,
            _owned: (self, other),
        })
    }
}

/// Bytes, their charge, and what else is held for them.
struct ChargedBytes<T> {
    bytes: Bytes,
    _owned: (Charge, T),
}

impl<T> AsRef<[u8]> for ChargedBytes<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

async fn soon<T>(deadline: Option<Instant>, taken: impl Future<Output = T>) -> Result<T> {
    let until = Instant::now() + WAIT;
    let (until, late) = match deadline {
        Some(deadline) if deadline < until => (deadline, Error::DeadlineExceeded),
        _ => (until, Error::Overloaded(Shortage::Memory)),
    };
    time::timeout_at(until, taken).await.map_err(|_| late)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Holder = Holder::of(0, 1);

    #[tokio::test]
    async fn a_charge_grows_shrinks_and_goes_back() {
        let memory = MemoryBudget::new(1 << 20);
        let all = memory.free();
        let mut charge = memory.take(A, 3 * KIB).await;
        charge.grow_to(10 * KIB).await;
        charge.grow_to(5 * KIB).await;
        assert_eq!(all - memory.free(), 10 * KIB);
        charge.shrink_to(4 * KIB);
        assert_eq!(all - memory.free(), 4 * KIB);
        drop(charge);
        assert_eq!(memory.free(), all);
    }

    #[tokio::test]
    async fn bytes_keep_their_charge_until_the_last_part_of_them_is_gone() {
        let memory = MemoryBudget::new(1 << 20);
        let all = memory.free();
        let charge = memory.take(A, 2 * KIB).await;
        let mut bytes = charge.attach(Bytes::from(vec![0; 2 * KIB]), ());
        assert_eq!(all - memory.free(), 2 * KIB);
        let part = bytes.split_off(KIB);
        drop(bytes);
        assert_eq!(all - memory.free(), 2 * KIB);
        drop(part);
        assert_eq!(memory.free(), all);
    }

    #[tokio::test]
    async fn who_finds_none_in_time_is_told() {
        let memory = MemoryBudget::new(1 << 20);
        let _held = memory.take(A, 1 << 20).await;
        let deadline = Instant::now() + Duration::from_millis(5);
        let late = memory.take_soon(A, 1 << 20, Some(deadline)).await;
        assert!(matches!(late, Err(Error::DeadlineExceeded)));
    }
}
