//! What telemetry there is: which signals go out, how much of them, and how they are gathered.

use std::time::Duration;

use anyhow::bail;
use opentelemetry_sdk::{Resource, trace::Sampler};

use super::{OtlpSettings, Signal, Variables, otlp};

/// The telemetry of a process, as its variables have it.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// What all of it is about.
    pub resource: Resource,
    /// Spans; `None`: there are none.
    pub traces: Option<TraceSettings>,
    /// Log records; `None`: none are sent.
    pub logs: Option<LogSettings>,
    /// Metrics; `None`: none are sent.
    pub metrics: Option<MetricSettings>,
}

/// Where metrics go, and how often.
#[derive(Clone, Debug)]
pub struct MetricSettings {
    /// Where they go.
    pub otlp: OtlpSettings,
    /// How often a snapshot is sent.
    pub interval: Duration,
}

/// Which spans there are, and where they go.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// Where they go.
    pub otlp: OtlpSettings,
    /// Which requests have some.
    pub(super) sampler: Sampler,
    /// Whether what the caller has decided goes before.
    pub(super) heeds_parent: bool,
    /// Whether a request's metadata says which span it comes from.
    pub(super) takes_context: bool,
    pub(super) queue: QueueSettings,
}

/// Where log records go.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Where they go.
    pub otlp: OtlpSettings,
    pub(super) queue: QueueSettings,
}

/// How spans or log records are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueSettings {
    /// The most that wait, or are being sent. What comes beyond is dropped.
    pub(super) most: usize,
    /// The most that are sent at once.
    pub(super) batch: usize,
    /// How long they wait for others.
    pub(super) delay: Duration,
}

impl TelemetrySettings {
    /// What the variables say.
    ///
    /// # Errors
    /// A value that is wrong, by the name of its variable.
    pub fn read(variables: &Variables) -> anyhow::Result<TelemetrySettings> {
        let resource = otlp::resource(variables)?;
        let mut settings = TelemetrySettings {
            resource,
            traces: None,
            logs: None,
            metrics: None,
        };
        if variables.flag("OTEL_SDK_DISABLED")? == Some(true) {
            return Ok(settings);
        }
        if let Some(mut otlp) = OtlpSettings::read(variables, Signal::Traces)? {
            let (sampler, heeds_parent) = sampler(variables)?;
            let queue = queue(variables, "BSP", Duration::from_secs(5), &mut otlp)?;
            settings.traces = Some(TraceSettings {
                otlp,
                sampler,
                heeds_parent,
                takes_context: takes_context(variables)?,
                queue,
            });
        }
        if let Some(mut otlp) = OtlpSettings::read(variables, Signal::Logs)? {
            let queue = queue(variables, "BLRP", Duration::from_secs(1), &mut otlp)?;
            settings.logs = Some(LogSettings { otlp, queue });
        }
        if let Some(mut otlp) = OtlpSettings::read(variables, Signal::Metrics)? {
            if let Some(timeout) = variables.millis("OTEL_METRIC_EXPORT_TIMEOUT")? {
                otlp.timeout = otlp.timeout.min(timeout);
            }
            let interval = variables.millis("OTEL_METRIC_EXPORT_INTERVAL")?;
            let interval = interval.unwrap_or(Duration::from_mins(1));
            settings.metrics = Some(MetricSettings { otlp, interval });
        }
        Ok(settings)
    }
}

/// The sampler, and whether it heeds what the caller has decided.
fn sampler(variables: &Variables) -> anyhow::Result<(Sampler, bool)> {
    const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
    const NAME: &str = "OTEL_TRACES_SAMPLER";
    let name = variables.text(NAME)?;
    let name = name.as_deref().unwrap_or("parentbased_always_on");
    let (root, heeds_parent) = match name.strip_prefix("parentbased_") {
        Some(root) => (root, true),
        None => (name, false),
    };
    let ratio = variables.parsed(ARG, "a number from 0 to 1", |ratio: &f64| {
        (0.0..=1.0).contains(ratio)
    })?;
    // Whoever gives a ratio and forgets the sampler would have every request sampled.
    if let Some(ratio) = ratio.filter(|_| root != "traceidratio") {
        bail!("{ARG}={ratio}: is for {NAME}=traceidratio or parentbased_traceidratio, and it is {name}");
    }
    let sampler = match root {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio.unwrap_or(1.0)),
        _ => bail!(
            "{NAME}={name}: must be always_on, always_off or traceidratio, or one of them with parentbased_ before it"
        ),
    };
    Ok(if heeds_parent {
        (Sampler::ParentBased(Box::new(sampler)), true)
    } else {
        (sampler, false)
    })
}

/// Whether the caller's context is taken: baggage, the specification's other default, is looked at by nobody here.
fn takes_context(variables: &Variables) -> anyhow::Result<bool> {
    const NAME: &str = "OTEL_PROPAGATORS";
    let Some(text) = variables.text(NAME)? else {
        return Ok(true);
    };
    let mut takes = false;
    for name in text.split(',').map(str::trim) {
        match name {
            "tracecontext" => takes = true,
            "baggage" | "none" => {}
            other => bail!("{NAME}={other}: must be tracecontext, baggage or none"),
        }
    }
    Ok(takes)
}

/// How a signal is gathered, by the specification's variables and defaults. Its time for an export counts as well.
fn queue(
    variables: &Variables,
    of: &str,
    delay: Duration,
    otlp: &mut OtlpSettings,
) -> anyhow::Result<QueueSettings> {
    let most = variables
        .count(&format!("OTEL_{of}_MAX_QUEUE_SIZE"))?
        .unwrap_or(2048);
    let name = format!("OTEL_{of}_MAX_EXPORT_BATCH_SIZE");
    let batch = variables.count(&name)?;
    if let Some(batch) = batch.filter(|batch| *batch > most) {
        bail!("{name}={batch}: must be at most OTEL_{of}_MAX_QUEUE_SIZE, {most}");
    }
    if let Some(timeout) = variables.millis(&format!("OTEL_{of}_EXPORT_TIMEOUT"))? {
        otlp.timeout = otlp.timeout.min(timeout);
    }
    Ok(QueueSettings {
        most,
        batch: batch.unwrap_or(512).min(most),
        delay: variables
            .millis(&format!("OTEL_{of}_SCHEDULE_DELAY"))?
            .unwrap_or(delay),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    fn read(pairs: &[(&str, &str)]) -> Result<TelemetrySettings, String> {
        let pairs: Vec<_> = [ENDPOINT].iter().chain(pairs).copied().collect();
        TelemetrySettings::read(&Variables::of(&pairs)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_specification_s_defaults() {
        let settings = read(&[]).expect("settings");
        let traces = settings.traces.expect("traces");
        assert!(traces.heeds_parent && traces.takes_context);
        assert_eq!(
            format!("{:?}", traces.sampler),
            format!("{:?}", Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        );
        let queue = QueueSettings {
            most: 2048,
            batch: 512,
            delay: Duration::from_secs(5),
        };
        assert_eq!(traces.queue, queue);
        let delay = Duration::from_secs(1);
        assert_eq!(
            settings.logs.expect("logs").queue,
            QueueSettings { delay, ..queue }
        );
        assert_eq!(
            settings.metrics.expect("metrics").interval,
            Duration::from_mins(1)
        );
    }

    #[test]
    fn it_can_be_turned_off() {
        for pairs in [
            &[("OTEL_SDK_DISABLED", "true")][..],
            &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")],
        ] {
            let settings = read(pairs).expect("settings");
            assert!(settings.traces.is_none() && settings.logs.is_none(), "{pairs:?}");
        }
    }

    #[test]
    fn what_is_given_counts() {
        let settings = read(&[
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
            ("OTEL_PROPAGATORS", "none"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "2000"),
        ]);
        let traces = settings.expect("settings").traces.expect("traces");
        assert!(!traces.heeds_parent && !traces.takes_context);
        assert_eq!(
            format!("{:?}", traces.sampler),
            format!("{:?}", Sampler::TraceIdRatioBased(0.01))
        );
        assert_eq!((traces.queue.most, traces.queue.batch), (100, 100));
        assert_eq!(traces.queue.delay, Duration::from_millis(50));
        assert_eq!(traces.otlp.timeout, Duration::from_secs(2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER", "parentbased_"),
            ("OTEL_PROPAGATORS", "b3"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "-1"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ] {
            let error = read(&[(name, value)]).expect_err(value);
            assert!(error.starts_with(name), "{error}");
        }
        let error = read(&[
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ]);
        let error = error.expect_err("a ratio above 1");
        assert!(error.starts_with("OTEL_TRACES_SAMPLER_ARG"), "{error}");
        let error = read(&[("OTEL_TRACES_SAMPLER_ARG", "0.01")]).expect_err("no sampler that has a ratio");
        assert!(error.contains("OTEL_TRACES_SAMPLER="), "{error}");
    }
}
