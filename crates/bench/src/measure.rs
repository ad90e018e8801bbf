//! Counts and times answers. Each sender has a [`Recorder`], which only appends to a list of its own and hands that
//! over once an interval: so measuring costs the senders next to nothing. The [`Collector`] makes histograms of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tonic::Code;

use super::{progress::BenchProgress, schedule::RunClock};
use chatledger_client::code_name;

/// How many intervals a run is divided into: as many points as a plot shows well.
const INTERVALS: u32 = 120;
/// The shortest interval: percentiles of less are noise.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The precision of the totals: an error of 0.1 %.
const TOTAL_DIGITS: u8 = 3;
/// The precision of one interval, of which there are many: an error of 1 %.
const INTERVAL_DIGITS: u8 = 2;
/// How many answers a recorder holds back at most.
const HELD_BACK: usize = 4096;
/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(250);

/// Answers of one interval.
#[derive(Debug, Default)]
struct AnswerBatch {
    interval: usize,
    /// Microseconds.
    latencies: Vec<u32>,
    errors: Vec<Code>,
}

/// Takes the answers of one sender.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: RunClock,
    interval: Duration,
    batch: AnswerBatch,
    out: mpsc::UnboundedSender<AnswerBatch>,
}

impl Recorder {
    /// A message was stored: due at `due`, answered at `now`.
    pub(crate) fn stored(&mut self, due: Instant, now: Instant) {
        if now < self.clock.measured_from {
            return;
        }
        self.turn_to(now);
        let micros = now.saturating_duration_since(due).as_micros();
        // 71 minutes are the most that are told apart.
        self.batch
            .latencies
            .push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    /// A message failed.
    pub(crate) fn failed(&mut self, code: Code, now: Instant) {
        self.turn_to(now);
        self.batch.errors.push(code);
    }

    fn turn_to(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.clock.measured_from);
        // Less than a run has milliseconds.
        let interval = usize::try_from(since.as_micros() / self.interval.as_micros()).unwrap_or(usize::MAX);
        if interval != self.batch.interval || self.batch.latencies.len() >= HELD_BACK {
            self.hand_over();
            self.batch.interval = interval;
        }
    }

    fn hand_over(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !(batch.latencies.is_empty() && batch.errors.is_empty()) {
            // The collector lives as long as there are recorders.
            let _ = self.out.send(batch);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Makes one result of what the recorders take.
#[derive(Debug)]
pub(crate) struct Collector {
    clock: RunClock,
    interval: Duration,
    sender: mpsc::UnboundedSender<AnswerBatch>,
    batches: mpsc::UnboundedReceiver<AnswerBatch>,
}

impl Collector {
    /// A collector for a run with these times.
    pub(crate) fn new(clock: RunClock) -> Self {
        let (sender, batches) = mpsc::unbounded_channel();
        let window = clock.end - clock.measured_from;
        let fitting = u32::try_from(window.as_nanos() / SHORTEST_INTERVAL.as_nanos()).unwrap_or(INTERVALS);
        let interval = (window / fitting.clamp(1, INTERVALS)).max(Duration::from_millis(1));
        Collector {
            clock,
            interval,
            sender,
            batches,
        }
    }

    /// A recorder for one more sender.
    pub(crate) fn recorder(&self) -> Recorder {
        Recorder {
            clock: self.clock,
            interval: self.interval,
            batch: AnswerBatch::default(),
            out: self.sender.clone(),
        }
    }

    /// Ends when all recorders are gone.
    pub(crate) async fn collect(self, progress: BenchProgress) -> Measurement {
        let Collector {
            clock,
            interval,
            sender,
            mut batches,
        } = self;
        drop(sender);
        let mut measured = Measurement::new(clock, interval);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => measured.add(&batch),
                    None => break,
                },
                _ = tick.tick() => progress.show(&clock, measured.latest()),
            }
        }
        progress.clear();
        measured.end = Instant::now();
        measured
    }
}

/// One interval's answers.
#[derive(Debug)]
pub(crate) struct IntervalCounts {
    /// Latencies in microseconds.
    pub latencies: Histogram<u32>,
    /// How many messages failed.
    pub errors: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Measurement {
    clock: RunClock,
    /// How long an interval is.
    pub interval: Duration,
    /// All latencies, in microseconds, also of what was answered after the end.
    pub latencies: Histogram<u64>,
    /// One after the other, from the first that is measured.
    pub(crate) intervals: Vec<IntervalCounts>,
    /// How many messages failed, by gRPC code.
    pub errors: BTreeMap<String, u64>,
    end: Instant,
}

/// Room for a latency of any u32.
fn histogram<T: hdrhistogram::Counter>(digits: u8) -> Histogram<T> {
    Histogram::new_with_bounds(1, u32::MAX.into(), digits).expect("valid bounds: 1 * 2 <= high, digits <= 5")
}

impl Measurement {
    /// The rate and p99 of the last whole interval, for people.
    #[allow(clippy::cast_precision_loss)]
    fn latest(&self) -> Option<String> {
        // The last one is still being filled.
        let last = self.intervals.iter().rev().nth(1)?;
        let rate = last.latencies.len() as f64 / self.interval.as_secs_f64();
        let p99 = millis(last.latencies.value_at_percentile(99.0));
        let errors: u64 = self.errors.values().sum();
        let line = format!("{rate:.0} messages/s, p99 {p99:.1} ms");
        Some(match errors {
            0 => line,
            errors => format!("{line}, {errors} errors"),
        })
    }

    fn new(clock: RunClock, interval: Duration) -> Self {
        Measurement {
            clock,
            interval,
            latencies: histogram(TOTAL_DIGITS),
            intervals: Vec::new(),
            errors: BTreeMap::new(),
            end: clock.end,
        }
    }

    fn add(&mut self, batch: &AnswerBatch) {
        while self.intervals.len() <= batch.interval {
            self.intervals.push(IntervalCounts {
                latencies: Histogram::new(INTERVAL_DIGITS).expect("at most 5 digits"), // grows with its values
                errors: 0,
            });
        }
        let interval = &mut self.intervals[batch.interval];
        for &micros in &batch.latencies {
            self.latencies.saturating_record(micros.into());
            // Not saturating_record, which doesn't grow it. It fails only where a u64 doesn't fit into memory.
            let _ = interval.latencies.record(micros.into());
        }
        interval.errors += batch.errors.len() as u64;
        for code in &batch.errors {
            *self.errors.entry(code_name(*code)).or_default() += 1;
        }
    }

    /// The measured time: until the end, or until it was interrupted.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.end
            .min(self.clock.end)
            .saturating_duration_since(self.clock.measured_from)
    }

    /// How many messages were answered in the window. Those that were sent in it and answered after it count only for the
    /// latencies.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn answered_in_window(&self) -> u64 {
        let window = self.window().as_secs_f64();
        if window <= 0.0 {
            return 0;
        }
        // What comes after the end is in intervals of its own, since the window is a whole number of them.
        let inside = (window / self.interval.as_secs_f64()).round().max(1.0) as usize;
        let intervals = self.intervals.iter().take(inside);
        intervals.map(|one| one.latencies.len()).sum()
    }

    /// Stored messages a second, of those that were answered in the window.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn throughput(&self) -> f64 {
        let window = self.window().as_secs_f64();
        if window <= 0.0 {
            return 0.0;
        }
        self.answered_in_window() as f64 / window
    }

    /// A percentile of the latencies, in milliseconds.
    #[must_use]
    pub fn millis(&self, percentile: f64) -> f64 {
        millis(self.latencies.value_at_percentile(percentile))
    }

    /// The largest latency, in milliseconds.
    #[cfg(test)]
    fn max_millis(&self) -> f64 {
        millis(self.latencies.max())
    }
}

/// Microseconds as milliseconds.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_recorded_is_what_is_told() {
        let clock = RunClock::start(Duration::from_secs(1), Duration::from_secs(2));
        let collector = Collector::new(clock);
        let mut recorder = collector.recorder();
        let due = clock.start;
        recorder.stored(due, due + Duration::from_millis(999)); // warming up
        let from = clock.measured_from;
        for millis in 1..=100 {
            recorder.stored(from, from + Duration::from_millis(millis));
        }
        recorder.stored(from, clock.end + Duration::from_secs(3)); // answered late: a latency, no throughput
        recorder.failed(Code::Unavailable, from);
        drop(recorder);
        let mut measured = collector.collect(BenchProgress::hidden()).await;
        assert_eq!(measured.latencies.len(), 101);
        assert!(
            (measured.millis(50.0) - 51.0).abs() < 0.2,
            "{}",
            measured.millis(50.0)
        );
        assert!((measured.max_millis() - 5000.0).abs() < 10.0);
        let slowest = measured.intervals[0]
            .latencies
            .max()
            .max(measured.intervals[1].latencies.max());
        assert!((millis(slowest) - 100.0).abs() < 2.0, "{slowest}");
        assert_eq!(measured.errors["UNAVAILABLE"], 1);
        // It was interrupted while it warmed up; and it wasn't.
        assert_eq!(measured.answered_in_window(), 0);
        measured.end = clock.end;
        assert_eq!(measured.answered_in_window(), 100);
        assert_eq!(
            measured.intervals[0].latencies.len() + measured.intervals[1].latencies.len(),
            100
        );
    }
}
