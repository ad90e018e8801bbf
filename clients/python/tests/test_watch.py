"""Watches of a session, through restarts of the server."""

from __future__ import annotations

import asyncio
import threading

import pytest

import chatledger
from chatledger import AsyncClient, Client, NewMessage
from chatledger.testing import Server

PATIENCE = 60.0
"""Seconds until a test gives up on what must come."""


def append(client: Client, session_id: str, texts: range) -> None:
    client.messages.append_batch(session_id, [NewMessage("user", str(n)) for n in texts])


def test_what_is_stored_and_then_what_comes(client: Client, session_id: str) -> None:
    append(client, session_id, range(1, 6))
    with client.messages.watch(session_id, after_seq=2) as watch:
        assert [next(watch).seq for _ in range(3)] == [3, 4, 5]
        append(client, session_id, range(6, 8))
        assert [next(watch).content for _ in range(2)] == ["6", "7"]
        assert (watch.last_seq, watch.caught_up) == (7, True)


def test_close_ends_a_loop_that_waits(client: Client, session_id: str) -> None:
    append(client, session_id, range(1, 2))
    watch = client.messages.watch(session_id)
    seen: list[int] = []
    first = threading.Event()

    def read() -> None:
        for message in watch:
            seen.append(message.seq)
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert first.wait(PATIENCE)
    watch.close()
    thread.join(PATIENCE)
    assert not thread.is_alive() and seen == [1]


def test_what_cannot_be_mended_is_raised(client: Client, session_id: str) -> None:
    with pytest.raises(chatledger.NotFoundError):
        next(client.messages.watch(chatledger.uuid7()))
    with pytest.raises(ValueError, match="after_seq"):
        client.messages.watch(session_id, after_seq=-1)
    append(client, session_id, range(1, 2))
    with client.messages.watch(session_id) as watch:
        assert next(watch).seq == 1
        client.sessions.delete(session_id)
        with pytest.raises(chatledger.NotFoundError):
            next(watch)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_goes_on_after_a_restart(own_server: Server, how: str) -> None:
    with Client(own_server.target) as client:
        session_id = client.sessions.create().id
        append(client, session_id, range(1, 11))
        with client.messages.watch(session_id) as watch:
            seen = [next(watch).seq for _ in range(7)]
            getattr(own_server, how)()
            own_server.start()
            append(client, session_id, range(11, 21))
            seen += [next(watch).seq for _ in range(13)]
            assert seen == list(range(1, 21))


async def test_the_async_watch(own_server: Server) -> None:
    with Client(own_server.target) as writer:
        session_id = writer.sessions.create().id
        append(writer, session_id, range(1, 4))
        async with AsyncClient(own_server.target) as client, client.messages.watch(session_id) as watch:
            assert [(await anext(watch)).seq for _ in range(3)] == [1, 2, 3]
            # Giving up on a message loses none.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(watch), 0.1)
            append(writer, session_id, range(4, 6))
            assert [(await anext(watch)).seq for _ in range(2)] == [4, 5]
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
            append(writer, session_id, range(6, 8))
            assert [(await asyncio.wait_for(anext(watch), PATIENCE)).content for _ in range(2)] == ["6", "7"]
            waiting = asyncio.create_task(anext(watch, None))
            await asyncio.sleep(0)
            await watch.close()
            assert await asyncio.wait_for(waiting, PATIENCE) is None


async def test_the_async_watch_raises_what_cannot_be_mended(aclient: AsyncClient) -> None:
    with pytest.raises(chatledger.NotFoundError):
        await anext(aclient.messages.watch(chatledger.uuid7()))
