"""The pipelined writer for threads."""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

import chatledger
from chatledger import Citation, Client, Receipt
from chatledger.testing import Server, server

PATIENCE = 60.0
"""Seconds until a test gives up on what must come."""


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def contents(client: Client, session_id: str) -> list[str]:
    return [message.content for message in client.messages.list(session_id, page_size=500)]


def test_many_messages_in_order(client: Client) -> None:
    sessions = [client.sessions.create().id for _ in range(3)]
    with client.messages.writer(max_pending=500) as writer:
        futures = [writer.append(sessions[n % 3], "user", str(n)) for n in range(3000)]
    receipts = [future.result(timeout=0) for future in futures]
    for place, session_id in enumerate(sessions):
        mine = receipts[place::3]
        assert [receipt.seq for receipt in mine] == list(range(1, 1001))
        assert {receipt.session_id for receipt in mine} == {session_id}
        assert contents(client, session_id) == [str(n) for n in range(place, 3000, 3)]
    assert [future.message_id for future in futures] == [receipt.message_id for receipt in receipts]


def test_everything_of_a_message_arrives(client: Client, session_id: str) -> None:
    with client.messages.writer() as writer:
        writer.append(
            session_id,
            "assistant",
            "Grüße 🤖",
            selected_text="DDS",
            metadata={"n": 2**60},
            payload=b"\x00\xff",
            citations=[Citation("doc", "chunk", 0.5)],
            message_id="00000000-0000-4000-8000-00000000000A",
        )
    (message,) = client.messages.list(session_id)
    assert message.id == "00000000-0000-4000-8000-00000000000a"
    assert (message.content, message.selected_text, message.payload) == ("Grüße 🤖", "DDS", b"\x00\xff")
    assert message.metadata == {"n": 2**60}
    assert [(c.document_id, c.chunk_id, c.score) for c in message.citations] == [("doc", "chunk", 0.5)]


def test_a_refused_message_harms_no_other(client: Client, session_id: str) -> None:
    with client.messages.writer() as writer:
        before = writer.append(session_id, "user", "before")
        missing = writer.append(chatledger.uuid7(), "user", "nowhere")
        invalid = writer.append("no UUID", "user", "nowhere")
        reused = writer.append(session_id, "user", "other", message_id=before.message_id)
        again = writer.append(session_id, "user", "before", message_id=before.message_id)
        after = writer.append(session_id, "user", "after")
        assert isinstance(missing.exception(), chatledger.NotFoundError)
        with pytest.raises(chatledger.InvalidArgumentError, match="session_id"):
            invalid.result()
        with pytest.raises(chatledger.AlreadyExistsError) as caught:
            reused.result()
        assert caught.value.reason == "MESSAGE_ID_REUSED"
        assert again.result().deduplicated and again.result().seq == 1
        assert (before.result().seq, after.result().seq) == (1, 2)
        with pytest.raises(ValueError, match="role"):
            writer.append(session_id, "robot", "")  # type: ignore[arg-type]
    assert contents(client, session_id) == ["before", "after"]


def test_threads_share_it(client: Client, session_id: str) -> None:
    with client.messages.writer(max_pending=64) as writer:

        def write(name: int) -> None:
            for n in range(250):
                writer.append(session_id, "user", f"{name} {n}")

        threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stored = contents(client, session_id)
    assert len(stored) == 2000
    for name in range(8):
        mine = [text for text in stored if text.startswith(f"{name} ")]
        assert mine == [f"{name} {n}" for n in range(250)]


def test_flush_and_callbacks(client: Client, session_id: str) -> None:
    with client.messages.writer(max_pending=1) as writer:
        followed: queue.Queue[Future[Receipt]] = queue.Queue()
        first = writer.append(session_id, "user", "first")
        writer.flush()
        assert first.done() and first.cancel() is False
        first.add_done_callback(lambda _: followed.put(writer.append(session_id, "assistant", "second")))
        second = followed.get(timeout=PATIENCE)
        # The callback runs in the writer's own thread.
        second.add_done_callback(lambda _: followed.put(writer.append(session_id, "user", "third")))
        third = followed.get(timeout=PATIENCE)
        assert third.result(timeout=PATIENCE).seq == 3

        def wait(_: object) -> None:
            with pytest.raises(RuntimeError, match="can't wait for the writer"):
                writer.flush()
            followed.put(third)

        writer.append(session_id, "user", "fourth").add_done_callback(wait)
        assert followed.get(timeout=PATIENCE) is third
        assert writer.pending() == 0


def test_a_closed_writer_says_so(client: Client, session_id: str) -> None:
    writer = client.messages.writer()
    writer.append(session_id, "user", "one")
    writer.close()
    writer.close()
    with pytest.raises(chatledger.ClosedError, match="writer is closed"):
        writer.append(session_id, "user", "two")
    for wrong in ({"max_pending": 0}, {"max_pending_bytes": 0}, {"timeout": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            client.messages.writer(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_of_the_server_loses_and_doubles_nothing(own_server: Server, how: str) -> None:
    with Client(own_server.target) as client:
        sessions = [client.sessions.create().id for _ in range(2)]
        count = 6000
        stored = threading.Event()
        with client.messages.writer(max_pending=200) as writer:
            futures = []

            def write() -> None:
                for n in range(count):
                    futures.append(writer.append(sessions[n % 2], "user", str(n)))
                    if n in (1000, 3000):
                        futures[0].result(timeout=PATIENCE)
                        stored.set()

            thread = threading.Thread(target=write)
            thread.start()
            for _ in range(2):
                assert stored.wait(PATIENCE)
                stored.clear()
                getattr(own_server, how)()
                own_server.start()
            thread.join(PATIENCE)
            writer.flush(PATIENCE)
        receipts = [future.result(timeout=0) for future in futures]
        for place, session_id in enumerate(sessions):
            assert [receipt.seq for receipt in receipts[place::2]] == list(range(1, count // 2 + 1))
            assert contents(client, session_id) == [str(n) for n in range(place, count, 2)]


def test_memory_is_bounded_while_the_server_is_away(own_server: Server) -> None:
    with Client(own_server.target) as client:
        session_id = client.sessions.create().id
        own_server.kill()
        writer = client.messages.writer(max_pending=10)
        thread = threading.Thread(target=lambda: [writer.append(session_id, "user", str(n)) for n in range(100)])
        thread.start()
        wait_until(lambda: writer.pending() == 10)
        with pytest.raises(chatledger.DeadlineExceededError, match="10 messages"):
            writer.flush(timeout=0.2)
        assert thread.is_alive() and writer.pending() == 10
        own_server.start()
        thread.join(PATIENCE)
        writer.close(PATIENCE)
        assert contents(client, session_id) == [str(n) for n in range(100)]

        large = client.messages.writer(max_pending_bytes=1000)
        futures = [large.append(session_id, "user", "x" * 5000) for _ in range(3)]
        assert large.pending() <= 1
        large.close()
        assert [future.result().seq for future in futures] == [101, 102, 103]


def test_an_outage_above_the_timeout_fails_what_waited(own_server: Server) -> None:
    with Client(own_server.target) as client:
        session_id = client.sessions.create().id
        own_server.kill()
        with client.messages.writer(timeout=0.5) as writer:
            lost = writer.append(session_id, "user", "lost")
            with pytest.raises(chatledger.UnavailableError):
                lost.result(timeout=PATIENCE)
            own_server.start()
            with client.messages.writer() as patient:
                assert patient.append(session_id, "user", "kept").result(PATIENCE).seq == 1
        closing = client.messages.writer()
        own_server.kill()
        left = closing.append(session_id, "user", "left")
        with pytest.raises(chatledger.DeadlineExceededError, match="1 messages were not answered within 0.3 s"):
            closing.close(timeout=0.3)
        assert isinstance(left.exception(timeout=0), chatledger.DeadlineExceededError)


def test_a_server_that_hangs_is_not_waited_for(own_server: Server) -> None:
    assert own_server.process is not None
    with Client(own_server.target) as client:
        session_id = client.sessions.create().id
        with client.messages.writer(timeout=1.0) as writer:
            writer.append(session_id, "user", "one").result(PATIENCE)
            os.kill(own_server.process.pid, signal.SIGSTOP)
            hangs = writer.append(session_id, "user", "two")
            assert isinstance(hangs.exception(PATIENCE), chatledger.DeadlineExceededError)
            os.kill(own_server.process.pid, signal.SIGCONT)
            with client.messages.writer() as patient:
                assert patient.append(session_id, "user", "three").result(PATIENCE).seq in (2, 3)


def test_a_client_closed_under_a_writer_fails_what_waits(own_server: Server) -> None:
    client = Client(own_server.target)
    session_id = client.sessions.create().id
    writer = client.messages.writer()
    writer.append(session_id, "user", "one").result(PATIENCE)
    own_server.kill()
    lost = writer.append(session_id, "user", "two")
    client.close()
    assert isinstance(lost.exception(PATIENCE), chatledger.FailedPreconditionError)
    with pytest.raises(chatledger.ClosedError, match="client is closed"):
        writer.append(session_id, "user", "three")
    writer.close(PATIENCE)


def test_a_message_above_the_request_limit_harms_no_other() -> None:
    with server(args=["--max-request-bytes", "100000"]) as small, Client(small.target) as client:
        session_id = client.sessions.create().id
        with client.messages.writer() as writer:
            futures = [writer.append(session_id, "user", "x" * (200_000 if n == 50 else 10)) for n in range(100)]
            failure = futures[50].exception(PATIENCE)
            assert isinstance(failure, chatledger.InvalidArgumentError), failure
            assert "100000 bytes" in failure.message
        seqs = [future.result().seq for n, future in enumerate(futures) if n != 50]
        assert seqs == list(range(1, 100))


def test_a_failure_that_nobody_asks_for_is_logged(
    client: Client, session_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "chatledger"), client.messages.writer() as writer:
        writer.append("no UUID", "user", "?")
        asked = writer.append("no UUID either", "user", "?")
        writer.flush()
        assert asked.exception() is not None
        del asked
        wait_until(lambda: gc.collect() >= 0 and bool(caplog.records))
    (record,) = caplog.records
    assert "nobody asked" in record.getMessage() and "session_id" in record.getMessage()
