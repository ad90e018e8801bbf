//! Telemetry by OTLP: spans of requests, statements and batches, and the log; [`settings`] says what of it there is, and
//! [`mod@otlp`] where it goes. Metrics are beside this, and go to the same place.
//!
//! A request's span is decided upon when the request comes, before anything is made of it. Where it is sampled, its context is
//! *attached* while the request is worked on, and statements, batches and log lines find it there ([`spans`]). Where it isn't,
//! nothing is attached, and all of those ask one thread-local variable and go on. That is why spans are made by OpenTelemetry's
//! own API, and not of `tracing`'s spans: these are made of every request, whether or not anybody wants them.

mod export;
pub mod otlp;
mod settings;
mod spans;
mod variables;

use std::{sync::OnceLock, thread, time::Duration};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Compression, LogExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    logs::{BatchConfigBuilder as LogBatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};

pub use export::ExportCounts;
pub use otlp::{OtlpSettings, Signal};
pub use settings::{LogSettings, MetricSettings, TelemetrySettings, TraceSettings};
pub(crate) use spans::{
    BatchSpan, RequestSpan, SpanContextRef, StatementSpan, carry, current, note_conversation, note_slow_path,
};
pub use spans::{TraceIds, set_database, trace_ids};
pub use variables::Variables;

use export::{BoundedLogs, BoundedSpans, CountedExporter, LOGS, SPANS};
use spans::RequestTracer;

/// How long the last spans and log records may take at the end: a receiver that is there takes them at once.
const FLUSH: Duration = Duration::from_secs(2);

/// Makes the spans of this process; not set: there are none.
static TRACER: OnceLock<RequestTracer> = OnceLock::new();

/// What sends spans and log records, until it is shut down.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Starts what the settings say, in a runtime, which connections to receivers belong to. Once in a process: its spans are
    /// those of the whole process.
    ///
    /// # Errors
    /// Certificates that can't be used.
    pub fn start(settings: &TelemetrySettings) -> anyhow::Result<Telemetry> {
        let resource = &settings.resource;
        let traces = settings.traces.as_ref();
        let traces = traces.map(|traces| start_traces(traces, resource)).transpose()?;
        let logs = settings.logs.as_ref();
        let logs = logs.map(|logs| start_logs(logs, resource)).transpose()?;
        Ok(Telemetry { traces, logs })
    }

    /// What takes log records; `None`: nothing does.
    #[must_use]
    pub fn logs(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }

    /// Sends what waits, for a moment at most. Not in a runtime: it blocks, and needs the one that it was started in.
    pub fn shut_down(self) {
        let traces = self
            .traces
            .map(|traces| thread::spawn(move || traces.shutdown_with_timeout(FLUSH)));
        let logs = self
            .logs
            .map(|logs| thread::spawn(move || logs.shutdown_with_timeout(FLUSH)));
        for ended in [traces, logs].into_iter().flatten() {
            // What couldn't be sent is counted, and nobody waits for it any more.
            let _ = ended.join();
        }
    }
}

/// What became of this process' spans.
#[must_use]
pub fn span_counts() -> ExportCounts {
    SPANS.read()
}

/// What became of this process' log records, as far as they were to be sent.
#[must_use]
pub fn log_counts() -> ExportCounts {
    LOGS.read()
}

/// An exporter to be, of either signal, that sends as the settings say.
fn sent_to<B: WithTonicConfig + WithExportConfig>(otlp: &OtlpSettings, exporter: B) -> anyhow::Result<B> {
    let exporter = exporter
        .with_channel(otlp.channel()?)
        .with_metadata(otlp.headers.clone())
        .with_timeout(otlp.timeout);
    Ok(if otlp.gzip {
        exporter.with_compression(Compression::Gzip)
    } else {
        exporter
    })
}

fn start_traces(settings: &TraceSettings, resource: &Resource) -> anyhow::Result<SdkTracerProvider> {
    let exporter = sent_to(&settings.otlp, SpanExporter::builder().with_tonic())?;
    let queue = settings.queue;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(queue.most)
        .with_max_export_batch_size(queue.batch)
        .with_scheduled_delay(queue.delay)
        .build();
    let inner = BatchSpanProcessor::builder(CountedExporter::new(exporter.build()?, "traces", &SPANS))
        .with_batch_config(config)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(settings.sampler.clone())
        .with_span_processor(BoundedSpans {
            inner,
            most: queue.most,
        })
        .build();
    let tracer = RequestTracer {
        tracer: provider.tracer("chatledger"),
        heeds_parent: settings.heeds_parent,
        takes_context: settings.takes_context,
    };
    anyhow::ensure!(TRACER.set(tracer).is_ok(), "telemetry was started twice");
    Ok(provider)
}

fn start_logs(settings: &LogSettings, resource: &Resource) -> anyhow::Result<SdkLoggerProvider> {
    let exporter = sent_to(&settings.otlp, LogExporter::builder().with_tonic())?;
    let queue = settings.queue;
    let config = LogBatchConfigBuilder::default()
        .with_max_queue_size(queue.most)
        .with_max_export_batch_size(queue.batch)
        .with_scheduled_delay(queue.delay)
        .build();
    let inner = BatchLogProcessor::builder(CountedExporter::new(exporter.build()?, "logs", &LOGS))
        .with_batch_config(config)
        .build();
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(BoundedLogs {
            inner,
            most: queue.most,
        })
        .build())
}
