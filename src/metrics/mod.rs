//! The metrics: what the server counts of itself, for Prometheus and for OpenTelemetry.
//!
//! What happens is counted where it happens, in [`metrics()`], which the process has one of: a panic's hook, a task's
//! supervisor and a statement's runner have nothing else in common. What *is* at a moment (rows in queues, connections in
//! use) is asked when somebody looks ([`view`]). One snapshot of both ([`gather`]) is written as Prometheus' text, as OpenMetrics
//! ([`text`]), or sent by OTLP ([`push`]).
//!
//! Labels are bounded: methods of the contract, codes, names of statements and of limits, numbers of lanes; never ids, tenants or
//! callers. docs/metrics.md lists all of it, and a test compares that list with what a server answers.

mod areas;
mod gauges;
pub mod push;
pub mod replicas;
pub mod rpc;
pub mod text;
pub mod view;

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry, core::Collector, proto::MetricFamily};

pub use areas::{AppendMetrics, TelemetryMetrics, WatchMetrics};
pub use gauges::Gauges;
use rpc::RpcMetrics;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The calls.
    pub rpc: RpcMetrics,
    /// The append path.
    pub append: AppendMetrics,
    /// The watches.
    pub watch: WatchMetrics,
    /// What is asked when somebody looks.
    gauges: Gauges,
    /// What became of spans and log records.
    telemetry: TelemetryMetrics,
    /// Refusals of what there is too much of, by limit and by kind of caller.
    pub shed: IntCounterVec,
    /// Lines of the log that could not be written.
    pub log_lines_dropped: IntCounter,
    /// Panics, of requests and tasks.
    pub panics: IntCounter,
    /// Tasks that were started again, by name.
    pub task_restarts: IntCounterVec,
}

/// What this process counts.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

/// Everything that is counted, and what `view` says of this moment.
#[must_use]
pub fn gather(view: Option<&view::ServerView>) -> Vec<MetricFamily> {
    let metrics = metrics();
    if let Some(view) = view {
        metrics.gauges.set(&view.look());
    }
    metrics.telemetry.look();
    metrics.registry.gather()
}

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        // They are other crates', which know nothing of this registry.
        for collector in chatledger_postgres::metrics::collectors() {
            let _ = registry.register(collector);
        }
        #[cfg(target_os = "linux")]
        let _ = registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ));
        let counters = Counters(&registry);
        counters.build_info();
        Metrics {
            rpc: RpcMetrics::new(counters),
            append: AppendMetrics::new(counters),
            watch: WatchMetrics::new(counters),
            gauges: Gauges::new(counters),
            telemetry: TelemetryMetrics::new(counters),
            shed: counters.counters(
                "chatledger_shed_total",
                "Calls refused because a limit was reached, by limit and kind of caller.",
                &["limit", "caller_kind"],
            ),
            log_lines_dropped: counters.counter(
                "chatledger_log_lines_dropped_total",
                "Lines of the log dropped because stderr was not read fast enough.",
            ),
            panics: counters.counter(
                "chatledger_panics_total",
                "Panics, of requests and background tasks.",
            ),
            task_restarts: counters.counters(
                "chatledger_task_restarts_total",
                "Background tasks started again after a panic, by task.",
                &["task"],
            ),
            registry,
        }
    }
}

/// The registry, with what is added to it.
#[derive(Clone, Copy)]
struct Counters<'a>(&'a Registry);

impl Counters<'_> {
    /// Registers a metric.
    fn add<C: Collector + Clone + 'static>(self, made: prometheus::Result<C>) -> C {
        // Names, labels and buckets are constants, and a test makes all of them: a wrong or repeated one is found there.
        let collector = made.expect("a metric of constants");
        self.0
            .register(Box::new(collector.clone()))
            .expect("no other metric of this name");
        collector
    }

    fn counter(self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn build_info(self) {
        let opts = Opts::new(
            "chatledger_build_info",
            "The program: always 1, with its version as a label.",
        );
        let opts = opts.const_label("version", env!("CARGO_PKG_VERSION"));
        self.add(prometheus::IntGauge::with_opts(opts)).set(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_metric_can_be_made_and_has_a_unit_where_it_measures() {
        let metrics = metrics();
        metrics.shed.with_label_values(&["requests", "service"]).inc();
        let families = gather(None);
        let names: HashSet<_> = families.iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(names.len(), families.len());
        for family in &families {
            assert!(family.help().ends_with('.'), "{}", family.name());
            let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(is_counter, family.name().ends_with("_total"), "{}", family.name());
        }
    }
}
