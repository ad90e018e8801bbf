"""Whole histories: one stream, of one moment, that is read on where it broke and ends where it is left."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import gc
import pickle
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import chatledger
from chatledger import AsyncClient, Citation, Client, Message, NewMessage
from chatledger import _convert as convert
from chatledger._settings import Attempts, StreamAttempts
from chatledger.errors import of_code
from chatledger.testing import Server
from chatledger.v1 import message_pb2 as pb

LARGE = "x" * 8_000
"""A text of which a thousand are more than server, client and the connection between hold at once."""


def fill(client: Client, session_id: str, count: int, content: str = "") -> None:
    with client.messages.writer() as writer:
        for n in range(count):
            writer.append(session_id, "assistant" if n % 2 else "user", content or str(n))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The streams that the clients open, each with its method's name."""
    opened: list[tuple[str, Any]] = []
    for kind in (Client, AsyncClient):

        def recorded(self: Any, method: str, *args: Any, _open: Any = kind.open_stream, **kwargs: Any) -> Any:
            call = _open(self, method, *args, **kwargs)
            opened.append((method.rpartition("/")[2], call))
            return call

        monkeypatch.setattr(kind, "open_stream", recorded)
    return opened


async def test_a_stream_gives_what_pages_give(client: Client, aclient: AsyncClient, session_id: str) -> None:
    fill(client, session_id, 700)
    cited = [Citation("doc", score=0.5), Citation("doc-2")]
    for n in range(20):
        client.messages.append(
            session_id, "tool", f"tool {n}", payload=b"its own", metadata={"n": n}, citations=cited, selected_text="here"
        )
    client.messages.delete(session_id, client.messages.last(session_id, 1)[0].id)
    for filters in (
        {},
        {"after_seq": 3},
        {"before_seq": 90, "after_seq": 7},
        {"roles": ["tool", "assistant"]},
        {"omit_citations": True},
        {"payload_only": True, "roles": ["tool"]},
        {"after_seq": 10_000},
    ):
        wanted: dict[str, Any] = filters  # type: ignore[assignment]
        listing = client.messages.list(session_id, **wanted)
        paged = list(client.messages.list(session_id, page_size=100, **wanted))
        assert list(listing) == paged == list(listing)
        assert [message async for message in aclient.messages.list(session_id, **wanted)] == paged
        assert [item for page in listing.pages() for item in page.items] == paged
    last = list(client.messages.list(session_id, roles=["tool"]))[-1]
    assert (last.content, last.payload, last.metadata, last.selected_text) == ("tool 18", b"its own", {"n": 18}, "here")
    assert [c.document_id for c in last.citations] == ["doc", "doc-2"]
    alone = list(client.messages.list(session_id, roles=["tool"], payload_only=True))[-1]
    assert (alone.content, alone.payload, alone.metadata, alone.selected_text) == ("", b"its own", {}, None)


def test_pages_are_read_where_somebody_asks_for_them(
    client: Client, session_id: str, calls: list[tuple[str, Any]]
) -> None:
    fill(client, session_id, 10)
    calls.clear()
    for asked in ({"limit": 5}, {"page_size": 3}, {"order": "desc"}):
        list(client.messages.list(session_id, **asked))  # type: ignore[arg-type]
    client.messages.last(session_id, 3)
    list(client.messages.list(session_id).pages())
    assert not calls
    list(client.messages.list(session_id))
    list(client.messages.list(session_id, chronological=True))
    assert [method for method, _ in calls] == ["ReadMessages"] * 2


async def test_a_history_is_of_one_moment(client: Client, aclient: AsyncClient, session_id: str) -> None:
    fill(client, session_id, 2_000, LARGE)
    reading = iter(client.messages.list(session_id))
    areading = aiter(aclient.messages.list(session_id))
    first, afirst = next(reading), await anext(areading)
    client.messages.append(session_id, "user", "later")
    client.messages.clear(session_id)
    assert [message.seq for message in (first, *reading)] == list(range(1, 2_001))
    assert [afirst.seq, *[message.seq async for message in areading]] == list(range(1, 2_001))
    assert list(client.messages.list(session_id)) == []


def test_no_session_is_no_history(client: Client) -> None:
    listing = client.messages.list(chatledger.uuid7())
    with pytest.raises(chatledger.NotFoundError, match="SESSION_NOT_FOUND"):
        list(listing)


def test_a_read_goes_on_after_a_crash(own_server: Server, calls: list[tuple[str, Any]]) -> None:
    with Client(own_server.target) as client:
        session_id = client.sessions.create().id
        fill(client, session_id, 3_000, LARGE)
        calls.clear()
        reading = iter(client.messages.list(session_id, before_seq=2_990))
        seqs = [next(reading).seq]
        own_server.kill()
        own_server.start()
        seqs += [message.seq for message in reading]
    assert seqs == list(range(1, 2_990))
    assert len(calls) > 1


async def test_an_awaited_read_goes_on_after_a_crash(own_server: Server, calls: list[tuple[str, Any]]) -> None:
    async with AsyncClient(own_server.target) as client:
        session_id = (await client.sessions.create()).id
        with Client(own_server.target) as other:
            fill(other, session_id, 3_000, LARGE)
        calls.clear()
        seqs: list[int] = []
        async for message in client.messages.list(session_id):
            seqs.append(message.seq)
            if len(seqs) == 1:
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.start)
    assert seqs == list(range(1, 3_001))
    assert len(calls) > 1


def test_leaving_a_read_ends_its_call(client: Client, session_id: str, calls: list[tuple[str, Any]]) -> None:
    fill(client, session_id, 2_000, LARGE)
    calls.clear()
    for message in client.messages.list(session_id):
        assert message.seq == 1
        break
    reading: Iterator[Message] = iter(client.messages.list(session_id))
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    gc.collect()
    assert [call.code() for _, call in calls] == [grpc.StatusCode.CANCELLED] * 2


async def test_leaving_an_awaited_read_ends_its_call(
    client: Client, aclient: AsyncClient, session_id: str, calls: list[tuple[str, Any]]
) -> None:
    fill(client, session_id, 2_000, LARGE)
    calls.clear()
    reading: Any = aiter(aclient.messages.list(session_id))
    await anext(reading)
    await reading.aclose()
    assert calls[0][1].cancelled()


def test_closing_the_client_ends_a_read(chatledger_target: str, session_id: str) -> None:
    client = Client(chatledger_target)
    fill(client, session_id, 2_000, LARGE)
    reading = iter(client.messages.list(session_id))
    next(reading)
    client.close()
    with pytest.raises(chatledger.ClosedError):
        list(reading)


async def test_closing_an_async_client_ends_a_read(client: Client, chatledger_target: str, session_id: str) -> None:
    fill(client, session_id, 2_000, LARGE)
    aclient = AsyncClient(chatledger_target)
    reading = aiter(aclient.messages.list(session_id))
    await anext(reading)
    await aclient.close()
    with pytest.raises(chatledger.ClosedError):
        async for _ in reading:
            pass


def test_what_begins_the_attempts_anew() -> None:
    away, late, gone = (of_code(code, "") for code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "NOT_FOUND"))
    slow = of_code("RESOURCE_EXHAUSTED", "a slow reader", retry_after=0.2)
    attempts = StreamAttempts(30.0)
    assert attempts.pause_after(away) > 0
    with pytest.raises(chatledger.DeadlineExceededError):
        attempts.pause_after(late)
    # Whoever got something waits anew: the reader's own time counts against the deadline of a call.
    attempts.moved()
    assert attempts.pause_after(late) == 0.0
    attempts.moved()
    assert attempts.pause_after(slow) >= 0.2
    with pytest.raises(chatledger.DeadlineExceededError):
        attempts.pause_after(late)
    attempts.moved()
    with pytest.raises(chatledger.NotFoundError):
        attempts.pause_after(gone)
    assert StreamAttempts(None).left() is None is Attempts(None, safe=True).left()


TIME = datetime.datetime(2026, 11, 26, 23, 59, 59, 123_456, datetime.timezone.utc)


def stored(**fields: Any) -> Message:
    """A message as it is made of what the server sends."""
    made = pb.Message(id="i", session_id="s", seq=7, role=pb.ROLE_TOOL, content="text", **fields)
    made.create_time.FromDatetime(TIME)
    return convert.message_from(made)


def test_a_message_is_the_dataclass_that_it_says() -> None:
    message = stored(metadata_json='{"a": [1]}', payload=b"p", selected_text="")
    same = Message("i", "s", 7, "tool", "text", "", {"a": [1]}, b"p", [], TIME)
    assert message == same and repr(message) == repr(same)
    assert message.metadata is message.metadata and message.create_time is message.create_time
    assert dataclasses.asdict(message) == dataclasses.asdict(same)
    assert dataclasses.replace(stored(), metadata={"b": 2}).metadata == {"b": 2}
    for copied in (pickle.loads(pickle.dumps(stored())), copy.copy(stored()), copy.deepcopy(stored())):
        assert copied == stored() != same
    match message:
        case Message(seq=7, metadata={"a": [1]}, create_time=when):
            assert when == TIME


def test_a_message_does_not_change() -> None:
    message = stored(metadata_json='{"a": 1}')
    for name in ("metadata", "create_time", "content"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(message, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(message, name)
    assert not hasattr(message, "__dict__")
    assert stored().metadata == {} and stored().metadata is not stored().metadata
    assert (stored().selected_text, stored().payload, stored(payload=b"").payload) == (None, None, b"")


def test_messages_are_stored_as_they_are_read(client: Client, session_id: str) -> None:
    """What was read can be appended elsewhere: the fields are what the annotations say."""
    client.messages.append(session_id, "user", "text", metadata={"a": {"b": None}}, citations=[Citation("d")])
    (message,) = client.messages.list(session_id)
    other = client.sessions.create().id
    client.messages.append_batch(
        other, [NewMessage(message.role, message.content, metadata=message.metadata, citations=message.citations)]
    )
    (read,) = client.messages.list(other)
    assert (read.metadata, read.citations) == (message.metadata, message.citations)
    assert read.create_time > message.create_time and read.create_time.tzinfo is datetime.timezone.utc
