//! What goes out: bounded queues, whose losses are counted, and exporters that say now and then that they get nowhere.
//!
//! The queues of OpenTelemetry's SDK are bounded too, but tell nobody how much they drop. So what waits is counted before it:
//! with at most as much as the SDK's queue holds, that one never drops anything.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord},
    trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};

/// How often it is said that exports fail: a receiver may be away for days.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What became of a signal since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// What the receiver has taken.
    pub exported: u64,
    /// What was dropped: the queue was full, or an export had failed.
    pub dropped: u64,
}

/// The counters of a signal.
#[derive(Debug)]
pub(super) struct SignalCounters {
    exported: AtomicU64,
    dropped: AtomicU64,
    /// What waits, or is being exported.
    waiting: AtomicUsize,
}

pub(super) static SPANS: SignalCounters = SignalCounters::new();
pub(super) static LOGS: SignalCounters = SignalCounters::new();

impl SignalCounters {
    const fn new() -> Self {
        SignalCounters {
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn read(&self) -> ExportCounts {
        ExportCounts {
            exported: self.exported.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Lets one more wait, unless as many do.
    fn admit(&self, most: usize) -> bool {
        let one_more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        let admitted = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if admitted.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted.is_ok()
    }

    /// Notes what became of some that waited.
    fn done(&self, number: usize, result: &OTelSdkResult) {
        self.waiting.fetch_sub(number, Ordering::Relaxed);
        let counter = if result.is_ok() {
            &self.exported
        } else {
            &self.dropped
        };
        counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A queue of spans that is never overrun.
#[derive(Debug)]
pub(super) struct BoundedSpans {
    pub(super) inner: BatchSpanProcessor,
    pub(super) most: usize,
}

impl SpanProcessor for BoundedSpans {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if SPANS.admit(self.most) {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// A queue of log records that is never overrun.
#[derive(Debug)]
pub(super) struct BoundedLogs {
    pub(super) inner: BatchLogProcessor,
    pub(super) most: usize,
}

impl LogProcessor for BoundedLogs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if LOGS.admit(self.most) {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter that counts, and says when it gets nowhere.
#[derive(Debug)]
pub(super) struct CountedExporter<E> {
    inner: E,
    signal: &'static str,
    counters: &'static SignalCounters,
    trouble: Mutex<ExportTrouble>,
}

/// The failures of an exporter.
#[derive(Debug, Default)]
struct ExportTrouble {
    /// The moment when it was last said, while exports fail.
    told_at: Option<Instant>,
    /// What was lost since then.
    lost: usize,
}

impl<E> CountedExporter<E> {
    pub(super) fn new(inner: E, signal: &'static str, counters: &'static SignalCounters) -> Self {
        CountedExporter {
            inner,
            signal,
            counters,
            trouble: Mutex::default(),
        }
    }

    fn note(&self, number: usize, result: &OTelSdkResult) {
        self.counters.done(number, result);
        let signal = self.signal;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if trouble.told_at.take().is_some() {
                    tracing::info!(signal, lost = trouble.lost, "telemetry is delivered again");
                }
                trouble.lost = 0;
            }
            Err(error) => {
                trouble.lost += number;
                if trouble.told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    // Its text has the code and where it broke, and nothing that the receiver has said.
                    tracing::warn!(signal, lost = trouble.lost, %error, "telemetry can't be delivered, and is dropped");
                    *trouble = ExportTrouble {
                        told_at: Some(Instant::now()),
                        lost: 0,
                    };
                }
            }
        }
    }
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len();
        let result = self.inner.export(batch).await;
        self.note(number, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for CountedExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let number = batch.iter().count();
        let result = self.inner.export(batch).await;
        self.note(number, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn what_finds_no_place_and_what_fails_is_dropped_and_counted() {
        let counters = SignalCounters::new();
        let admitted = (0..5).filter(|_| counters.admit(3)).count();
        assert_eq!(admitted, 3);
        counters.done(2, &Ok(()));
        assert!(counters.admit(3), "two places are free again");
        counters.done(2, &Err(OTelSdkError::AlreadyShutdown));
        let counts = ExportCounts {
            exported: 2,
            dropped: 2 + 2,
        };
        assert_eq!(counters.read(), counts);
    }
}
