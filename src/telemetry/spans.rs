//! The spans: of a request, of a statement, and of a batch, which has statements and belongs to many requests. Names and
//! attributes are those of OpenTelemetry's semantic conventions (1.45.0) where these have some; `docs/tracing.md` lists them.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use opentelemetry::{
    Context, ContextGuard, KeyValue,
    context::FutureExt,
    propagation::{Extractor, TextMapPropagator},
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceState, Tracer as _,
    },
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};
use tokio_postgres::config::Host;
use uuid::Uuid;

use super::TRACER;
use crate::metrics::rpc::StreamCounts;
use chatledger_postgres::DbError;

/// The metadata by which W3C's Trace Context says what a request belongs to.
const PARENT: &str = "traceparent";
/// What more the tracing systems on the way have to say.
const STATE: &str = "tracestate";
/// The least length of the first.
const PARENT_BYTES: usize = 55;
/// The most of the second that is carried along: as much as everybody has to, by that standard.
const MOST_STATE_BYTES: usize = 512;

/// Makes the spans of a process.
#[derive(Debug)]
pub(super) struct RequestTracer {
    pub(super) tracer: SdkTracer,
    pub(super) heeds_parent: bool,
    pub(super) takes_context: bool,
}

/// The context of a span that is sampled.
pub(crate) type SpanContextRef = Context;

/// The span under way here, where it is sampled.
pub(crate) fn current() -> Option<SpanContextRef> {
    TRACER.get()?;
    Context::map_current(|context| context.has_active_span().then(|| context.clone()))
}

/// A future that goes on in the span that is under way where it is made, also in another task. Boxed, since the compiler
/// lays out what a task holds down to its depth, which is deep enough without two cases of it.
pub(crate) fn carry<F: Future + Send + 'static>(future: F) -> BoxFuture<'static, F::Output> {
    match current() {
        Some(context) => Box::pin(future.with_context(context)),
        None => Box::pin(future),
    }
}

/// The ids of a span, as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceIds {
    /// The trace's.
    pub trace: String,
    /// The span's own.
    pub span: String,
}

/// The ids of the span under way here, where it is sampled: what is logged is part of it.
#[must_use]
pub fn trace_ids() -> Option<TraceIds> {
    TRACER.get()?;
    Context::map_current(|context| {
        context.has_active_span().then(|| {
            let span = context.span();
            let context = span.span_context();
            TraceIds {
                trace: context.trace_id().to_string(),
                span: context.span_id().to_string(),
            }
        })
    })
}

/// Notes which session a request is about, if its text is an id: nothing else that a client has written is noted.
pub(crate) fn note_conversation(session_id: &str) {
    if let Some(context) = current()
        && let Ok(id) = Uuid::try_parse(session_id)
    {
        let id = KeyValue::new("gen_ai.conversation.id", id.to_string());
        context.span().set_attribute(id);
    }
}

/// The span of a request, from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    context: SpanContextRef,
    is_over: bool,
    /// The messages of a stream, so far.
    counts: Option<Arc<StreamCounts>>,
}

impl RequestSpan {
    /// Begins the span of a request with these headers, where it is sampled.
    pub(crate) fn begin(headers: &HeaderMap) -> Option<Self> {
        let tracer = TRACER.get()?;
        let parent = if tracer.takes_context {
            parent(headers)
        } else {
            Context::new()
        };
        if tracer.heeds_parent && parent.has_active_span() && !parent.span().span_context().is_sampled() {
            return None;
        }
        let span = SpanBuilder::from_name("grpc").with_kind(SpanKind::Server);
        let span = tracer.tracer.build_with_context(span, &parent);
        span.is_recording().then(|| RequestSpan {
            context: Context::new().with_span(span),
            is_over: false,
            counts: None,
        })
    }

    /// Gives it its name, which is the method's, and what else is known of it.
    pub(crate) fn describe(
        &self,
        method: Option<&'static str>,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) {
        let span = self.context.span();
        if let Some(method) = method {
            span.update_name(method);
        }
        span.set_attributes([
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.unwrap_or("_OTHER")),
        ]);
        span.set_attributes(attributes);
    }

    /// Tells at its end what is counted there by then, of a stream.
    pub(crate) fn counted(&mut self, counts: Arc<StreamCounts>) {
        self.counts = Some(counts);
    }

    /// Does something in it.
    pub(crate) fn enter(&self) -> ContextGuard {
        self.context.clone().attach()
    }

    /// Does all of a future's work in it.
    pub(crate) fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.with_context(self.context.clone())
    }

    /// Ends it with a status: its name, and whether it says that something is wrong with the server.
    pub(crate) fn end(&mut self, code: &'static str, is_error: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let span = self.context.span();
        span.set_attribute(KeyValue::new("rpc.status_code", code));
        if is_error {
            span.set_attribute(KeyValue::new("error.type", code));
            span.set_status(Status::error(""));
        }
        if let Some(counts) = &self.counts {
            let attribute = |name: &'static str, counter: &AtomicU64| {
                let count = counter.load(Ordering::Relaxed);
                KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX))
            };
            span.set_attributes([
                attribute("chatledger.stream.messages_received", &counts.received),
                attribute("chatledger.stream.messages_sent", &counts.sent),
            ]);
        }
        span.end();
    }
}

impl Drop for RequestSpan {
    /// Nobody waits for the answer any more.
    fn drop(&mut self) {
        self.end("CANCELLED", false);
    }
}

/// The context of the span that a request comes from; an empty one, where it says nothing that can be read.
fn parent(headers: &HeaderMap) -> Context {
    let mut given = headers.get_all(PARENT).iter();
    match (given.next(), given.next()) {
        // The propagator takes shorter ids as well.
        (Some(parent), None) if parent.len() >= PARENT_BYTES => {}
        _ => return Context::new(),
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &RequestHeaders(headers))
}

struct RequestHeaders<'a>(&'a HeaderMap);

impl Extractor for RequestHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        (key != STATE || value.len() <= MOST_STATE_BYTES).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

/// What every statement's span has, of the database that all statements go to.
static DATABASE: OnceLock<Vec<KeyValue>> = OnceLock::new();

/// Says which database statements go to. Of several hosts, nobody knows here which one it is.
pub fn set_database(config: &tokio_postgres::Config) {
    let mut attributes = vec![KeyValue::new("db.system.name", "postgresql")];
    if let Some(name) = config.get_dbname() {
        attributes.push(KeyValue::new("db.namespace", name.to_owned()));
    }
    if let [host] = config.get_hosts() {
        let address = match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        attributes.push(KeyValue::new("server.address", address));
        if let ([port], Host::Tcp(_)) = (config.get_ports(), host) {
            attributes.push(KeyValue::new("server.port", i64::from(*port)));
        }
    }
    // The first one stays: a process serves one database.
    let _ = DATABASE.set(attributes);
}

/// The span of a statement.
#[derive(Debug)]
pub(crate) struct StatementSpan(Option<Box<Span>>);

impl StatementSpan {
    /// Begins one, where what it is run for is sampled. What the server does for nobody has none.
    pub(crate) fn begin(name: &'static str) -> Option<Self> {
        let (tracer, parent) = (TRACER.get()?, current()?);
        let mut attributes = DATABASE.get().cloned().unwrap_or_default();
        attributes.push(KeyValue::new("db.query.summary", name));
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_attributes(attributes);
        let span = tracer.tracer.build_with_context(span, &parent);
        Some(StatementSpan(Some(Box::new(span))))
    }

    /// Ends it.
    pub(crate) fn end(mut self, error: Option<&DbError>) {
        let Some(mut span) = self.0.take() else { return };
        if let Some(error) = error {
            let state = match error {
                DbError::Sql(error) | DbError::Stale(error) => {
                    error.code().map(|state| state.code().to_owned())
                }
                _ => None,
            };
            if let Some(state) = &state {
                span.set_attribute(KeyValue::new("db.response.status_code", state.clone()));
            }
            fail(&mut span, state.unwrap_or_else(|| kind(error).to_owned()));
        }
        span.end();
    }
}

impl Drop for StatementSpan {
    /// It was abandoned in the middle.
    fn drop(&mut self) {
        if let Some(mut span) = self.0.take() {
            fail(&mut span, "cancelled".to_owned());
            span.end();
        }
    }
}

fn fail(span: &mut Span, kind: String) {
    span.set_attribute(KeyValue::new("error.type", kind));
    span.set_status(Status::error(""));
}

/// The kind of a failure that PostgreSQL has said nothing about.
fn kind(error: &DbError) -> &'static str {
    match error {
        DbError::Busy => "pool_busy",
        DbError::Full => "database_full",
        DbError::Unavailable(_) => "database_unavailable",
        DbError::Sql(_) | DbError::Stale(_) if error.is_unavailable() => "connection_lost",
        DbError::Sql(_) | DbError::Stale(_) => "_OTHER",
    }
}

/// The span of a batch. It is part of the first sampled request in it, so that this one's trace goes on down to the statements,
/// and linked with all of them, both ways.
#[derive(Debug)]
pub(crate) struct BatchSpan {
    context: SpanContextRef,
}

/// Whether a batch took the slow path; part of the context of its span.
struct SlowPath(AtomicBool);

impl BatchSpan {
    /// Begins one for units with these spans, where any is sampled.
    pub(crate) fn begin<'a>(
        requests: impl IntoIterator<Item = Option<&'a SpanContextRef>>,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<Self> {
        let tracer = TRACER.get()?;
        // A stream has many units in a batch.
        let mut known = HashSet::new();
        let requests = requests.into_iter().flatten();
        let requests: Vec<&SpanContextRef> = requests
            .filter(|request| known.insert(request.span().span_context().span_id()))
            .collect();
        let first = requests.first()?;
        let links = requests
            .iter()
            .map(|request| Link::with_context(linked(request.span().span_context())));
        let span = SpanBuilder::from_name("append batch")
            .with_kind(SpanKind::Internal)
            .with_links(links.collect())
            .with_attributes(attributes());
        let span = tracer.tracer.build_with_context(span, first);
        for request in &requests {
            request.span().add_link(linked(span.span_context()), Vec::new());
        }
        let context = Context::new().with_value(SlowPath(AtomicBool::new(false)));
        Some(BatchSpan {
            context: context.with_span(span),
        })
    }

    /// Does a batch's work in its span, if it has one.
    pub(crate) async fn around<F: Future>(span: Option<Self>, work: Pin<&mut F>) -> F::Output {
        let Some(BatchSpan { context }) = span else {
            return work.await;
        };
        let output = work.with_context(context.clone()).await;
        let is_slow = context
            .get::<SlowPath>()
            .is_some_and(|path| path.0.load(Ordering::Relaxed));
        let path = if is_slow { "slow" } else { "fast" };
        let span = context.span();
        span.set_attribute(KeyValue::new("chatledger.append.path", path));
        span.end();
        output
    }
}

/// A span as a link names it: without what the systems on its way have said, of which a batch would hold a copy for each request.
fn linked(span: &SpanContext) -> SpanContext {
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
    SpanContext::new(trace, id, flags, false, TraceState::NONE)
}

/// Notes that the batch under way here takes the slow path.
pub(crate) fn note_slow_path() {
    if TRACER.get().is_some() {
        Context::map_current(|context| {
            if let Some(path) = context.get::<SlowPath>() {
                path.0.store(true, Ordering::Relaxed);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value")))
            .fold(
                HeaderMap::new(),
                |mut headers, (name, value): (http::HeaderName, _)| {
                    headers.append(name, value);
                    headers
                },
            )
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_caller_s_context_is_taken() {
        let context = parent(&headers(&[(PARENT, GOOD), (STATE, "vendor=1")]));
        let span = context.span();
        let of = span.span_context();
        assert_eq!(of.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(of.span_id().to_string(), "00f067aa0ba902b7");
        assert!(of.is_sampled() && of.is_remote());
        assert_eq!(of.trace_state().header(), "vendor=1");
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for malformed in [
            "",
            "00-1-2-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-and-more",
            "00-xyz92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let context = parent(&headers(&[(PARENT, malformed)]));
            assert!(!context.has_active_span(), "{malformed}");
        }
        let twice = parent(&headers(&[(PARENT, GOOD), (PARENT, GOOD)]));
        assert!(!twice.has_active_span());
        let state = format!("vendor={}", "x".repeat(MOST_STATE_BYTES));
        let long = parent(&headers(&[(PARENT, GOOD), (STATE, &state)]));
        assert!(long.has_active_span() && long.span().span_context().trace_state().header().is_empty());
    }
}
