//! When the messages of a watched run were due, and when their receipts came.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::schedule::RunClock;

/// When messages were sent and received, by their numbers.
#[derive(Debug)]
pub(crate) struct DeliveryTimes {
    clock: RunClock,
    rate: f64,
    /// Microseconds from the start; 0: not yet.
    receipts: Vec<AtomicU64>,
}

impl DeliveryTimes {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn new(clock: RunClock, rate: f64) -> Self {
        let most = ((clock.end - clock.start).as_secs_f64() * rate) as usize + 2;
        DeliveryTimes {
            clock,
            rate,
            receipts: (0..most).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A receipt is there.
    pub(crate) fn received(&self, number: u32, now: Instant) {
        if let Some(receipt) = self.receipts.get(number as usize) {
            let micros = now.saturating_duration_since(self.clock.start).as_micros();
            receipt.store(
                u64::try_from(micros).unwrap_or(u64::MAX).max(1),
                Ordering::Relaxed,
            );
        }
    }

    /// When it was due: there is one sender, so its number says it.
    pub(crate) fn due(&self, number: u32) -> Instant {
        self.clock.start + Duration::from_secs_f64(f64::from(number) / self.rate)
    }

    pub(crate) fn receipt(&self, number: u32) -> Option<Instant> {
        let micros = self.receipts.get(number as usize)?.load(Ordering::Relaxed);
        (micros > 0).then(|| self.clock.start + Duration::from_micros(micros))
    }
}
