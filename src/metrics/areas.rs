//! What is counted of the append path, of the watches, and of telemetry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};

use super::Counters;
use crate::{
    domain::message::Receipt,
    telemetry::{self, ExportCounts},
};

/// Bounds in seconds for what takes from a millisecond, a statement on a near network, to the longest request.
pub(super) const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds for the messages of a batch, up to the most that it has.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// What is counted of appends.
#[derive(Debug)]
pub struct AppendMetrics {
    messages: IntCounter,
    deduplicated: IntCounter,
    /// Units set aside, since their session was locked.
    pub set_aside: IntCounter,
    /// Batches run again, by cause.
    pub retries: IntCounterVec,
    batch_rows: Histogram,
    batch_seconds: HistogramVec,
    last_commit: Gauge,
}

impl AppendMetrics {
    pub(super) fn new(counters: Counters<'_>) -> Self {
        let rows = HistogramOpts::new("chatledger_append_batch_rows", "Messages of a batch.");
        let seconds = HistogramOpts::new(
            "chatledger_append_batch_seconds",
            "Time of a batch, from its first statement to its last answer, by path.",
        );
        AppendMetrics {
            messages: counters.counter("chatledger_append_messages_total", "Messages stored."),
            deduplicated: counters.counter(
                "chatledger_append_deduplicated_total",
                "Messages that were stored before, answered with their first receipt.",
            ),
            set_aside: counters.counter(
                "chatledger_append_set_aside_total",
                "Units set aside, as another writer held their session or it was not there.",
            ),
            retries: counters.counters(
                "chatledger_append_retries_total",
                "Batches run again or divided, by cause.",
                &["cause"],
            ),
            batch_rows: counters.add(Histogram::with_opts(rows.buckets(ROWS.to_vec()))),
            batch_seconds: counters.add(HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["path"])),
            last_commit: counters.add(Gauge::new(
                "chatledger_append_last_commit_timestamp_seconds",
                "Time of the last batch that stored something, in seconds since 1970.",
            )),
        }
    }

    /// Counts a batch.
    pub fn batch(&self, rows: usize, path: &str, took: Duration) {
        // Exact below 2^53.
        #[allow(clippy::cast_precision_loss)]
        self.batch_rows.observe(rows as f64);
        self.batch_seconds
            .with_label_values(&[path])
            .observe(took.as_secs_f64());
    }

    /// Counts the messages of a unit that was stored.
    pub fn stored(&self, receipts: &[Receipt]) {
        let repeated = receipts.iter().filter(|receipt| receipt.deduplicated).count() as u64;
        self.deduplicated.inc_by(repeated);
        self.messages.inc_by(receipts.len() as u64 - repeated);
    }

    /// Notes that a batch has stored something.
    pub fn committed(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_commit.set(now.as_secs_f64());
    }
}

/// What is counted of watches.
#[derive(Debug)]
pub struct WatchMetrics {
    /// Messages told to watches.
    pub events: IntCounter,
    lag: Histogram,
    /// Notifications sent to other servers.
    pub sent: IntCounter,
    /// Notifications of other servers that were heard.
    pub received: IntCounter,
}

impl WatchMetrics {
    pub(super) fn new(counters: Counters<'_>) -> Self {
        let lag = HistogramOpts::new(
            "chatledger_watch_lag_seconds",
            "Time from a message's created_at, by the database's clock, until it was read for those who watch live.",
        );
        WatchMetrics {
            events: counters.counter(
                "chatledger_watch_events_total",
                "Messages handed to watches, live or while they catch up.",
            ),
            lag: counters.add(Histogram::with_opts(lag.buckets(SECONDS.to_vec()))),
            sent: counters.counter(
                "chatledger_notifications_sent_total",
                "NOTIFY statements sent to other servers.",
            ),
            received: counters.counter(
                "chatledger_notifications_received_total",
                "Notifications of other servers heard.",
            ),
        }
    }

    /// Counts the lag of a message that is handed to live watches now.
    pub fn told(&self, created_at: Timestamp) {
        let lag = Timestamp::now().duration_since(created_at).as_secs_f64();
        // Where the database's clock is ahead of ours.
        self.lag.observe(lag.max(0.0));
    }
}

/// What became of spans and log records.
#[derive(Debug)]
pub struct TelemetryMetrics {
    exported: IntCounterVec,
    dropped: IntCounterVec,
}

impl TelemetryMetrics {
    pub(super) fn new(counters: Counters<'_>) -> Self {
        TelemetryMetrics {
            exported: counters.counters(
                "chatledger_telemetry_exported_total",
                "Spans and log records that their receiver has taken, by signal.",
                &["signal"],
            ),
            dropped: counters.counters(
                "chatledger_telemetry_dropped_total",
                "Spans and log records lost, as the queue was full or sending them failed, by signal.",
                &["signal"],
            ),
        }
    }

    /// Takes over what was counted since the last look.
    pub(super) fn look(&self) {
        for (signal, counts) in [
            ("traces", telemetry::span_counts()),
            ("logs", telemetry::log_counts()),
        ] {
            let ExportCounts { exported, dropped } = counts;
            for (counters, count) in [(&self.exported, exported), (&self.dropped, dropped)] {
                if count > 0 {
                    let counter = counters.with_label_values(&[signal]);
                    counter.inc_by(count.saturating_sub(counter.get()));
                }
            }
        }
    }
}
