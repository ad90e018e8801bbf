"""The asyncio client: the same methods, awaited."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

import chatledger
from chatledger import AsyncClient, Client, NewMessage

PATIENCE = 60.0
"""Seconds until a test gives up on what must come."""


def test_both_clients_have_the_same_methods() -> None:
    with Client() as client:
        other = AsyncClient()
        for group in ("users", "profiles", "sessions", "messages", "citations", "documents", "analytics"):
            names = {name for name in dir(getattr(client, group)) if not name.startswith("_")}
            assert names == {name for name in dir(getattr(other, group)) if not name.startswith("_")}
            for name in names:
                ours, theirs = getattr(getattr(client, group), name), getattr(getattr(other, group), name)
                assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters


async def test_a_conversation(aclient: AsyncClient) -> None:
    session = await aclient.sessions.create(metadata={"a": 1})
    receipt = await aclient.messages.append(session.id, "user", "hello")
    assert receipt.seq == 1
    await aclient.messages.append_batch(session.id, [NewMessage("assistant", str(n)) for n in range(10)])
    assert [m.seq async for m in aclient.messages.list(session.id, page_size=3)] == list(range(1, 12))
    assert [len(page.items) async for page in aclient.messages.list(session.id, page_size=4).pages()] == [4, 4, 3]
    assert [m.seq for m in await aclient.messages.last(session.id, 2)] == [10, 11]
    hits = [hit async for hit in aclient.messages.search("hello", session_id=session.id)]
    assert len(hits) == 1
    with pytest.raises(chatledger.NotFoundError) as caught:
        await aclient.sessions.get(chatledger.uuid7())
    assert caught.value.reason == "SESSION_NOT_FOUND"


async def test_many_tasks_share_it(aclient: AsyncClient) -> None:
    session = await aclient.sessions.create()
    receipts = await asyncio.gather(*(aclient.messages.append(session.id, "user", str(n)) for n in range(50)))
    assert sorted(receipt.seq for receipt in receipts) == list(range(1, 51))


async def test_a_closed_client_says_so(chatledger_target: str) -> None:
    client = AsyncClient(chatledger_target)
    await client.sessions.create()
    await client.close()
    with pytest.raises(chatledger.ClosedError, match="client is closed"):
        await client.sessions.create()


def test_another_event_loop_is_refused(chatledger_target: str) -> None:
    client = AsyncClient(chatledger_target)

    async def create() -> None:
        await client.sessions.create()

    asyncio.run(create())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(create())


@pytest.fixture
async def hangs() -> AsyncIterator[AsyncClient]:
    """A client of a server that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with AsyncClient(f"127.0.0.1:{listening.getsockname()[1]}") as client:
            yield client


async def call_under_way(client: AsyncClient) -> None:
    await client.sessions.get(chatledger.uuid7())


async def watch_under_way(client: AsyncClient) -> None:
    async for _ in client.messages.watch(chatledger.uuid7()):
        pass


async def read_under_way(client: AsyncClient) -> None:
    async for _ in client.messages.list(chatledger.uuid7()):
        pass


@pytest.mark.parametrize("use", [call_under_way, watch_under_way, read_under_way])
async def test_closing_the_client_is_not_a_cancellation(
    hangs: AsyncClient, use: Callable[[AsyncClient], Coroutine[object, object, None]]
) -> None:
    using = asyncio.create_task(use(hangs))
    cancelled = asyncio.create_task(use(hangs))
    for _ in range(10):
        await asyncio.sleep(0)
    cancelled.cancel()
    await hangs.close()
    await asyncio.wait([using, cancelled], timeout=PATIENCE)
    assert cancelled.cancelled()
    assert not using.cancelled() and isinstance(using.exception(), chatledger.ClosedError)
