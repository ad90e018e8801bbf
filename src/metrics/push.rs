//! The metrics by OTLP: a snapshot now and then, sent to a collector.
//!
//! The snapshot is the one that Prometheus gets, so the names, the labels and the sums are the same whichever way they come. Sums
//! are cumulative since the start of the process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as SentMetric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use opentelemetry_sdk as telemetry_sdk;
use prometheus::proto::{Bucket, LabelPair, Metric, MetricFamily, MetricType};
use tokio::time;
use tonic::{Request, codec::CompressionEncoding, metadata::MetadataMap, transport::Channel};

use super::gather;
use crate::{admin::AdminState, telemetry::MetricSettings};

/// What sends the metrics. A clone sends to the same collector.
#[derive(Clone, Debug)]
pub struct MetricsPush {
    collector: MetricsServiceClient<Channel>,
    /// The headers that the collector wants, which may be secret.
    headers: MetadataMap,
    /// What the process is.
    resource: Resource,
    interval: Duration,
    timeout: Duration,
    /// The start of the process, or nearly, in nanoseconds since 1970.
    started: u64,
}

/// How long the last snapshot may take: a collector that is there takes it at once.
const LAST: Duration = Duration::from_secs(2);

impl MetricsPush {
    /// Prepares to send, within a runtime.
    ///
    /// # Errors
    /// Certificates that can't be used.
    pub fn new(settings: &MetricSettings, resource: &telemetry_sdk::Resource) -> anyhow::Result<Self> {
        let otlp = &settings.otlp;
        let mut collector = MetricsServiceClient::new(otlp.channel()?);
        if otlp.gzip {
            collector = collector.send_compressed(CompressionEncoding::Gzip);
        }
        let attributes = resource
            .iter()
            .map(|(key, value)| attribute(key.as_str(), &value.as_str()));
        Ok(MetricsPush {
            collector,
            headers: otlp.headers.clone(),
            resource: Resource {
                attributes: attributes.collect(),
                ..Default::default()
            },
            interval: settings.interval,
            timeout: otlp.timeout,
            started: nanoseconds(SystemTime::now()),
        })
    }

    /// Sends the last snapshot.
    pub async fn finish(mut self, state: &AdminState) {
        self.timeout = self.timeout.min(LAST);
        // Whoever misses it hears nothing more of this process anyway.
        let _ = self.send(state).await;
    }

    /// Sends snapshots, for ever. A collector that is away is told of once an outage.
    pub async fn run(mut self, state: AdminState) {
        let mut is_away = false;
        loop {
            time::sleep(self.interval).await;
            match self.send(&state).await {
                Ok(()) if std::mem::take(&mut is_away) => {
                    tracing::info!("metrics are sent again");
                }
                Ok(()) => {}
                Err(reason) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(reason, "metrics can't be sent");
                    }
                }
            }
        }
    }

    async fn send(&mut self, state: &AdminState) -> Result<(), String> {
        let times = Times {
            start_time_unix_nano: self.started,
            time_unix_nano: nanoseconds(SystemTime::now()),
        };
        let metrics = gather(state.view());
        let mut request = Request::new(ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope {
                        name: env!("CARGO_PKG_NAME").to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        ..Default::default()
                    }),
                    metrics: metrics.iter().map(|family| sent(family, times)).collect(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
        });
        *request.metadata_mut() = self.headers.clone();
        match time::timeout(self.timeout, self.collector.export(request)).await {
            Ok(Ok(_)) => Ok(()),
            // The code only: a message might quote a header.
            Ok(Err(status)) => Err(format!("{:?}", status.code())),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

/// The times that every point has, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Times {
    start_time_unix_nano: u64,
    time_unix_nano: u64,
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A family as OTLP has it.
fn sent(family: &MetricFamily, times: Times) -> SentMetric {
    let metrics = family.get_metric().iter();
    let temporality = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: metrics
                .map(|metric| number(metric, metric.get_counter().get_value(), times))
                .collect(),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: metrics.map(|metric| histogram(metric, times)).collect(),
            aggregation_temporality: temporality,
        }),
        // There are no others here.
        MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => Data::Gauge(Gauge {
            data_points: metrics
                .map(|metric| number(metric, metric.get_gauge().get_value(), times))
                .collect(),
        }),
    };
    SentMetric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        unit: unit(family.name()).to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

/// The unit that a name ends with, as UCUM writes it.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    if name.ends_with("_seconds") {
        "s"
    } else if name.ends_with("_bytes") {
        "By"
    } else {
        "1"
    }
}

fn number(metric: &Metric, value: f64, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(metric.get_label()),
        start_time_unix_nano: times.start_time_unix_nano,
        time_unix_nano: times.time_unix_nano,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..Default::default()
    }
}

fn histogram(metric: &Metric, times: Times) -> HistogramDataPoint {
    let histogram = metric.get_histogram();
    let buckets = histogram.get_bucket();
    // Prometheus counts what is below a bound, OTLP what is between two.
    let mut below = 0;
    let mut bucket_counts: Vec<u64> = buckets
        .iter()
        .map(|bucket| {
            let between = bucket.cumulative_count().saturating_sub(below);
            below = bucket.cumulative_count();
            between
        })
        .collect();
    bucket_counts.push(histogram.get_sample_count().saturating_sub(below));
    HistogramDataPoint {
        attributes: attributes(metric.get_label()),
        start_time_unix_nano: times.start_time_unix_nano,
        time_unix_nano: times.time_unix_nano,
        count: histogram.get_sample_count(),
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds: buckets.iter().map(Bucket::upper_bound).collect(),
        ..Default::default()
    }
}

fn attributes(labels: &[LabelPair]) -> Vec<KeyValue> {
    let labels = labels.iter();
    labels
        .map(|label| attribute(label.name(), label.value()))
        .collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, core::Collector};

    use super::*;

    #[test]
    fn a_histogram_counts_what_is_between_its_bounds() {
        let opts = HistogramOpts::new("wait_seconds", "Waits.").buckets(vec![1.0, 2.0]);
        let waits = Histogram::with_opts(opts).expect("a histogram");
        for seconds in [0.5, 1.5, 1.75, 9.0] {
            waits.observe(seconds);
        }
        let times = Times {
            start_time_unix_nano: 1,
            time_unix_nano: 2,
        };
        let family = &waits.collect()[0];
        let metric = sent(family, times);
        assert_eq!(metric.unit, "s");
        let Some(Data::Histogram(histogram)) = metric.data else {
            panic!("no histogram");
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts, [1, 2, 1]);
        assert_eq!(point.explicit_bounds, [1.0, 2.0]);
        assert_eq!((point.count, point.sum), (4, Some(12.75)));
    }
}
