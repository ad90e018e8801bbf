//! Work that must come to an end: what is under way, and since when.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

/// A record of what is under way, and since when: it tells work that gets nowhere from none.
#[derive(Clone, Debug, Default)]
pub struct AttemptRecord(Arc<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    state: Mutex<AttemptTimes>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct AttemptTimes {
    /// The beginnings, by number: the first is the oldest.
    since: BTreeMap<u64, Instant>,
    next: u64,
}

impl AttemptRecord {
    /// An attempt at something begins, and ends when what this answers is dropped.
    #[must_use]
    pub fn begin(&self) -> OpenAttempt {
        let mut state = self.0.state();
        let number = state.next;
        state.next += 1;
        state.since.insert(number, Instant::now());
        drop(state);
        self.0.begun.notify_waiters();
        OpenAttempt {
            of: Arc::clone(&self.0),
            number,
        }
    }

    /// How long the oldest attempt has lasted.
    #[must_use]
    pub fn oldest(&self) -> Duration {
        self.0.oldest().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Ends when an attempt has lasted for as long as that. While nothing is under way, nothing is done.
    pub async fn overdue(&self, limit: Duration) {
        loop {
            let begun = self.0.begun.notified();
            match self.0.oldest() {
                None => begun.await,
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => time::sleep_until(since + limit).await,
            }
        }
    }
}

impl Attempts {
    fn oldest(&self) -> Option<Instant> {
        self.state().since.first_key_value().map(|(_, since)| *since)
    }

    fn state(&self) -> MutexGuard<'_, AttemptTimes> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that is under way.
#[derive(Debug)]
pub struct OpenAttempt {
    of: Arc<Attempts>,
    number: u64,
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        self.of.state().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_gets_nowhere_is_overdue() {
        let progress = AttemptRecord::default();
        let limit = Duration::from_secs(1);
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.overdue(limit).await }
        });
        // One after the other: none lasts.
        for _ in 0..5 {
            let _attempt = progress.begin();
            time::sleep(limit / 2).await;
        }
        assert!(!waiting.is_finished());
        let stuck = progress.begin();
        drop(progress.begin());
        waiting.await.expect("no panic");
        assert_eq!(progress.oldest(), limit);
        drop(stuck);
        assert_eq!(progress.oldest(), Duration::ZERO);
    }
}
