//! The spans of requests, as the front makes them: what a request's head says of it, how it ends, and how many messages a stream
//! had until then. A request that isn't sampled goes through untouched.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use opentelemetry::KeyValue;
use tonic::{Code, Status, body::Body};

use super::link::Link;
use crate::{
    auth::methods,
    telemetry::{RequestSpan, StreamCounts},
};

/// The most bytes of a host's name: it is the client's text.
const MOST_HOST_BYTES: usize = 255;

/// Begins the span of a request, where it is sampled; the messages of a stream are counted then.
pub(super) fn begin(
    request: Request<Body>,
    is_stream: impl FnOnce(&str) -> bool,
) -> (Option<RequestSpan>, Request<Body>) {
    let Some(mut span) = RequestSpan::begin(request.headers()) else {
        return (None, request);
    };
    let path = request.uri().path();
    let method = methods::rules().find(|rule| rule.path == path);
    let method = method.and_then(|rule| rule.path.strip_prefix('/'));
    span.describe(method, attributes(&request));
    if !is_stream(path) {
        return (Some(span), request);
    }
    let counts = span.count();
    let request = request.map(|body| {
        Body::new(CountedBody {
            body,
            messages: FrameCounter::default(),
            counts,
        })
    });
    (Some(span), request)
}

/// Answers a request in its span, which ends with the answer.
pub(super) fn follow<F, E>(
    span: Option<RequestSpan>,
    answer: F,
) -> impl Future<Output = Result<Response<Body>, E>>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    let Some(mut span) = span else {
        return Either::Left(answer);
    };
    Either::Right(async move {
        let response = span.around(answer).await?;
        if let Some(status) = response.headers().get("grpc-status") {
            end(&mut span, Code::from_bytes(status.as_bytes()));
            return Ok(response);
        }
        let counts = span.counts();
        Ok(response.map(|body| {
            Body::new(TracedBody {
                body,
                span,
                messages: FrameCounter::default(),
                counts,
            })
        }))
    })
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
    messages: FrameCounter,
    counts: Option<Arc<StreamCounts>>,
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
                let this = &mut *self;
                if let (Some(counts), Some(data)) = (&this.counts, frame.data_ref()) {
                    this.messages.count(data, &counts.sent);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    end(&mut this.span, code_of(trailers));
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

/// A stream of requests, whose messages are counted.
struct CountedBody {
    body: Body,
    messages: FrameCounter,
    counts: Arc<StreamCounts>,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let this = &mut *self;
            this.messages.count(data, &this.counts.received);
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

/// Where a stream of bytes is in gRPC's framing: five bytes, of which four say how many follow.
#[derive(Debug, Default)]
struct FrameCounter {
    header: [u8; 5],
    /// How many of them are there.
    filled: usize,
    /// How many bytes of the message are still to come.
    left: usize,
}

impl FrameCounter {
    /// Counts the messages that begin in these bytes, as soon as their length is known.
    fn count(&mut self, mut data: &[u8], counter: &AtomicU64) {
        while !data.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(data.len());
                self.left -= skipped;
                data = &data[skipped..];
                continue;
            }
            let taken = (self.header.len() - self.filled).min(data.len());
            let (head, rest) = data.split_at(taken);
            self.header[self.filled..self.filled + taken].copy_from_slice(head);
            self.filled += taken;
            data = rest;
            if self.filled == self.header.len() {
                let [_, a, b, c, d] = self.header;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.filled = 0;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut bytes = Vec::new();
        for length in [0_u8, 3, 0, 200] {
            bytes.extend([0, 0, 0, 0, length]);
            bytes.extend(std::iter::repeat_n(7, usize::from(length)));
        }
        for size in [1, 2, 5, 7, bytes.len()] {
            let (mut messages, counter) = (FrameCounter::default(), AtomicU64::new(0));
            for part in bytes.chunks(size) {
                messages.count(part, &counter);
            }
            assert_eq!(counter.into_inner(), 4, "{size} bytes at a time");
        }
    }
}
