//! What a run has found: as text for people ([`text`]), as JSON for programs (serde), as a page with plots
//! ([`html`]).

pub(crate) mod html;
pub(crate) mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{
    append::AppendOutcome,
    measure::{Measurement, millis},
    usage::{CpuSeconds, Machine, ProcessMemory},
    verify::LedgerVerification,
};

/// The percentiles that a plot shows.
const PLOTTED: [f64; 16] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999, 100.0,
];

/// The result of `bench append` or `bench watch`.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    /// `append` or `watch`.
    pub kind: &'static str,
    /// The version of this program.
    pub version: &'static str,
    /// When the run ended.
    pub time: Timestamp,
    /// Whether Ctrl-C ended it before its time.
    pub interrupted: bool,
    /// The server's URL.
    pub target: String,
    /// All settings, by flag.
    pub settings: BTreeMap<&'static str, Value>,
    /// What was done to the messages: `appended`, or `delivered` to a watcher.
    pub(crate) measures: &'static str,
    /// How long was measured.
    pub seconds: f64,
    /// How many messages were measured, also those that were answered (or delivered) after `seconds`.
    pub messages: u64,
    /// How many of them were answered (or delivered) within `seconds`.
    pub messages_in_time: u64,
    /// Messages a second: `messages_in_time` over `seconds`.
    pub throughput: f64,
    /// How many messages were due at `--rate` and never sent, since there was no room for them.
    pub unsent: u64,
    /// The time from when a message was due to when its answer (or delivery) was there.
    pub latency_ms: Latency,
    /// The time from a message's receipt to its delivery; `bench watch` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_to_delivery_ms: Option<Latency>,
    /// How many messages failed, by code.
    pub errors: BTreeMap<String, u64>,
    /// What reading everything back has found; none, where it wasn't asked for.
    pub verify: Option<LedgerVerification>,
    /// What happened when.
    pub(crate) intervals: Vec<IntervalReport>,
    /// The percentiles of the plot.
    pub(crate) percentiles: Vec<Percentile>,
    /// What the parties used.
    pub cpu_seconds: CpuSeconds,
    /// The server's memory at the end, where it is ours.
    pub server_memory: Option<ProcessMemory>,
    /// Where it was measured.
    pub(crate) machine: Machine,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Half of them were faster.
    pub p50: f64,
    /// Nine in ten were.
    pub p90: f64,
    /// 99 in a hundred were.
    pub p99: f64,
    /// 999 in a thousand were.
    pub p99_9: f64,
    /// The slowest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
}

/// One interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IntervalReport {
    /// When it began, in seconds from the beginning of what is measured.
    pub at: f64,
    /// Messages a second.
    pub throughput: f64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub(crate) p99_ms: f64,
    /// Milliseconds.
    pub max_ms: f64,
    /// How many messages failed.
    pub errors: u64,
}

/// One point of a percentile plot.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentile {
    /// 0 to 100.
    pub(crate) percentile: f64,
    /// Milliseconds.
    pub ms: f64,
}

/// What surrounds a measurement.
#[derive(Debug)]
pub struct Circumstances {
    /// The server's URL.
    pub target: String,
    /// All settings, by flag.
    pub settings: BTreeMap<&'static str, Value>,
    /// Whether Ctrl-C ended it before its time.
    pub interrupted: bool,
    /// What the parties used.
    pub cpu_seconds: CpuSeconds,
    /// The server's memory at the end, where it is ours.
    pub server_memory: Option<ProcessMemory>,
}

impl BenchReport {
    /// The report of a run of `bench append`.
    #[must_use]
    pub fn appended(ran: &AppendOutcome, verify: Option<LedgerVerification>, around: Circumstances) -> Self {
        BenchReport {
            unsent: ran.unsent,
            verify,
            ..Self::of("append", "appended", &ran.measured, around)
        }
    }

    /// The report of what was measured.
    #[must_use]
    pub fn of(kind: &'static str, verb: &'static str, measured: &Measurement, around: Circumstances) -> Self {
        BenchReport {
            kind,
            version: env!("CARGO_PKG_VERSION"),
            time: Timestamp::now(),
            interrupted: around.interrupted,
            target: around.target,
            settings: around.settings,
            measures: verb,
            seconds: measured.window().as_secs_f64(),
            messages: measured.latencies.len(),
            messages_in_time: measured.answered_in_window(),
            throughput: measured.throughput(),
            unsent: 0,
            latency_ms: Latency::of(&measured.latencies),
            receipt_to_delivery_ms: None,
            errors: measured.errors.clone(),
            verify: None,
            intervals: intervals(measured),
            percentiles: PLOTTED
                .into_iter()
                .map(|percentile| Percentile {
                    percentile,
                    ms: measured.millis(percentile),
                })
                .collect(),
            cpu_seconds: around.cpu_seconds,
            server_memory: around.server_memory,
            machine: Machine::here(),
        }
    }
}

impl Latency {
    /// The latencies of a histogram of microseconds.
    #[must_use]
    pub fn of(micros: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |percentile| millis(micros.value_at_percentile(percentile));
        Latency {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: millis(micros.max()),
            mean: micros.mean() / 1000.0,
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn intervals(measured: &Measurement) -> Vec<IntervalReport> {
    let length = measured.interval.as_secs_f64();
    measured
        .intervals
        .iter()
        .enumerate()
        .map(|(place, interval)| {
            let at = |percentile| millis(interval.latencies.value_at_percentile(percentile));
            IntervalReport {
                at: place as f64 * length,
                throughput: interval.latencies.len() as f64 / length,
                p50_ms: at(50.0),
                p99_ms: at(99.0),
                max_ms: millis(interval.latencies.max()),
                errors: interval.errors,
            }
        })
        .collect()
}
