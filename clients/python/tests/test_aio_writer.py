"""The pipelined writer for asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

import chatledger
from chatledger import AsyncClient
from chatledger.testing import Server, server

PATIENCE = 60.0
"""Seconds until a test gives up on what must come."""


async def contents(client: AsyncClient, session_id: str) -> list[str]:
    return [message.content async for message in client.messages.list(session_id, page_size=500)]


async def test_many_messages_in_order(aclient: AsyncClient) -> None:
    sessions = [(await aclient.sessions.create()).id for _ in range(3)]
    async with aclient.messages.writer(max_pending=500) as writer:
        futures = [await writer.append(sessions[n % 3], "user", str(n)) for n in range(3000)]
    for place, session_id in enumerate(sessions):
        assert [future.result().seq for future in futures[place::3]] == list(range(1, 1001))
        assert await contents(aclient, session_id) == [str(n) for n in range(place, 3000, 3)]


async def test_a_refused_message_harms_no_other(aclient: AsyncClient) -> None:
    session_id = (await aclient.sessions.create()).id
    async with aclient.messages.writer() as writer:
        before = await writer.append(session_id, "user", "before")
        missing = await writer.append(chatledger.uuid7(), "user", "nowhere")
        after = await writer.append(session_id, "user", "after")
        with pytest.raises(chatledger.NotFoundError):
            await missing
        assert ((await before).seq, (await after).seq) == (1, 2)
        cancelled = await writer.append(session_id, "user", "stored all the same")
        cancelled.cancel()
    assert await contents(aclient, session_id) == ["before", "after", "stored all the same"]


async def test_tasks_share_it(aclient: AsyncClient) -> None:
    session_id = (await aclient.sessions.create()).id
    async with aclient.messages.writer(max_pending=16) as writer:

        async def write(name: int) -> None:
            for n in range(100):
                await writer.append(session_id, "user", f"{name} {n}")

        await asyncio.gather(*map(write, range(8)))
        await writer.flush()
        assert writer.pending() == 0
    stored = await contents(aclient, session_id)
    assert len(stored) == 800
    for name in range(8):
        assert [text for text in stored if text.startswith(f"{name} ")] == [f"{name} {n}" for n in range(100)]


async def test_a_closed_writer_says_so(aclient: AsyncClient) -> None:
    session_id = (await aclient.sessions.create()).id
    writer = aclient.messages.writer()
    await writer.append(session_id, "user", "one")
    await writer.close()
    await writer.close()
    with pytest.raises(chatledger.ClosedError, match="writer is closed"):
        await writer.append(session_id, "user", "two")


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_restart_of_the_server_loses_and_doubles_nothing(own_server: Server, how: str) -> None:
    async with AsyncClient(own_server.target) as client:
        sessions = [(await client.sessions.create()).id for _ in range(2)]
        count = 4000
        async with client.messages.writer(max_pending=200) as writer:
            futures: list[asyncio.Future[chatledger.Receipt]] = []

            async def write() -> None:
                for n in range(count):
                    futures.append(await writer.append(sessions[n % 2], "user", str(n)))

            task = asyncio.create_task(write())
            for stored in (1000, 2500):
                while len(futures) < stored:
                    await asyncio.sleep(0)
                await asyncio.to_thread(getattr(own_server, how))
                await asyncio.to_thread(own_server.start)
            await asyncio.wait_for(task, PATIENCE)
            await writer.flush(PATIENCE)
        for place, session_id in enumerate(sessions):
            assert [future.result().seq for future in futures[place::2]] == list(range(1, count // 2 + 1))
            assert await contents(client, session_id) == [str(n) for n in range(place, count, 2)]


async def test_outages(own_server: Server) -> None:
    async with AsyncClient(own_server.target) as client:
        session_id = (await client.sessions.create()).id
        own_server.kill()
        async with client.messages.writer(timeout=0.5, max_pending=2) as writer:
            futures = [await writer.append(session_id, "user", "lost") for _ in range(2)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(writer.append(session_id, "user", "no room"), 0.1)
            for future in futures:
                with pytest.raises(chatledger.UnavailableError):
                    await future
        closing = client.messages.writer()
        left = await closing.append(session_id, "user", "left")
        with pytest.raises(chatledger.DeadlineExceededError, match="1 messages were not answered within 0.3 s"):
            await closing.close(timeout=0.3)
        assert isinstance(left.exception(), chatledger.DeadlineExceededError)
        own_server.start()
        async with client.messages.writer() as writer:
            kept = await writer.append(session_id, "user", "kept")
            assert (await kept).seq == 1


async def test_a_server_that_hangs_is_not_waited_for(own_server: Server) -> None:
    assert own_server.process is not None
    async with AsyncClient(own_server.target) as client:
        session_id = (await client.sessions.create()).id
        async with client.messages.writer(timeout=1.0) as writer:
            await (await writer.append(session_id, "user", "one"))
            os.kill(own_server.process.pid, signal.SIGSTOP)
            hangs = await writer.append(session_id, "user", "two")
            with pytest.raises(chatledger.DeadlineExceededError):
                await asyncio.wait_for(hangs, PATIENCE)
            os.kill(own_server.process.pid, signal.SIGCONT)
            kept = await writer.append(session_id, "user", "three")
            assert (await kept).seq in (2, 3)


async def test_a_client_closed_under_a_writer_fails_what_waits(own_server: Server) -> None:
    assert own_server.process is not None
    client = AsyncClient(own_server.target)
    session_id = (await client.sessions.create()).id
    writer = client.messages.writer()
    await (await writer.append(session_id, "user", "one"))
    os.kill(own_server.process.pid, signal.SIGSTOP)
    lost = await writer.append(session_id, "user", "two")
    await client.close()
    with pytest.raises(chatledger.FailedPreconditionError):
        await asyncio.wait_for(lost, PATIENCE)
    await writer.close(PATIENCE)
    os.kill(own_server.process.pid, signal.SIGCONT)


async def test_a_message_above_the_request_limit_harms_no_other() -> None:
    with server(args=["--max-request-bytes", "100000"]) as small:
        async with AsyncClient(small.target) as client:
            session_id = (await client.sessions.create()).id
            async with client.messages.writer() as writer:
                futures = [await writer.append(session_id, "user", "x" * (200_000 if n == 5 else 9)) for n in range(50)]
                with pytest.raises(chatledger.InvalidArgumentError, match="100000 bytes"):
                    await futures.pop(5)
            assert [future.result().seq for future in futures] == list(range(1, 50))


@pytest.mark.parametrize("inside", [True, False])
async def test_a_cancellation_does_not_wait_for_a_server_that_hangs(inside: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        async with AsyncClient(f"127.0.0.1:{hangs.getsockname()[1]}") as client:
            futures: list[asyncio.Future[chatledger.Receipt]] = []
            appended = asyncio.Event()

            async def write() -> None:
                async with client.messages.writer(timeout=None) as writer:
                    futures.append(await writer.append(chatledger.uuid7(), "user", "?"))
                    appended.set()
                    if inside:
                        await asyncio.Event().wait()

            task = asyncio.create_task(write())
            await appended.wait()
            # The task waits by now: inside, or in close().
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled()
            (future,) = futures
            with pytest.raises(chatledger.ChatledgerError, match="CANCELLED: the writer was cancelled"):
                future.result()


async def test_leaving_by_an_error_stores_what_was_appended(aclient: AsyncClient) -> None:
    session_id = (await aclient.sessions.create()).id
    with pytest.raises(KeyError):
        async with aclient.messages.writer() as writer:
            future = await writer.append(session_id, "user", "kept")
            raise KeyError
    assert future.result().seq == 1
