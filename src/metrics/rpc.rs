//! What is counted of calls, under the names that dashboards for gRPC know (those of go-grpc-prometheus).

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::Code;

use super::{Counters, areas::SECONDS};
use crate::auth::PrincipalKind;
use chatledger_protocol::DESCRIPTORS;

/// The labels of a method.
const LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
/// The codes of gRPC: 0 to 16.
const CODES: usize = 17;

/// What is counted of all methods.
#[derive(Debug)]
pub struct RpcMetrics {
    methods: HashMap<String, Arc<MethodMetrics>>,
    /// Of paths that the contract doesn't have: anybody can make up as many as they like.
    unknown: Arc<MethodMetrics>,
}

/// What is counted of a method.
#[derive(Debug)]
struct MethodMetrics {
    labels: [String; 3],
    started: IntCounter,
    handled: IntCounterVec,
    /// The counters of codes that there were.
    by_code: [OnceLock<IntCounter>; CODES],
    seconds: Histogram,
    received: IntCounter,
    sent: IntCounter,
}

/// A call, from its first byte until it is over.
#[derive(Debug)]
pub struct CallMeter {
    method: Arc<MethodMetrics>,
    began: Instant,
    code: Option<Code>,
    caller_kind: &'static str,
    sent: MessageCount,
    /// Where this call's messages are counted by themselves, if somebody asks.
    counts: Option<Arc<StreamCounts>>,
}

/// How many messages a call has had.
#[derive(Debug, Default)]
pub struct StreamCounts {
    /// Those of the client.
    pub received: AtomicU64,
    /// Those that the client was sent.
    pub sent: AtomicU64,
}

/// The messages of a call's request.
#[derive(Debug)]
pub struct RequestMeter {
    method: Arc<MethodMetrics>,
    messages: MessageCount,
    counts: Option<Arc<StreamCounts>>,
}

impl RpcMetrics {
    pub(super) fn new(counters: Counters<'_>) -> Self {
        let with_code = [LABELS.as_slice(), &["grpc_code"]].concat();
        let seconds = HistogramOpts::new(
            "grpc_server_handling_seconds",
            "Time of a call until the last of its answer was handed over; of a stream, until its end.",
        );
        let families = RpcFamilies {
            started: counters.counters("grpc_server_started_total", "Calls begun.", &LABELS),
            handled: counters.counters(
                "grpc_server_handled_total",
                "Calls that are over, by their code.",
                &with_code,
            ),
            seconds: counters.add(HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &LABELS)),
            received: counters.counters(
                "grpc_server_msg_received_total",
                "Messages received of clients.",
                &LABELS,
            ),
            sent: counters.counters("grpc_server_msg_sent_total", "Messages sent to clients.", &LABELS),
        };
        let mut methods = HashMap::new();
        for (path, kind) in contract()
            .into_iter()
            .chain(PROBES.map(|(path, kind)| (path.to_owned(), kind)))
        {
            let method = families.method(&path, kind);
            methods.insert(path, Arc::new(method));
        }
        RpcMetrics {
            methods,
            unknown: Arc::new(families.method("/unknown/unknown", "unary")),
        }
    }

    /// Begins to count a call.
    #[must_use]
    pub fn begin(&self, path: &str) -> CallMeter {
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.unknown));
        method.started.inc();
        CallMeter {
            method,
            began: Instant::now(),
            code: None,
            caller_kind: "unknown",
            counts: None,
            sent: MessageCount::default(),
        }
    }
}

/// Health and reflection, which aren't the contract's.
const PROBES: [(&str, &str); 5] = [
    ("/grpc.health.v1.Health/Check", "unary"),
    ("/grpc.health.v1.Health/List", "unary"),
    ("/grpc.health.v1.Health/Watch", "server_stream"),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "bidi_stream",
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "bidi_stream",
    ),
];

/// The contract's methods: the path of each, and its kind.
fn contract() -> Vec<(String, &'static str)> {
    // The descriptors are the program's own; an unreadable set would have no methods, which a test would see.
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "unary",
                    (true, false) => "client_stream",
                    (false, true) => "server_stream",
                    (true, true) => "bidi_stream",
                };
                methods.push((path, kind));
            }
        }
    }
    methods
}

/// The families that methods have their part of.
struct RpcFamilies {
    started: IntCounterVec,
    handled: IntCounterVec,
    seconds: HistogramVec,
    received: IntCounterVec,
    sent: IntCounterVec,
}

impl RpcFamilies {
    fn method(&self, path: &str, kind: &str) -> MethodMetrics {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let labels = [kind, service, method];
        MethodMetrics {
            started: self.started.with_label_values(&labels),
            handled: self.handled.clone(),
            by_code: Default::default(),
            seconds: self.seconds.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            labels: labels.map(str::to_owned),
        }
    }
}

impl MethodMetrics {
    fn ended(&self, code: Code) {
        let [kind, service, method] = &self.labels;
        // Codes are 0 to 16.
        let Some(counter) = self.by_code.get(code as usize) else {
            return;
        };
        let counter = counter.get_or_init(|| {
            let labels = [kind, service, method, code_name(code)];
            self.handled.with_label_values(&labels)
        });
        counter.inc();
    }
}

impl CallMeter {
    /// Counts this call's messages by themselves as well, from here on.
    pub fn counts(&mut self) -> Arc<StreamCounts> {
        Arc::clone(self.counts.get_or_insert_default())
    }

    /// What counts the request's messages.
    #[must_use]
    pub fn request(&self) -> RequestMeter {
        RequestMeter {
            method: Arc::clone(&self.method),
            messages: MessageCount::default(),
            counts: self.counts.clone(),
        }
    }

    /// Notes who calls.
    pub fn called_by(&mut self, kind: PrincipalKind) {
        self.caller_kind = match kind {
            PrincipalKind::Local => "local",
            PrincipalKind::Service => "service",
            PrincipalKind::EndUser => "end_user",
        };
    }

    /// What kind of caller calls: `unknown` until that is known.
    #[must_use]
    pub fn caller_kind(&self) -> &'static str {
        self.caller_kind
    }

    /// Notes the code with which the call ends.
    pub fn ends(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// Counts the messages that begin in a part of the answer.
    pub fn sent(&mut self, part: &[u8]) {
        let messages = self.sent.count(part);
        self.method.sent.inc_by(messages);
        if let Some(counts) = &self.counts {
            counts.sent.fetch_add(messages, Ordering::Relaxed);
        }
    }
}

impl RequestMeter {
    /// Counts the messages that begin in a part of the request.
    pub fn received(&mut self, part: &[u8]) {
        let messages = self.messages.count(part);
        self.method.received.inc_by(messages);
        if let Some(counts) = &self.counts {
            counts.received.fetch_add(messages, Ordering::Relaxed);
        }
    }
}

/// A call that is over. Without a code it was left by its client.
impl Drop for CallMeter {
    fn drop(&mut self) {
        self.method.seconds.observe(self.began.elapsed().as_secs_f64());
        self.method.ended(self.code.unwrap_or(Code::Cancelled));
    }
}

/// The place in a body of gRPC messages: a flag, a length of four bytes, and as many bytes.
#[derive(Debug, Default)]
struct MessageCount {
    /// What is left of the message that has begun.
    left: u64,
    /// What has come of a prefix that is cut in two.
    prefix: [u8; 5],
    prefix_bytes: usize,
}

impl MessageCount {
    /// How many messages begin in this part.
    fn count(&mut self, mut part: &[u8]) -> u64 {
        let mut messages = 0;
        while !part.is_empty() {
            if self.left > 0 {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(part.len());
                self.left -= skipped as u64;
                part = &part[skipped..];
                continue;
            }
            self.prefix[self.prefix_bytes] = part[0];
            self.prefix_bytes += 1;
            part = &part[1..];
            if self.prefix_bytes == self.prefix.len() {
                let [_, length @ ..] = self.prefix;
                self.left = u64::from(u32::from_be_bytes(length));
                self.prefix_bytes = 0;
                messages += 1;
            }
        }
        messages
    }
}

/// A code's name, as dashboards know it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_methods_of_each_kind() {
        let methods = contract();
        for kind in ["unary", "server_stream", "bidi_stream"] {
            assert!(methods.iter().any(|(_, of)| *of == kind), "{kind}");
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bodies = [3, 0, 300, 1];
        let mut bytes = Vec::new();
        for length in bodies {
            bytes.push(0);
            bytes.extend(u32::to_be_bytes(length));
            bytes.extend(vec![7; length as usize]);
        }
        for size in 1..bytes.len() {
            let mut count = MessageCount::default();
            let counted: u64 = bytes.chunks(size).map(|part| count.count(part)).sum();
            assert_eq!(counted, 4, "parts of {size}");
        }
    }
}
