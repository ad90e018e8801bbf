//! A snapshot of the metrics as text: Prometheus' format, and OpenMetrics, which a scraper asks for by `accept`.

use std::fmt::Write;

use prometheus::{
    TextEncoder,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

/// The content type of Prometheus' text.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The content type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A snapshot in Prometheus' format.
#[must_use]
pub fn prometheus(families: &[MetricFamily]) -> String {
    // It fails for families without a name or a series, which a registry doesn't gather.
    TextEncoder::new().encode_to_string(families).unwrap_or_default()
}

/// A snapshot in OpenMetrics 1.0.
#[must_use]
pub fn openmetrics(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        // Writing to a string doesn't fail.
        let _ = write_family(&mut text, family);
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(text: &mut String, family: &MetricFamily) -> std::fmt::Result {
    // Of a counter, the suffix is the sample's and not the family's.
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (family.name().trim_end_matches("_total"), "counter"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        // There are no others here.
        MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => (family.name(), "gauge"),
    };
    writeln!(text, "# TYPE {name} {kind}")?;
    for unit in ["seconds", "bytes"] {
        if name.ends_with(&format!("_{unit}")) {
            writeln!(text, "# UNIT {name} {unit}")?;
        }
    }
    writeln!(text, "# HELP {name} {}", escaped(family.help()))?;
    for metric in family.get_metric() {
        write_metric(text, name, kind, metric)?;
    }
    Ok(())
}

fn write_metric(text: &mut String, name: &str, kind: &str, metric: &Metric) -> std::fmt::Result {
    let labels = metric.get_label();
    match kind {
        "counter" => {
            let value = metric.get_counter().get_value();
            writeln!(text, "{name}_total{} {value}", Labels(labels, None))
        }
        "histogram" => {
            let histogram = metric.get_histogram();
            let (count, sum) = (histogram.get_sample_count(), histogram.get_sample_sum());
            for bucket in histogram.get_bucket() {
                let bound = Labels(labels, Some(bucket.upper_bound()));
                writeln!(text, "{name}_bucket{bound} {}", bucket.cumulative_count())?;
            }
            writeln!(
                text,
                "{name}_bucket{} {count}",
                Labels(labels, Some(f64::INFINITY))
            )?;
            writeln!(text, "{name}_count{} {count}", Labels(labels, None))?;
            writeln!(text, "{name}_sum{} {sum}", Labels(labels, None))
        }
        _ => {
            let value = metric.get_gauge().get_value();
            writeln!(text, "{name}{} {value}", Labels(labels, None))
        }
    }
}

/// The labels of a sample, and the upper bound of a bucket.
struct Labels<'a>(&'a [LabelPair], Option<f64>);

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Labels(labels, bound) = self;
        let mut all: Vec<String> = labels
            .iter()
            .map(|label| format!("{}=\"{}\"", label.name(), escaped(label.value())))
            .collect();
        match bound {
            Some(bound) if bound.is_infinite() => all.push("le=\"+Inf\"".to_owned()),
            // With a fraction, as OpenMetrics wants numbers that are compared as text.
            Some(bound) => all.push(format!("le=\"{bound:?}\"")),
            None => {}
        }
        if all.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", all.join(","))
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    #[test]
    fn openmetrics_has_units_buckets_and_an_end() {
        let registry = Registry::new();
        let calls =
            IntCounterVec::new(Opts::new("calls_total", "Calls \"made\"."), &["of"]).expect("a counter");
        calls.with_label_values(&["a\"\\b"]).inc();
        let waits = HistogramOpts::new("wait_seconds", "Waits.").buckets(vec![0.5, 1.0]);
        let waits = Histogram::with_opts(waits).expect("a histogram");
        waits.observe(0.75);
        let open = IntGauge::new("open", "Open.").expect("a gauge");
        registry.register(Box::new(calls)).expect("once");
        registry.register(Box::new(waits)).expect("once");
        registry.register(Box::new(open)).expect("once");
        let expected = "\
# TYPE calls counter
# HELP calls Calls \\\"made\\\".
calls_total{of=\"a\\\"\\\\b\"} 1
# TYPE open gauge
# HELP open Open.
open 0
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
# HELP wait_seconds Waits.
wait_seconds_bucket{le=\"0.5\"} 0
wait_seconds_bucket{le=\"1.0\"} 1
wait_seconds_bucket{le=\"+Inf\"} 1
wait_seconds_count 1
wait_seconds_sum 0.75
# EOF
";
        assert_eq!(openmetrics(&registry.gather()), expected);
    }
}
