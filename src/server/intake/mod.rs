//! The intake: every request's body passes through it before the gRPC library sees any of it.
//!
//! It reads whole messages within a time of their own, unpacks them into no more than a request may have, walks them
//! ([`scan`]) before anything is built, and takes what they are and will be from the memory budget. What it hands
//! on are messages that aren't compressed and can be decoded, so that the library has nothing to refuse.
//!
//! Charged are two copies of a message (the intake's and the library's; later, what the lane encodes), and what it
//! is built into.

mod message;
mod scan;
mod shape;

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use http::{Extensions, HeaderMap, Request};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use self::{
    message::{ArrivingBody, Packing, RequestMessages},
    shape::{ContractMethod, Shapes},
};
use super::link::Link;
use crate::{
    api::Charges,
    domain::{Error, Limits},
    fair::Holder,
    memory::{Charge, MemoryBudget},
};
use chatledger_protocol::DESCRIPTORS;

/// The memory of a call besides its messages: HTTP/2's state of it, its task, its headers, and the library's buffer of 8
/// KiB, which short messages are encoded into.
pub(super) const CALL_BYTES: usize = 8 << 10;
/// The same memory for a stream of entries, which has a second task, and a queue.
const STREAM_BYTES: usize = 12 << 10;

/// The most bytes that a request may become, in multiples of the largest request: a frame of 4,096 entries with 100
/// short citations each, which is allowed, becomes 60 MiB.
const BUILT: usize = 8;

/// The reader of requests.
pub(super) struct Intake {
    shapes: Shapes,
    memory: MemoryBudget,
    max_request_bytes: usize,
    read_timeout: Duration,
}

/// A request that has been read, or is being read as a stream, and what it holds until its call is over.
pub(super) struct ReceivedRequest {
    pub(super) request: Request<Body>,
    pub(super) charge: Charge,
}

impl Intake {
    /// # Errors
    /// None: the descriptors are the program's own.
    pub(super) fn new(
        limits: &Limits,
        memory: &MemoryBudget,
        read_timeout: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Intake {
            shapes: Shapes::read(DESCRIPTORS, limits)?,
            memory: memory.clone(),
            max_request_bytes: limits.max_request_bytes,
            read_timeout,
        })
    }

    /// Whether a method's client or the server may send for as long as it likes, by the contract. False for a method that
    /// the contract doesn't have.
    pub(super) fn is_stream(&self, path: &str) -> bool {
        let method = self.shapes.method(path);
        method.is_some_and(|method| method.client_streams || method.server_streams)
    }

    /// Reads a unary call's message; a stream's are read as they are asked for.
    // A status is what a call ends with.
    #[allow(clippy::result_large_err)]
    pub(super) async fn receive(
        self: &Arc<Self>,
        mut request: Request<Body>,
        deadline: Instant,
    ) -> Result<ReceivedRequest, Status> {
        let holder = holder(request.extensions());
        request.extensions_mut().insert(holder);
        let method = self.shapes.method(request.uri().path());
        let is_stream = method.is_some_and(|method| method.client_streams);
        let bytes = if is_stream { STREAM_BYTES } else { CALL_BYTES };
        let call = self.memory.take_soon(holder, bytes, Some(deadline)).await?;
        let Some(method) = method else {
            // The library says that there is no such method, and reads nothing.
            return Ok(ReceivedRequest {
                request,
                charge: call,
            });
        };
        let packing = packing(request.headers())?;
        let link = request.extensions().get::<Arc<Link>>().cloned();
        let (mut parts, body) = request.into_parts();
        let body = ArrivingBody { body, link };
        // What is handed on isn't packed.
        parts.headers.remove("grpc-encoding");
        let messages = RequestMessages::new(Arc::clone(self), method, packing, holder, body);
        if is_stream {
            let charges = Charges::default();
            parts.extensions.insert(charges.clone());
            let body = stream_body(messages, charges);
            let request = Request::from_parts(parts, body);
            return Ok(ReceivedRequest {
                request,
                charge: call,
            });
        }
        let until = deadline.min(Instant::now() + self.read_timeout);
        let (bytes, mut charge) = messages.only(until).await?;
        charge.join(call);
        let request = Request::from_parts(parts, Body::new(Full::new(bytes)));
        Ok(ReceivedRequest { request, charge })
    }

    fn scan(&self, method: ContractMethod, message: &[u8]) -> Result<usize, Error> {
        let rules = scan::ScanRules {
            most_built: (self.max_request_bytes * BUILT).min(self.memory.largest()),
            own_lists_only: method.client_streams,
        };
        scan::scan(&self.shapes, method.input, message, rules)
    }
}

/// A body that has the messages, one after the other. Who takes them finds the charge of each in `charges`.
fn stream_body(messages: RequestMessages, charges: Charges) -> Body {
    let frames = stream::unfold(Some((messages, charges)), |state| async {
        let (mut messages, charges) = state?;
        match messages.next().await {
            Ok(Some(some)) => {
                charges.put(some.count, some.charge);
                Some((Ok(Frame::data(some.bytes)), Some((messages, charges))))
            }
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    Body::new(StreamBody::new(frames))
}

/// The connection that a request came by, as the server has numbered it, in the group of its tenant once that is known.
pub(super) fn holder(extensions: &Extensions) -> Holder {
    let known = extensions.get::<Holder>().copied();
    let link = || extensions.get::<Arc<Link>>().map(|link| link.holder());
    known.or_else(link).unwrap_or_default()
}

/// How the messages of a request are packed.
#[allow(clippy::result_large_err)]
fn packing(headers: &HeaderMap) -> Result<Packing, Status> {
    match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Packing::None),
        Some(b"gzip") => Ok(Packing::Gzip),
        Some(_) => {
            let mut status =
                Status::unimplemented("the server reads messages that are packed with gzip, or not packed");
            let value = tonic::metadata::MetadataValue::from_static("identity,gzip");
            status.metadata_mut().insert("grpc-accept-encoding", value);
            Err(status)
        }
    }
}

/// Walks a message as if it had come, for a fuzzer. What is let through can be decoded.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed_frame(bytes: &[u8]) {
    use prost::Message as _;
    static SHAPES: std::sync::LazyLock<Option<Shapes>> =
        std::sync::LazyLock::new(|| Shapes::read(DESCRIPTORS, &Limits::default()).ok());
    let Some(shapes) = SHAPES.as_ref() else { return };
    let Some(method) = shapes.method("/chatledger.v1.MessageService/StreamAppendMessages") else {
        return;
    };
    let rules = scan::ScanRules {
        most_built: BUILT * Limits::DEFAULT.max_request_bytes,
        own_lists_only: true,
    };
    if scan::scan(shapes, method.input, bytes, rules).is_ok() {
        let decoded = chatledger_protocol::StreamAppendMessagesRequest::decode(bytes);
        assert!(decoded.is_ok(), "{decoded:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_says_which_methods_stream() {
        let limits = Limits::default();
        let memory = MemoryBudget::new(1 << 20);
        let intake =
            Intake::new(&limits, &memory, Duration::from_secs(1)).expect("the contract's descriptors");
        let streams = |method: &str| intake.is_stream(&format!("/chatledger.v1.MessageService/{method}"));
        assert!(streams("StreamAppendMessages"));
        // Only the server sends many.
        assert!(streams("WatchMessages"));
        assert!(!streams("AppendMessage"));
        assert!(!streams("NoSuchMethod"));
    }
}
