//! The layer around every RPC, outermost first: a log line, admission, the deadline, and details on errors
//! that the gRPC library made.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{Service as ServiceOptions, answer, intake::Intake};
use crate::{
    api::{Deadline, status::complete},
    domain::Error,
    memory::{Charge, Memory},
};

/// The RPCs whose responses have no end of their own.
const STREAMS: [&str; 2] = [
    "/chatledger.v1.MessageService/StreamAppendMessages",
    "/chatledger.v1.MessageService/WatchMessages",
];

/// Adds a [`Front`] to the services.
#[derive(Clone)]
pub(super) struct FrontLayer(Arc<Limits>);

struct Limits {
    /// One for each request at a time that isn't a stream.
    requests: Arc<Semaphore>,
    /// One for each stream at a time, for all its life: streams are long, and cheap while nothing happens.
    streams: Arc<Semaphore>,
    request_timeout: Duration,
    max_request_bytes: usize,
    intake: Arc<Intake>,
    memory: Memory,
}

impl FrontLayer {
    pub(super) fn new(service: &ServiceOptions, intake: Intake) -> Self {
        FrontLayer(Arc::new(Limits {
            intake: Arc::new(intake),
            memory: service.memory.clone(),
            requests: permits(service.max_requests),
            streams: permits(service.max_streams),
            request_timeout: service.request_timeout,
            max_request_bytes: service.limits.max_request_bytes,
        }))
    }
}

fn permits(most: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Front {
            inner,
            limits: Arc::clone(&self.0),
        }
    }
}

/// The services, with what every request goes through.
#[derive(Clone)]
pub(super) struct Front<S> {
    inner: S,
    limits: Arc<Limits>,
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
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let limits = Arc::clone(&self.limits);
        if !request.uri().path().starts_with("/chatledger.") {
            // Health and reflection answer however busy the server is, and their streams have no end.
            return Box::pin(inner.call(request));
        }
        Box::pin(async move {
            let began = Instant::now();
            let path = request.uri().path().to_owned();
            let response = limits.answer(inner, request, began).await?;
            let response = limits.with_details(response);
            let code = response
                .headers()
                .get("grpc-status")
                .map(|code| Code::from_bytes(code.as_bytes()));
            tracing::debug!(rpc = path, code = ?code.unwrap_or(Code::Ok), elapsed = ?began.elapsed(), "answered");
            Ok(response)
        })
    }
}

impl Limits {
    async fn answer<S>(
        &self,
        mut inner: S,
        request: Request<Body>,
        began: Instant,
    ) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let is_stream = STREAMS.contains(&request.uri().path());
        let (permits, refusal) = if is_stream {
            (&self.streams, "the server has as many streams as it can hold")
        } else {
            (&self.requests, "the server has as many requests as it can hold")
        };
        let timeout = match client_timeout(request.headers()) {
            Some(timeout) => timeout.saturating_sub(ahead(timeout)).min(self.request_timeout),
            None => self.request_timeout,
        };
        let deadline = began + timeout;
        // Before the permit: a request that isn't there yet denies nobody anything.
        let mut received = match self.intake.receive(request, deadline).await {
            Ok(received) => received,
            Err(status) => return Ok(status.into_http()),
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            return Ok(Status::from(Error::Overloaded(refusal)).into_http());
        };
        received.request.extensions_mut().insert(Deadline(deadline));
        let holder = received.charge.holder();
        let path = received.request.uri().path().to_owned();
        let room = match answer::take(&self.memory, &path, holder, deadline).await {
            Ok(room) => room,
            Err(error) => return Ok(Status::from(error).into_http()),
        };
        match time::timeout_at(deadline, inner.call(received.request)).await {
            Ok(response) if is_stream => Ok(response?.map(|body| holding((permit, received.charge), body))),
            Ok(response) => Ok(answer::finish(response?, room, received.charge).await),
            Err(_) => Ok(Status::from(Error::DeadlineExceeded).into_http()),
        }
    }

    /// A response whose error, if it is one, has details.
    fn with_details(&self, response: Response<Body>) -> Response<Body> {
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
                complete(status, self.max_request_bytes).into_http()
            }
            _ => response,
        }
    }
}

/// A body that has something until its end.
fn holding(held: (OwnedSemaphorePermit, Charge), body: Body) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &held;
        frame
    }))
}

/// How much before the client's deadline the server gives up, so that the client hears why.
fn ahead(timeout: Duration) -> Duration {
    (timeout / 20).min(Duration::from_millis(10))
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
