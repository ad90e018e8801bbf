"""A trace, followed from a Python client down to the statement, by what a real receiver of OTLP gets of it; and the log beside it."""

import json
import re
import subprocess
import sys
import tempfile
import time
import uuid

import grpc
import pytest
from conftest import PACKAGE, ROOT, Server, chatledger, clean_env
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from receiver import Receiver, attributes

SERVER, CLIENT, INTERNAL = (
    getattr(trace_pb2.Span, f"SPAN_KIND_{kind}") for kind in ("SERVER", "CLIENT", "INTERNAL")
)
ERROR = trace_pb2.Status.STATUS_CODE_ERROR
CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
SECRET = "hunter2-header"


class TracedServer:
    """A server that sends what it has to a receiver, and its log."""

    def __init__(self, data_dir, log_format="json", **env):
        self.log = tempfile.TemporaryFile()
        fast = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BLRP_SCHEDULE_DELAY": "50", "RUST_LOG": "info,chatledger=trace"}
        command = [*chatledger(), "serve", "--listen", "127.0.0.1:0", "--log-format", log_format]
        command += ["--data-dir", str(data_dir)]
        self.server = Server(command, clean_env(**fast, **env), self.log)

    def run_client(self, mark):
        """What a program with spans of its own says of them."""
        env = clean_env(PYTHONPATH=str(PACKAGE), CHATLEDGER_TARGET=self.server.address)
        command = [sys.executable, str(ROOT / "tests/python/traced_client.py"), mark]
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    def stop(self):
        """The lines of its log, and how long it took to stop."""
        began = time.monotonic()
        assert self.server.stop() == 0
        took = time.monotonic() - began
        self.log.seek(0)
        return self.log.read().decode().splitlines(), took


@pytest.fixture(scope="module")
def own_dir(tmp_path_factory):
    top = tempfile.mkdtemp(prefix="chatledger-traces-")
    subprocess.run(["chmod", "755", top], check=True)
    yield f"{top}/data"
    subprocess.run(["rm", "-rf", top], check=True)


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def run(own_dir):
    """A client's program against a server that is traced, to its end: what each of the two had to tell."""
    receiver = Receiver()
    mark = f"canary{uuid.uuid4().hex}"
    server = TracedServer(
        own_dir,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{receiver.address}",
        OTEL_EXPORTER_OTLP_HEADERS=f"api-key={SECRET}",
        OTEL_METRIC_EXPORT_INTERVAL="100",
        OTEL_SERVICE_NAME="ledger-under-test",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    )
    told = server.run_client(mark)
    lines, _ = server.stop()
    receiver.stop()
    return receiver, told, mark, lines


def in_trace(receiver, ids):
    """The spans of a client's span, by name; of several the last."""
    return {span.name: span for span in receiver.spans if span.trace_id.hex() == ids["trace"]}


def test_a_read_is_followed_to_its_statement(run):
    receiver, told, _, _ = run
    spans = in_trace(receiver, told["spans"]["search"])
    rpc = spans["chatledger.v1.MessageService/SearchMessages"]
    assert rpc.kind == SERVER and rpc.parent_span_id.hex() == told["spans"]["search"]["span"]
    found = attributes(rpc)
    assert found.pop("network.peer.port") > 0 and found.pop("server.port") > 0
    assert found == {
        "rpc.system.name": "grpc",
        "rpc.method": "chatledger.v1.MessageService/SearchMessages",
        "rpc.status_code": "OK",
        "server.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "gen_ai.conversation.id": told["session"],
    }
    (statement,) = (span for span in spans.values() if span.parent_span_id == rpc.span_id)
    assert statement.kind == CLIENT and statement.name.startswith("search.")
    found = attributes(statement)
    assert found.pop("server.address").startswith("/") and found.pop("db.namespace")
    assert found == {"db.system.name": "postgresql", "db.query.summary": statement.name}
    assert rpc.start_time_unix_nano <= statement.start_time_unix_nano <= statement.end_time_unix_nano
    assert statement.end_time_unix_nano <= rpc.end_time_unix_nano


def test_an_append_is_followed_to_its_batch_and_the_batch_to_all_of_its_appends(run):
    receiver, told, _, _ = run
    spans = in_trace(receiver, told["spans"]["append"])
    rpc, batch = spans["chatledger.v1.MessageService/AppendMessage"], spans["append batch"]
    assert batch.kind == INTERNAL and batch.parent_span_id == rpc.span_id
    assert [link.span_id for link in batch.links] == [rpc.span_id]
    assert [link.span_id for link in rpc.links] == [batch.span_id]
    assert attributes(batch) == {
        "chatledger.append.rows": 1,
        "chatledger.append.units": 1,
        "chatledger.append.aside": False,
        "chatledger.append.path": "fast",
    }
    (statement,) = (span for span in spans.values() if span.parent_span_id == batch.span_id)
    assert statement.name.startswith("append.Append")
    # A message that is there already takes the slow path, which has several.
    spans = in_trace(receiver, told["spans"]["again"])
    assert attributes(spans["append batch"])["chatledger.append.path"] == "slow"
    below = {span.name for span in spans.values() if span.parent_span_id == spans["append batch"].span_id}
    assert {"append.LockFree", "append.Lookup"} <= below, below
    # Of those that went at once, each is linked with the batch that it was in, whosever trace that is part of.
    batches = {span.span_id: span for span in receiver.spans if span.name == "append batch"}
    for number in range(32):
        rpc = in_trace(receiver, told["spans"][f"append {number}"])["chatledger.v1.MessageService/AppendMessage"]
        (link,) = rpc.links
        assert rpc.span_id in {link.span_id for link in batches[link.span_id].links}


def test_a_stream_is_one_span(run):
    receiver, told, _, _ = run
    listed = in_trace(receiver, told["spans"]["list"])["chatledger.v1.MessageService/ReadMessages"]
    assert attributes(listed)["chatledger.stream.messages_received"] == 1
    assert attributes(listed)["chatledger.stream.messages_sent"] >= 1
    # The writer's thread has no span: its stream is the root of a trace.
    (written,) = (span for span in receiver.spans if span.name.endswith("/StreamAppendMessages"))
    found = attributes(written)
    assert not written.parent_span_id and found["rpc.status_code"] == "OK"
    assert found["chatledger.stream.messages_received"] >= 1 and "gen_ai.conversation.id" not in found
    batches = {link.span_id for link in written.links}
    spans = [span for span in receiver.spans if span.span_id in batches]
    assert sum(attributes(span)["chatledger.append.rows"] for span in spans) == 100


def test_an_error_is_one_by_the_convention(run):
    receiver, told, _, _ = run
    spans = in_trace(receiver, told["spans"]["refused"])
    rpc = spans["chatledger.v1.MessageService/GetMessage"]
    found = attributes(rpc)
    # What isn't there is nobody's fault.
    assert found["rpc.status_code"] == "NOT_FOUND" and "error.type" not in found
    assert rpc.status.code != ERROR
    # The first attempt to append again found its id taken.
    spans = [span for span in receiver.spans if span.trace_id.hex() == told["spans"]["again"]["trace"]]
    (failed,) = (span for span in spans if span.status.code == ERROR)
    found = attributes(failed)
    assert found["error.type"] == found["db.response.status_code"] == "23505"


def test_a_caller_that_samples_nothing_has_no_spans(run):
    receiver, told, _, lines = run
    assert not in_trace(receiver, told["spans"]["unsampled"])
    assert not any(told["spans"]["unsampled"]["trace"] in line for line in lines)


def test_all_is_of_the_resource_and_comes_with_the_headers(run):
    receiver, _, _, _ = run
    for resource in receiver.resources:
        assert resource["service.name"] == "ledger-under-test"
        assert resource["deployment.environment.name"] == "test"
        assert uuid.UUID(resource["service.instance.id"]) and resource["service.version"]
    assert len({resource["service.instance.id"] for resource in receiver.resources}) == 1
    assert all(headers["api-key"] == SECRET for headers in receiver.headers)


def test_the_log_has_the_ids_of_traces(run):
    receiver, told, _, lines = run
    ids = told["spans"]["search"]
    rpc = in_trace(receiver, ids)["chatledger.v1.MessageService/SearchMessages"]
    sent = [log for log in receiver.logs if log.trace_id.hex() == ids["trace"]]
    assert "answered" in {log.body.string_value for log in sent}
    assert rpc.span_id in {log.span_id for log in sent}
    written = [json.loads(line) for line in lines]
    (answered,) = (
        line for line in written if line.get("trace_id") == ids["trace"] and line["fields"]["message"] == "answered"
    )
    assert answered["span_id"] == rpc.span_id.hex()
    # What nobody has asked for belongs to no trace.
    assert any("trace_id" not in line for line in written)
    # Sending it says nothing that would be sent.
    names = {log.event_name for log in receiver.logs}
    assert not [name for name in names if re.search(r"/(opentelemetry|tonic|h2|hyper)", name)]


def test_the_metrics_are_those_of_the_admin_port(run):
    receiver, _, _, _ = run
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    kinds = {"sum": "counter", "gauge": "gauge", "histogram": "histogram"}
    assert {metric.name: kinds[metric.WhichOneof("data")] for metric in receiver.metrics}.items() <= listed.items()
    assert len({metric.name for metric in receiver.metrics}) > 40
    # The last snapshot has all that was done.
    last = {metric.name: metric for metric in receiver.metrics}
    stored = last["chatledger_append_messages_total"].sum
    assert stored.is_monotonic and stored.aggregation_temporality == CUMULATIVE
    assert stored.data_points[0].as_double >= 132
    appends = [
        point
        for point in last["grpc_server_handling_seconds"].histogram.data_points
        if attributes(point)["grpc_method"] == "AppendMessage"
    ]
    assert last["grpc_server_handling_seconds"].unit == "s" and sum(appends[0].bucket_counts) == appends[0].count >= 34
    exported = last["chatledger_telemetry_exported_total"].sum.data_points
    assert {attributes(point)["signal"] for point in exported} == {"traces", "logs"}


def test_nothing_that_people_say_is_sent(run):
    receiver, _, mark, lines = run
    assert receiver.raw and lines
    for raw in [*receiver.raw, *(line.encode() for line in lines)]:
        assert mark.encode() not in raw and SECRET.encode() not in raw


def test_the_document_lists_every_attribute(run):
    receiver, _, _, _ = run
    document = (ROOT / "docs/tracing.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", document, re.MULTILINE))
    sent = {key for span in receiver.spans for key in attributes(span)}
    assert sent <= listed, sent - listed
    # Those that this run gives no occasion for.
    assert listed - sent <= {"server.port"}, listed - sent


def test_a_ratio_of_nothing_is_nothing(own_dir, receiver):
    server = TracedServer(
        own_dir,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://{receiver.address}",
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
    )
    server.run_client(f"canary{uuid.uuid4().hex}")
    lines, _ = server.stop()
    assert not receiver.raw
    assert lines and not any("trace_id" in json.loads(line) for line in lines)


def test_what_is_sent_can_be_encrypted_and_text_has_ids_as_well(own_dir, tmp_path):
    (tmp_path / "names").write_text("subjectAltName = IP:127.0.0.1")
    new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj"
    for command in (
        f"{new} /CN=authority -x509 -days 1 -keyout ca.key -out ca.crt",
        f"{new} /CN=receiver -keyout key -out csr",
        "openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -set_serial 1 -days 1 -extfile names -out crt",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    key, certificate = ((tmp_path / of).read_bytes() for of in ("key", "crt"))
    receiver = Receiver(grpc.ssl_server_credentials([(key, certificate)]))
    server = TracedServer(
        own_dir,
        log_format="text",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"https://{receiver.address}",
        OTEL_EXPORTER_OTLP_CERTIFICATE=str(tmp_path / "ca.crt"),
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    )
    ids = server.run_client(f"canary{uuid.uuid4().hex}")["spans"]["search"]
    lines, _ = server.stop()
    receiver.stop()
    assert receiver.logs and in_trace(receiver, ids)
    (answered,) = (line for line in lines if f"trace_id={ids['trace']}" in line and "answered" in line)
    assert re.search(r" span_id=[0-9a-f]{16}$", answered)


def test_a_receiver_that_is_away_costs_nothing_but_a_warning(own_dir, receiver):
    receiver.stop()
    server = TracedServer(
        own_dir,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{receiver.address}",
        OTEL_EXPORTER_OTLP_TIMEOUT="200",
        OTEL_BSP_MAX_QUEUE_SIZE="16",
    )
    server.run_client(f"canary{uuid.uuid4().hex}")
    lines, took = server.stop()
    warnings = [line for line in map(json.loads, lines) if "can't be delivered" in line["fields"]["message"]]
    assert {line["fields"]["signal"] for line in warnings} == {"traces", "logs"}
    assert len(warnings) == 2, "one of each signal in a minute"
    assert took < 8


def test_a_wrong_value_ends_the_start(own_dir):
    env = clean_env(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    done = subprocess.run([*chatledger(), "serve", "--data-dir", own_dir], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("chatledger: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf: must be grpc")
