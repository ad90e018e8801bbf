//! The layer around every RPC, outermost first: a log line, admission, the deadline, and details on errors
//! that the gRPC library made.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    ServerSetup, answer,
    body::{BodyTimeout, holding_body, panic_status},
    guard::{CallHead, Guard},
    intake::{self, Intake},
    link::{Link, OpenCall},
    meter::{metered_answer, metered_request},
    trace,
};
use crate::{
    api::{Deadline, PeerAddress, status::complete},
    auth::Principal,
    deadline,
    domain::{Error, Shortage},
    fair::{FairPool, Holder, Lease},
    memory::MemoryBudget,
    metrics::{metrics, rpc::CallMeter},
    rates::{RateKey, RateLimits},
};

/// How long a request waits for others to end, before it is told to come back: longer than connections that take no
/// answers are let have what it waits for (see `server::link`), and shorter than a lock is waited for.
const PERMIT_WAIT: Duration = Duration::from_secs(4);
/// The most calls of health and reflection at a time, which have no other limit. A prober has one or two, and each
/// takes some KiB for as long as it lasts.
const MOST_PROBES: usize = 2048;

/// The most bytes of a message to health or reflection: a service's or a symbol's name, which has some hundreds at most.
pub(super) const MOST_PROBED: usize = 4 << 10;

/// Adds a [`Front`] to the services.
#[derive(Clone)]
pub(super) struct FrontLayer(Arc<Admission>);

struct Admission {
    /// One for each request at a time that isn't a stream.
    requests: FairPool<1>,
    /// One for each stream at a time, for all its life: streams are long, and cheap while nothing happens.
    streams: FairPool<1>,
    /// One for each call of health and reflection.
    probes: FairPool<1>,
    request_timeout: Duration,
    max_request_bytes: usize,
    read_timeout: Duration,
    guard: Arc<Guard>,
    intake: Arc<Intake>,
    memory: MemoryBudget,
    /// What each caller and tenant may do.
    rates: RateLimits,
    /// Becomes true when the time that requests had to end after a stop is over.
    is_over: watch::Receiver<bool>,
}

impl FrontLayer {
    /// Whether requests wait for what others hold.
    pub(super) fn is_short(&self) -> bool {
        let Admission {
            requests,
            streams,
            memory,
            ..
        } = &*self.0;
        requests.is_contended() || streams.is_contended() || memory.is_contended()
    }

    pub(super) fn new(setup: &ServerSetup, intake: Intake, is_over: watch::Receiver<bool>) -> Self {
        FrontLayer(Arc::new(Admission {
            guard: Arc::new(Guard::new(setup.access.clone())),
            intake: Arc::new(intake),
            memory: setup.memory.clone(),
            rates: setup.rates.clone(),
            requests: permits(setup.max_requests),
            streams: permits(setup.max_streams),
            probes: permits(MOST_PROBES),
            request_timeout: setup.request_timeout,
            max_request_bytes: setup.limits.max_request_bytes,
            read_timeout: setup.read_timeout,
            is_over,
        }))
    }
}

/// Permits of which a connection alone gets so many, and all together twice as many.
fn permits(most: usize) -> FairPool<1> {
    FairPool::new([most.saturating_mul(2)])
}

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Front {
            inner,
            admission: Arc::clone(&self.0),
        }
    }
}

/// The services, with what every request goes through.
#[derive(Clone)]
pub(super) struct Front<S> {
    inner: S,
    admission: Arc<Admission>,
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that poll_ready was asked about does the work; its clone stays.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let admission = Arc::clone(&self.admission);
        if let Some(refusal) = not_grpc(&request) {
            return Box::pin(async move { Ok(refusal) });
        }
        if !request.uri().path().starts_with("/chatledger.") {
            return Box::pin(async move {
                let meter = metrics().rpc.begin(request.uri().path());
                let request = metered_request(request, meter.request());
                let response = admission.probe(inner, request).await?;
                Ok(metered_answer(with_details(response, MOST_PROBED), meter))
            });
        }
        let mut meter = metrics().rpc.begin(request.uri().path());
        let span = trace::begin(&request, &mut meter, |path| admission.intake.is_stream(path));
        let answered = async move {
            let began = Instant::now();
            let path = request.uri().path().to_owned();
            let request = metered_request(request, meter.request());
            let mut is_over = admission.is_over.clone();
            let response = tokio::select! {
                response = admission.answer(inner, request, began, &mut meter) => response?,
                // An error is the sender's end, which is the server's.
                _ = is_over.wait_for(|is_over| *is_over) => Status::from(Error::ShuttingDown).into_http(),
            };
            let response = with_details(response, admission.max_request_bytes);
            let code = response
                .headers()
                .get("grpc-status")
                .map(|code| Code::from_bytes(code.as_bytes()));
            tracing::debug!(rpc = path, code = ?code.unwrap_or(Code::Ok), elapsed = ?began.elapsed(), "answered");
            Ok(metered_answer(response, meter))
        };
        match span {
            Some(span) => Box::pin(trace::follow(span, Box::pin(answered))),
            None => Box::pin(answered),
        }
    }
}

impl Admission {
    async fn answer<S>(
        &self,
        mut inner: S,
        mut request: Request<Body>,
        began: Instant,
        meter: &mut CallMeter,
    ) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let is_stream = self.intake.is_stream(request.uri().path());
        let call = open_call(&request);
        let (permits, refusal) = if is_stream {
            (&self.streams, Shortage::Streams)
        } else {
            (&self.requests, Shortage::Requests)
        };
        let timeout = match client_timeout(request.headers()) {
            Some(timeout) => deadline::CLIENT.within(timeout).min(self.request_timeout),
            None => self.request_timeout,
        };
        let deadline = began + timeout;
        // Before anything is taken or read.
        let head = CallHead::of(&request);
        let principal = match self.admit(&head, deadline).await {
            Ok(principal) => principal,
            Err(error) => return Ok(Status::from(error).into_http()),
        };
        meter.called_by(principal.kind);
        let holder = intake::holder(request.extensions());
        let holder = self.guard.holder(&principal, holder);
        request.extensions_mut().insert(holder);
        let mut rates = match self.rates.admit(&rate_key(&request, &principal, is_stream)) {
            Ok(lease) => lease,
            Err(error) => return Ok(Status::from(error).into_http()),
        };
        request.extensions_mut().insert(Arc::clone(&principal));
        request.extensions_mut().insert(PeerAddress(head.peer));
        // Before the permit: a request that isn't there yet denies nobody anything.
        let mut received = match self.intake.receive(request, deadline).await {
            Ok(received) => received,
            Err(status) => return Ok(status.into_http()),
        };
        if let Err(error) = rates.hold(received.charge.bytes()) {
            return Ok(Status::from(error).into_http());
        }
        let holder = received.charge.holder();
        let path = received.request.uri().path().to_owned();
        // Before the permit as well: whoever waits for memory denies nobody anything.
        let room = match answer::take(&self.memory, &path, holder, deadline).await {
            Ok(room) => room,
            Err(error) => return Ok(Status::from(error).into_http()),
        };
        let Some(permit) = permit(permits, holder, deadline).await else {
            return Ok(Status::from(Error::Overloaded(refusal)).into_http());
        };
        received.request.extensions_mut().insert(Deadline(deadline));
        let called = catch_panic(&path, async {
            let response = inner.call(received.request).await?;
            Ok(if is_stream {
                MethodAnswer::Stream(response)
            } else {
                MethodAnswer::Unary(answer::collect(response).await)
            })
        });
        let answer = match time::timeout_at(deadline, called).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(status)) => return Ok(status.into_http()),
            Err(_) => return Ok(Status::from(Error::DeadlineExceeded).into_http()),
        };
        Ok(match answer {
            MethodAnswer::Stream(response) => {
                let refused = Arc::clone(&self.guard).refused_later(head, principal);
                let owned = (permit, received.charge, rates);
                holding_body(owned, call, path, response).until(async { refused.await.into() })
            }
            MethodAnswer::Unary(collected) => {
                let untaken = call.as_ref().map(OpenCall::handed_over);
                answer::finish(collected, room, received.charge, (permit, rates, untaken, call))
            }
        })
    }

    /// Who calls, where that caller may call this.
    async fn admit(&self, head: &CallHead, deadline: Instant) -> Result<Arc<Principal>, Error> {
        let admitted = time::timeout_at(deadline, self.guard.admit(head)).await;
        admitted.unwrap_or(Err(Error::DeadlineExceeded))
    }

    /// Answers health and reflection, however busy the server is; and that there is nothing else.
    async fn probe<S>(&self, mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let Some(permit) = self.probes.try_take(intake::holder(request.extensions()), [1]) else {
            let status = Status::from(Error::Overloaded(Shortage::Probes));
            return Ok(status.into_http());
        };
        let call = open_call(&request);
        let head = CallHead::of(&request);
        let admitted = time::timeout(self.request_timeout, self.guard.admit_probe(&head)).await;
        if let Err(error) = admitted.unwrap_or(Err(Error::DeadlineExceeded)) {
            return Ok(Status::from(error).into_http());
        }
        let path = request.uri().path().to_owned();
        // Reflection has a stream of questions, which isn't over as long as they come.
        let timeout = BodyTimeout::new(self.read_timeout, path.starts_with("/grpc.reflection."));
        let request = request.map(|body| timeout.body(body));
        let response = match catch_panic(&path, async { inner.call(request).await }).await {
            Ok(response) => response?,
            Err(status) => return Ok(status.into_http()),
        };
        // The headers of an error end its stream.
        if response.headers().contains_key("grpc-status") {
            return Ok(response);
        }
        Ok(holding_body(permit, call, path, response).unlimited())
    }
}

/// The result of a future, or INTERNAL where it panics.
#[allow(clippy::result_large_err)] // a status is what a call ends with
async fn catch_panic<F: Future>(rpc: &str, future: F) -> Result<F::Output, Status> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| panic_status(rpc, &panic))
}

/// A response whose error, if it is one, has details.
fn with_details(response: Response<Body>, max_request_bytes: usize) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
            complete(status, max_request_bytes).into_http()
        }
        _ => response,
    }
}

/// The answer of a method.
enum MethodAnswer {
    Stream(Response<Body>),
    Unary(answer::CollectedAnswer),
}

/// A permit of a connection's share, as soon as there is one within a moment and the deadline.
async fn permit(permits: &FairPool<1>, holder: Holder, deadline: Instant) -> Option<Lease<1>> {
    let until = deadline.min(Instant::now() + PERMIT_WAIT);
    time::timeout_at(until, permits.take(holder, [1])).await.ok()
}

/// The answer to what isn't gRPC: it has no status that its sender would read.
fn not_grpc(request: &Request<Body>) -> Option<Response<Body>> {
    let content_type = request
        .headers()
        .get("content-type")
        .map(http::HeaderValue::as_bytes);
    // application/grpc, +proto or ;parameters, but not application/grpc-web.
    let rest = content_type.and_then(|text| text.strip_prefix(b"application/grpc"));
    let code = if request.method() != http::Method::POST {
        http::StatusCode::METHOD_NOT_ALLOWED
    } else if rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' '))) {
        return None;
    } else {
        http::StatusCode::UNSUPPORTED_MEDIA_TYPE
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    if code == http::StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert("allow", http::HeaderValue::from_static("POST"));
    }
    Some(response)
}

/// The call, as one of its connection's.
fn open_call(request: &Request<Body>) -> Option<OpenCall> {
    request.extensions().get::<Arc<Link>>().map(OpenCall::new)
}

/// Whose limits count for a request.
fn rate_key<'a>(request: &'a Request<Body>, principal: &Principal, is_stream: bool) -> RateKey<'a> {
    RateKey {
        tenant: Arc::clone(&principal.tenant),
        caller: Arc::clone(&principal.name),
        method: request.uri().path().rsplit('/').next().unwrap_or_default(),
        is_stream,
    }
}

/// The `grpc-timeout` header: at most eight digits and a unit.
fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a header"));
            client_timeout(&headers)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        for text in ["", "S", "123456789S", "-1S", "5", "5s", "é"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
