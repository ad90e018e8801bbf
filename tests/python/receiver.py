"""A receiver of OTLP over gRPC, by OpenTelemetry's own Python types: it keeps what comes, as bytes and parsed."""

import threading
import time
from concurrent import futures
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

SIGNALS = {
    "opentelemetry.proto.collector.trace.v1.TraceService": (trace_pb.ExportTraceServiceRequest, b""),
    "opentelemetry.proto.collector.logs.v1.LogsService": (logs_pb.ExportLogsServiceRequest, b""),
    "opentelemetry.proto.collector.metrics.v1.MetricsService": (metrics_pb.ExportMetricsServiceRequest, b""),
}
PATIENCE = 30


def value(any_value):
    """The value of an attribute."""
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind else None


def attributes(of):
    """The attributes of a span, a log record or a resource; none of them may be there twice."""
    found = {attribute.key: value(attribute.value) for attribute in of.attributes}
    assert len(found) == len(of.attributes), of
    return found


@dataclass
class Receiver:
    """Where telemetry comes in."""

    credentials: grpc.ServerCredentials | None = None
    raw: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    spans: list = field(default_factory=list)
    resources: list = field(default_factory=list)
    logs: list = field(default_factory=list)
    metrics: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        for service, (request, answer) in SIGNALS.items():
            export = grpc.unary_unary_rpc_method_handler(
                lambda raw, context, request=request, answer=answer: self.take(request, raw, context) or answer
            )
            handlers = grpc.method_handlers_generic_handler(service, {"Export": export})
            self.server.add_generic_rpc_handlers((handlers,))
        if self.credentials:
            port = self.server.add_secure_port("127.0.0.1:0", self.credentials)
        else:
            port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def take(self, request, raw, context):
        told = request.FromString(raw)
        with self.lock:
            self.raw.append(raw)
            self.headers.append(dict(context.invocation_metadata()))
            for resource in getattr(told, "resource_spans", ()):
                self.resources.append(attributes(resource.resource))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            for resource in getattr(told, "resource_logs", ()):
                self.resources.append(attributes(resource.resource))
                self.logs += [log for scope in resource.scope_logs for log in scope.log_records]
            for resource in getattr(told, "resource_metrics", ()):
                self.resources.append(attributes(resource.resource))
                self.metrics += [metric for scope in resource.scope_metrics for metric in scope.metrics]

    def wait(self, what, found):
        """What is found, as soon as it is."""
        end = time.monotonic() + PATIENCE
        while True:
            with self.lock:
                answer = found(self)
            if answer:
                return answer
            assert time.monotonic() < end, f"never came: {what}"
            time.sleep(0.02)

    def stop(self):
        self.server.stop(None)
