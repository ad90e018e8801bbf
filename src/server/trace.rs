//! The spans of requests, as the front makes them: what a request's head says of it, and how it ends. A request that isn't
//! sampled goes through untouched.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use opentelemetry::KeyValue;
use tonic::{Code, Status, body::Body};

use super::link::Link;
use crate::{auth::methods, metrics::rpc::CallMeter, telemetry::RequestSpan};

/// The most bytes of a host's name: it is the client's text.
const MOST_HOST_BYTES: usize = 255;

/// Begins the span of a request, where it is sampled; it tells what `meter` counts of a stream's messages.
pub(super) fn begin(
    request: &Request<Body>,
    meter: &mut CallMeter,
    is_stream: impl FnOnce(&str) -> bool,
) -> Option<RequestSpan> {
    let mut span = RequestSpan::begin(request.headers())?;
    let path = request.uri().path();
    let method = methods::rules().find(|rule| rule.path == path);
    let method = method.and_then(|rule| rule.path.strip_prefix('/'));
    span.describe(method, attributes(request));
    if is_stream(path) {
        span.counted(meter.counts());
    }
    Some(span)
}

/// Answers a request in its span, which ends with the answer.
pub(super) async fn follow<E>(
    mut span: RequestSpan,
    answer: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    let response = span.around(answer).await?;
    if let Some(status) = response.headers().get("grpc-status") {
        end(&mut span, Code::from_bytes(status.as_bytes()));
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(TracedBody { body, span })))
}

/// What a request's head says of where it comes from, and where it went.
fn attributes(request: &Request<Body>) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    let authority = request.uri().authority();
    if let Some(authority) = authority.filter(|authority| authority.host().len() <= MOST_HOST_BYTES) {
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        attributes.push(KeyValue::new("server.address", host));
        if let Some(port) = authority.port_u16() {
            attributes.push(KeyValue::new("server.port", i64::from(port)));
        }
    }
    let link = request.extensions().get::<Arc<Link>>();
    if let Some(peer) = link.and_then(|link| link.peer()) {
        attributes.push(KeyValue::new("network.peer.address", peer.ip().to_string()));
        attributes.push(KeyValue::new("network.peer.port", i64::from(peer.port())));
    }
    attributes
}

/// Ends a span with a status. Which ones are the server's fault, and which are the caller's or nobody's, is the convention's
/// to say.
fn end(span: &mut RequestSpan, code: Code) {
    let (name, is_error) = match code {
        Code::Ok => ("OK", false),
        Code::Cancelled => ("CANCELLED", false),
        Code::Unknown => ("UNKNOWN", true),
        Code::InvalidArgument => ("INVALID_ARGUMENT", false),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", true),
        Code::NotFound => ("NOT_FOUND", false),
        Code::AlreadyExists => ("ALREADY_EXISTS", false),
        Code::PermissionDenied => ("PERMISSION_DENIED", false),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", false),
        Code::FailedPrecondition => ("FAILED_PRECONDITION", false),
        Code::Aborted => ("ABORTED", false),
        Code::OutOfRange => ("OUT_OF_RANGE", false),
        Code::Unimplemented => ("UNIMPLEMENTED", true),
        Code::Internal => ("INTERNAL", true),
        Code::Unavailable => ("UNAVAILABLE", true),
        Code::DataLoss => ("DATA_LOSS", true),
        Code::Unauthenticated => ("UNAUTHENTICATED", false),
    };
    span.end(name, is_error);
}

/// An answer, made in the span of its request, which ends with it.
struct TracedBody {
    body: Body,
    span: RequestSpan,
}

impl http_body::Body for TracedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = {
            let _in_span = self.span.enter();
            Pin::new(&mut self.body).poll_frame(cx)
        };
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    end(&mut self.span, code_of(trailers));
                }
            }
            Some(Err(status)) => end(&mut self.span, status.code()),
            // Without trailers nobody knows how it ended.
            None => end(&mut self.span, Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code_of(trailers: &HeaderMap) -> Code {
    trailers
        .get("grpc-status")
        .map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()))
}
