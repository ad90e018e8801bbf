//! The load of a lane: what it was given and hasn't answered, as whoever looks at the metrics wants to know it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::queue::AppendSize;

/// How finely ages are told: what operators are alarmed by are seconds.
const TICK: Duration = Duration::from_millis(250);
/// The ticks that are told apart: 256 s, and nothing waits as long as that.
const TICKS: usize = 1024;

/// The load of a lane. It costs an append some additions, and a look at it a thousand.
#[derive(Debug)]
pub struct LaneLoad {
    began: Instant,
    rows: AtomicUsize,
    bytes: AtomicUsize,
    /// How many units came in each tick and aren't answered; the tick's number modulo their count is its place.
    unanswered: Box<[AtomicU32]>,
}

/// The load of a lane at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Messages that wait or are being appended.
    pub rows: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The age of the oldest unit that has no answer; zero where there is none.
    pub oldest: Duration,
}

/// A unit's part of the load, until it is answered.
#[derive(Debug)]
pub(super) struct LoadLease {
    load: Arc<LaneLoad>,
    size: AppendSize,
    place: usize,
}

impl LaneLoad {
    pub(super) fn new() -> Self {
        LaneLoad {
            began: Instant::now(),
            rows: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            unanswered: std::iter::repeat_with(AtomicU32::default).take(TICKS).collect(),
        }
    }

    /// Takes a unit of this size on.
    pub(super) fn take(self: &Arc<Self>, size: AppendSize) -> LoadLease {
        let place = self.tick() % TICKS;
        self.rows.fetch_add(size.rows, Ordering::Relaxed);
        self.bytes.fetch_add(size.bytes, Ordering::Relaxed);
        self.unanswered[place].fetch_add(1, Ordering::Relaxed);
        LoadLease {
            load: Arc::clone(self),
            size,
            place,
        }
    }

    /// The load at this moment.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let now = self.tick();
        let oldest = (0..TICKS.min(now + 1))
            .rev()
            .find(|age| self.unanswered[(now - age) % TICKS].load(Ordering::Relaxed) > 0);
        LaneStatus {
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            // At most TICKS.
            oldest: TICK * u32::try_from(oldest.unwrap_or(0)).unwrap_or(u32::MAX),
        }
    }

    fn tick(&self) -> usize {
        let ticks = self.began.elapsed().as_millis() / TICK.as_millis();
        usize::try_from(ticks).unwrap_or(usize::MAX)
    }
}

impl Drop for LoadLease {
    fn drop(&mut self) {
        let load = &self.load;
        load.rows.fetch_sub(self.size.rows, Ordering::Relaxed);
        load.bytes.fetch_sub(self.size.bytes, Ordering::Relaxed);
        load.unanswered[self.place].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_unit_without_an_answer_has_the_age() {
        let load = Arc::new(LaneLoad::new());
        assert_eq!(load.status(), LaneStatus::default());
        let size = AppendSize { rows: 2, bytes: 100 };
        let first = load.take(size);
        time::advance(Duration::from_secs(3)).await;
        let second = load.take(size);
        time::advance(Duration::from_secs(2)).await;
        let both = load.status();
        assert_eq!(
            (both.rows, both.bytes, both.oldest),
            (4, 200, Duration::from_secs(5))
        );
        drop(first);
        let rest = load.status();
        assert_eq!(
            (rest.rows, rest.bytes, rest.oldest),
            (2, 100, Duration::from_secs(2))
        );
        drop(second);
        assert_eq!(load.status(), LaneStatus::default());
    }
}
