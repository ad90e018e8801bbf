//! What is counted of connections and statements, by this process. Whoever has a registry adds [`collectors`] to it.

use std::{sync::LazyLock, time::Duration};

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, core::Collector};

/// Bounds in seconds, from a statement that is found in memory to one that a deadline ends.
const SECONDS: &[f64] = &[
    0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// What is counted.
pub(crate) struct DatabaseMetrics {
    /// Time that somebody waited for a connection, by stage.
    pub(crate) wait: HistogramVec,
    /// Waits that ended without one.
    pub(crate) timeouts: IntCounter,
    /// Attempts to connect.
    pub(crate) connects: IntCounterVec,
    statements: HistogramVec,
    errors: IntCounterVec,
}

impl DatabaseMetrics {
    fn new() -> prometheus::Result<Self> {
        let seconds = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        Ok(DatabaseMetrics {
            wait: HistogramVec::new(
                seconds(
                    "chatledger_pool_wait_seconds",
                    "Time until a caller's turn for a connection, and from then until it was had, connecting included.",
                ),
                &["stage"],
            )?,
            timeouts: IntCounter::new(
                "chatledger_pool_timeouts_total",
                "Waits for a connection that ended without one, as all were in use for too long.",
            )?,
            connects: IntCounterVec::new(
                Opts::new(
                    "chatledger_pool_connects_total",
                    "Attempts to connect to the database, by result.",
                ),
                &["result"],
            )?,
            statements: HistogramVec::new(
                seconds(
                    "chatledger_statement_seconds",
                    "Time of a statement, from when it was sent until its last row, by its name.",
                ),
                &["statement"],
            )?,
            errors: IntCounterVec::new(
                Opts::new(
                    "chatledger_statement_errors_total",
                    "Statements that failed, by name.",
                ),
                &["statement"],
            )?,
        })
    }

    /// Counts a statement.
    pub(crate) fn ran(&self, statement: &str, took: Duration, has_failed: bool) {
        self.statements
            .with_label_values(&[statement])
            .observe(took.as_secs_f64());
        if has_failed {
            self.errors.with_label_values(&[statement]).inc();
        }
    }
}

/// What this process counts.
pub(crate) fn metrics() -> &'static DatabaseMetrics {
    static METRICS: LazyLock<DatabaseMetrics> = LazyLock::new(|| {
        // Names, labels and buckets are constants, which the test below makes.
        DatabaseMetrics::new().expect("metrics of constants")
    });
    &METRICS
}

/// All of it, for a registry.
#[must_use]
pub fn collectors() -> Vec<Box<dyn Collector>> {
    let metrics = metrics();
    vec![
        Box::new(metrics.wait.clone()),
        Box::new(metrics.timeouts.clone()),
        Box::new(metrics.connects.clone()),
        Box::new(metrics.statements.clone()),
        Box::new(metrics.errors.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_made_and_registered() {
        let registry = prometheus::Registry::new();
        for collector in collectors() {
            registry.register(collector).expect("a name of its own");
        }
        metrics().ran("test.One", Duration::from_millis(3), true);
        assert!(
            registry
                .gather()
                .iter()
                .any(|family| family.name() == "chatledger_statement_errors_total")
        );
    }
}
