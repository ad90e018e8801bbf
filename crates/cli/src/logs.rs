//! The log, which can't hurt: whoever logs never waits for stderr, and never hears that it is full or gone. Lines that
//! can't be written are dropped and counted.

use std::{
    fmt,
    io::{IsTerminal, Write},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tokio::time;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use super::reload::TARGET as RELOAD;
use chatledger::{
    config::LogFormat,
    metrics::metrics,
    telemetry::{TraceIds, trace_ids},
};

/// How many lines wait to be written: what a busy server says in some seconds at `debug`, in a few MiB.
const LINES: usize = 16_384;

/// How often it is looked whether lines were dropped.
const LOOK: Duration = Duration::from_secs(10);

/// How long the last words may take: a reader that is there takes them at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Crates that log what goes over the wire, contents and secrets included, below `info`.
const CAPPED: &[&str] = &[
    "tokio_postgres",
    "h2",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "tonic",
    "tower",
    "rustls",
    "refinery",
];

type SetFilter = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// What the log is filtered by. A clone is the same.
#[derive(Clone)]
pub(super) struct LogFilter(Arc<SetFilter>);

impl LogFilter {
    /// Logs by another filter from here on.
    pub(super) fn set(&self, filter: EnvFilter) -> anyhow::Result<()> {
        (self.0)(filter).context("the log's filter can't be changed")
    }
}

/// Crates that sending the log goes through: what they log in doing so isn't sent.
const SENDING: &[&str] = &[
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tonic",
    "tower",
];

/// The log of this process. Dropped, it writes what waits, for a second at most.
pub(super) struct Logs {
    dropped: ErrorCounter,
    filter: LogFilter,
    _writing: WorkerGuard,
}

impl Logs {
    /// Logs to stderr: what RUST_LOG says, or else `default`. Panics go to the log as well.
    pub(super) fn start(format: LogFormat, default: &str) -> Logs {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
        Logs::start_with(format, filter, None)
    }

    /// The same, where the filter is known, and the log is sent as well.
    pub(super) fn start_with(
        format: LogFormat,
        filter: EnvFilter,
        receiver: Option<&SdkLoggerProvider>,
    ) -> Logs {
        let (writer, writing) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES)
            .finish(std::io::stderr());
        let dropped = NonBlocking::error_counter(&writer);
        let (filter, handle) = reload::Layer::new(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(std::io::stderr().is_terminal())
            // It would tell stderr what can't be written, which panics where stderr is gone.
            .log_internal_errors(false);
        let lines = match format {
            LogFormat::Text => lines.event_format(TracedLines::Text(Format::default())).boxed(),
            LogFormat::Json => {
                let json = lines.json();
                json.event_format(TracedLines::Json(Format::default().json()))
                    .boxed()
            }
        };
        let sent = receiver
            .map(|receiver| OpenTelemetryTracingBridge::new(receiver).with_filter(filter_fn(is_sent)));
        tracing_subscriber::registry()
            .with(
                lines
                    .and_then(sent)
                    .with_filter(filter_fn(is_discreet))
                    .with_filter(filter.or(filter_fn(is_always_told))),
            )
            .init();
        std::panic::set_hook(Box::new(|panic| {
            metrics().panics.inc();
            tracing::error!("{panic}");
        }));
        Logs {
            dropped,
            filter: LogFilter(Arc::new(move |filter| handle.reload(filter))),
            _writing: writing,
        }
    }

    /// What it is filtered by.
    pub(super) fn filter(&self) -> LogFilter {
        self.filter.clone()
    }

    /// Says now and then how many lines were dropped. For ever.
    pub(super) fn tell_dropped(&self) -> impl Future<Output = ()> + use<> {
        let counter = self.dropped.clone();
        async move {
            let mut told = 0;
            loop {
                time::sleep(LOOK).await;
                let dropped = counter.dropped_lines();
                if dropped > told {
                    metrics().log_lines_dropped.inc_by((dropped - told) as u64);
                    tracing::warn!(
                        lines = dropped - told,
                        "the log could not be written fast enough: lines were dropped"
                    );
                    told = dropped;
                }
            }
        }
    }
}

/// Reads a filter.
///
/// # Errors
/// It isn't one; the error names its flag.
pub(super) fn parse_filter(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text).with_context(|| format!("--log-filter (RUST_LOG) {text}"))
}

/// Whether it is what nobody turns off: a record of the audit, or the answer to a SIGHUP, which may just have set the filter.
fn is_always_told(metadata: &Metadata<'_>) -> bool {
    matches!(metadata.target(), "audit" | RELOAD)
}

/// Whether what is logged there can't quote anybody.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !CAPPED.contains(&root)
}

/// Whether it is sent: what sending it says isn't, or one record would make the next.
fn is_sent(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    !SENDING.contains(&root)
}

/// Lines that say which span they are part of, where that one is sampled.
enum TracedLines {
    Text(Format),
    Json(Format<Json>),
}

impl<S, N> FormatEvent<S, N> for TracedLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(TraceIds { trace, span }) = trace_ids() else {
            return match self {
                TracedLines::Text(format) => format.format_event(context, writer, event),
                TracedLines::Json(format) => format.format_event(context, writer, event),
            };
        };
        let mut line = String::new();
        match self {
            TracedLines::Text(format) => {
                format.format_event(context, Writer::new(&mut line), event)?;
                writeln!(writer, "{} trace_id={trace} span_id={span}", line.trim_end())
            }
            TracedLines::Json(format) => {
                format.format_event(context, Writer::new(&mut line), event)?;
                let object = line.trim_end();
                let fields = object.strip_suffix('}').unwrap_or(object);
                writeln!(writer, r#"{fields},"trace_id":"{trace}","span_id":"{span}"}}"#)
            }
        }
    }
}

/// Says something on stderr at the end of the program, whether or not anybody takes it.
pub(super) fn last_words(text: String) {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        let _ = writeln!(std::io::stderr(), "{text}");
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(LAST_WORDS);
}
