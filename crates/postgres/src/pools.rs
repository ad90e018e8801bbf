//! All pools to one database: what is in use, and what can be let go where the database has no connection left.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use deadpool_postgres::Pool;

/// The connections of a pool at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// The pool's name: whose work it is for.
    pub name: &'static str,
    /// The most connections that it may have.
    pub max: usize,
    /// Connections that somebody has.
    pub in_use: usize,
    /// Connections that nobody has.
    pub idle: usize,
    /// How many wait for one.
    pub waiting: usize,
}

/// The pools to one database. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Siblings(Arc<Mutex<Vec<NamedPool>>>);

struct NamedPool {
    name: &'static str,
    pool: Pool,
    queue: PoolQueue,
}

/// Those who wait for their turn to ask a pool. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct PoolQueue(Arc<AtomicUsize>);

/// Somebody in the queue, as long as this is there.
struct Queued<'a>(&'a AtomicUsize);

impl Siblings {
    /// Adds a pool, and answers its queue.
    pub(crate) fn add(&self, name: &'static str, pool: &Pool) -> PoolQueue {
        let queue = PoolQueue::default();
        self.lock().push(NamedPool {
            name,
            pool: pool.clone(),
            queue: queue.clone(),
        });
        queue
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn close_idle(&self) {
        for named in self.lock().iter() {
            named.pool.retain(|_, _| false);
        }
    }

    pub(crate) fn statuses(&self) -> Vec<PoolStatus> {
        let pools = self.lock();
        let statuses = pools.iter().map(|named| {
            let status = named.pool.status();
            PoolStatus {
                name: named.name,
                max: status.max_size,
                in_use: status.size.saturating_sub(status.available),
                idle: status.available,
                waiting: status.waiting + named.queue.0.load(Ordering::Relaxed),
            }
        });
        statuses.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<NamedPool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolQueue {
    /// Waits, and is counted meanwhile.
    pub(crate) async fn during<T>(&self, wait: impl Future<Output = T>) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        let _queued = Queued(&self.0);
        wait.await
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
