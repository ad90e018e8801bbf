"""The trace of the program goes along with each call, where it has one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer, format_span_id, format_trace_id, get_current_span

import chatledger


class Listener:
    """A server that notes the metadata of each call, and refuses it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((_Handler(self.heard),))
        self.target = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, heard: list[dict[str, str]]) -> None:
        self.heard = heard

    def service(self, details: Any) -> Any:
        self.heard.append(dict(details.invocation_metadata))
        return None


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.server.stop(None)


@pytest.fixture(scope="module")
def tracer() -> Tracer:
    return TracerProvider().get_tracer("test")


def here() -> str:
    """The span under way, as the standard writes it."""
    span = get_current_span().get_span_context()
    return f"00-{format_trace_id(span.trace_id)}-{format_span_id(span.span_id)}-{span.trace_flags:02x}"


CALLS: list[Callable[[chatledger.Client], Any]] = [
    lambda client: client.access.who_am_i(),
    lambda client: list(client.messages.list(chatledger.uuid7())),
    lambda client: next(iter(client.messages.watch(chatledger.uuid7()))),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("token", [None, "header.payload.signature"])
def test_a_call_has_the_span_under_way(
    listener: Listener, tracer: Tracer, call: Callable[[chatledger.Client], Any], token: str | None
) -> None:
    with chatledger.Client(listener.target, token=token) as client:
        with pytest.raises(chatledger.ChatledgerError):
            call(client)
        with tracer.start_as_current_span("asks"):
            secret = context.attach(baggage.set_baggage("secret", "hunter2"))
            expected = here()
            with pytest.raises(chatledger.ChatledgerError):
                call(client)
            context.detach(secret)
    before, within = listener.heard
    assert "traceparent" not in before
    assert within["traceparent"] == expected
    assert "hunter2" not in str(listener.heard)
    assert ("authorization" in within) is (token is not None)


async def test_an_awaited_call_has_it_as_well(listener: Listener, tracer: Tracer) -> None:
    async with chatledger.AsyncClient(listener.target) as client:
        with tracer.start_as_current_span("asks"):
            expected = here()
            with pytest.raises(chatledger.ChatledgerError):
                await client.access.who_am_i()
    assert [heard["traceparent"] for heard in listener.heard] == [expected]


def test_a_program_without_opentelemetry_does_without(
    listener: Listener, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracer.start_as_current_span("asks"), chatledger.Client(listener.target) as client:
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
        with pytest.raises(chatledger.ChatledgerError):
            client.access.who_am_i()
    assert "traceparent" not in listener.heard[0]
