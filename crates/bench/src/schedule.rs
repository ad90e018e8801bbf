//! When messages are sent.
//!
//! *Closed loop*: as soon as there is room among those in flight. It finds the top rate, but a server that stalls
//! is simply asked less while it does, and its percentiles look better than what users would see.
//!
//! *Open loop* (`--rate`): message k is due at k / rate, whatever became of those before it, and its latency
//! counts from then. So a stall shows in every message that was due meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::halt::Halt;

/// The shortest sleep of the thread that releases messages. Tokio's timer knows only milliseconds, which is more
/// than an append takes; the kernel's is good for about this.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// The longest: how soon it notices that it is to stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(10);
/// How long unanswered messages are waited for after the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The times of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunClock {
    /// When the first message may be sent.
    pub start: Instant,
    /// What is answered from here on is measured.
    pub(crate) measured_from: Instant,
    /// Nothing is sent from here on.
    pub end: Instant,
}

impl RunClock {
    /// Starts now.
    pub(crate) fn start(warm_up: Duration, duration: Duration) -> Self {
        let start = Instant::now();
        RunClock {
            start,
            measured_from: start + warm_up,
            end: start + warm_up + duration,
        }
    }

    /// When unanswered messages are given up.
    pub(crate) fn give_up(&self) -> tokio::time::Instant {
        (self.end + PATIENCE).into()
    }
}

/// Says when to send.
#[derive(Clone, Debug)]
pub(crate) struct SendSchedule {
    clock: RunClock,
    halt: Halt,
    pace: Option<Arc<Pace>>,
}

/// The pace of an open loop.
#[derive(Debug)]
struct Pace {
    /// Messages a second.
    rate: f64,
    /// A permit for each message that is due.
    due: Semaphore,
    /// How many were taken.
    taken: AtomicU64,
}

impl SendSchedule {
    /// A closed loop, or with a rate (messages a second) an open one.
    pub(crate) fn new(clock: RunClock, rate: Option<f64>, halt: Halt) -> std::io::Result<Self> {
        let pace = rate.map(|rate| {
            Arc::new(Pace {
                rate,
                due: Semaphore::new(0),
                taken: AtomicU64::new(0),
            })
        });
        if let Some(pace) = &pace {
            let (pace, halt) = (Arc::clone(pace), halt.clone());
            thread::Builder::new()
                .name("bench-pace".to_owned())
                .spawn(move || pace.release(&clock, &halt))?;
        }
        Ok(SendSchedule { clock, halt, pace })
    }

    /// The times of the run.
    pub(crate) fn clock(&self) -> &RunClock {
        &self.clock
    }

    /// Whether messages are due at their own times.
    pub(crate) fn is_open(&self) -> bool {
        self.pace.is_some()
    }

    /// Waits until a message is to be sent, and answers when it was due; `None` at the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        match &self.pace {
            None => self.now(),
            Some(pace) => {
                pace.due.acquire().await.ok()?.forget();
                Some(pace.take(&self.clock))
            }
        }
    }

    /// When a message was due that can be sent right now, if there is one.
    pub(crate) fn ready(&self) -> Option<Instant> {
        match &self.pace {
            None => self.now(),
            Some(pace) => {
                pace.due.try_acquire().ok()?.forget();
                Some(pace.take(&self.clock))
            }
        }
    }

    fn now(&self) -> Option<Instant> {
        let now = Instant::now();
        (now < self.clock.end && !self.halt.is_asked()).then_some(now)
    }

    /// How many messages were due but never sent, since there was no room before the end.
    pub(crate) fn unsent(&self) -> u64 {
        self.pace
            .as_ref()
            .map_or(0, |pace| pace.due.available_permits() as u64)
    }
}

impl Pace {
    fn take(&self, clock: &RunClock) -> Instant {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        clock.start + self.offset(number)
    }

    #[allow(clippy::cast_precision_loss)] // 2^53 messages take a while
    fn offset(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The life of the thread.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn release(&self, clock: &RunClock, halt: &Halt) {
        let mut released = 0;
        loop {
            let now = Instant::now();
            if now >= clock.end || halt.is_asked() {
                self.due.close();
                return;
            }
            let due = ((now - clock.start).as_secs_f64() * self.rate) as u64 + 1;
            // A semaphore holds 2^61 at most.
            self.due.add_permits((due - released) as usize);
            released = due;
            let next = (clock.start + self.offset(due)).saturating_duration_since(Instant::now());
            thread::sleep(next.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_open_loop_counts_from_the_intended_times_however_late_it_is() {
        let (_stop, halt) = tokio::sync::watch::channel(false);
        let clock = RunClock::start(Duration::ZERO, Duration::from_millis(100));
        let schedule = SendSchedule::new(clock, Some(1000.0), Halt::new(halt)).expect("a thread");
        let mut due = Vec::new();
        while let Some(at) = schedule.next().await {
            due.push((at - clock.start).as_micros());
        }
        assert!(!due.is_empty() && due.len() <= 101, "{}", due.len());
        let expected: Vec<u128> = (0..due.len() as u128).map(|k| k * 1000).collect();
        assert_eq!(due, expected);
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_counted() {
        let (_stop, halt) = tokio::sync::watch::channel(false);
        let clock = RunClock::start(Duration::ZERO, Duration::from_millis(30));
        let schedule = SendSchedule::new(clock, Some(100_000.0), Halt::new(halt)).expect("a thread");
        assert!(schedule.next().await.is_some());
        while schedule.pace.as_ref().is_some_and(|pace| !pace.due.is_closed()) {
            tokio::task::yield_now().await;
        }
        assert!(schedule.next().await.is_none());
        assert!(schedule.unsent() > 100, "{}", schedule.unsent());
    }

    #[tokio::test]
    async fn a_closed_loop_ends_when_asked() {
        let (stop, halt) = tokio::sync::watch::channel(false);
        let clock = RunClock::start(Duration::ZERO, Duration::from_hours(1));
        let schedule = SendSchedule::new(clock, None, Halt::new(halt)).expect("no thread");
        assert!(schedule.next().await.is_some());
        stop.send_replace(true);
        assert!(schedule.next().await.is_none());
    }
}
