"""A program with spans of its own, for test_tracing.py: it says on stdout what became of them, one JSON object in all."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import chatledger
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import get_current_span

mark = sys.argv[1]
tracer = TracerProvider().get_tracer("traced_client")
spans = {}


def traced(name, call, tracer=tracer):
    """Calls something in a span of its own."""
    with tracer.start_as_current_span(name):
        span = get_current_span().get_span_context()
        spans[name] = {"trace": f"{span.trace_id:032x}", "span": f"{span.span_id:016x}"}
        return call()


def refused():
    """A call for a session that isn't there."""
    try:
        client.messages.get(chatledger.uuid7(), chatledger.uuid7())
    except chatledger.NotFoundError:
        return
    raise AssertionError("there is such a session")


with chatledger.Client() as client:
    session = traced(
        "create", lambda: client.sessions.create(title=f"title {mark}", metadata={"key": f"metadata {mark}"})
    )
    traced(
        "user",
        lambda: client.users.create(f"{mark}@example.com", name=f"name {mark}", password=f"password {mark}"),
    )
    message_id = chatledger.uuid7()
    append = lambda: client.messages.append(  # noqa: E731
        session.id,
        "user",
        f"content {mark}",
        selected_text=f"selected {mark}",
        metadata={"key": f"metadata {mark}"},
        message_id=message_id,
    )
    traced("append", append)
    traced("again", append)
    with ThreadPoolExecutor(16) as threads:
        list(
            threads.map(
                lambda n: traced(f"append {n}", lambda: client.messages.append(session.id, "user", mark)), range(32)
            )
        )
    messages = traced("list", lambda: list(client.messages.list(session.id)))
    assert len(messages) == 33
    traced("search", lambda: list(client.messages.search(mark, session_id=session.id)))
    traced("refused", refused)
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("traced_client")
    traced("unsampled", lambda: client.sessions.get(session.id), unsampled)
    with client.messages.writer() as writer:
        for number in range(100):
            writer.append(session.id, "user", f"{mark} {number}")

print(json.dumps({"session": session.id, "spans": spans}))
