"""The retries: what is tried again, and until when."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import chatledger
from chatledger import AsyncClient, Client
from chatledger._settings import LONGEST_PAUSE, Attempts, Backoff
from chatledger.errors import of_code
from chatledger.testing import Server


def test_calls_survive_a_restart(own_server: Server) -> None:
    with Client(own_server.target) as client:
        session_id = client.sessions.create().id
        own_server.kill()
        starting = threading.Thread(target=own_server.start)
        starting.start()
        receipt = client.messages.append(session_id, "user", "through an outage")
        assert receipt.seq == 1 and client.sessions.get(session_id).last_seq == 1
        starting.join()


async def test_awaited_calls_survive_a_restart(own_server: Server) -> None:
    async with AsyncClient(own_server.target) as client:
        session_id = (await client.sessions.create()).id
        own_server.kill()
        starting = asyncio.create_task(asyncio.to_thread(own_server.start))
        assert (await client.messages.append(session_id, "user", "through an outage")).seq == 1
        await starting


def test_the_timeout_ends_it() -> None:
    # Port 9 (discard) has no server here.
    with Client("127.0.0.1:9", timeout=0.5) as client:
        began = time.monotonic()
        with pytest.raises(chatledger.UnavailableError):
            client.sessions.create()
        assert 0.1 < time.monotonic() - began < 5
        with pytest.raises(chatledger.UnavailableError):
            client.with_timeout(0.2).sessions.create()


def test_what_is_tried_again() -> None:
    away = of_code("UNAVAILABLE", "away")
    full = of_code("RESOURCE_EXHAUSTED", "full", retry_after=1.0)
    too_large = of_code("RESOURCE_EXHAUSTED", "too large")
    late = of_code("DEADLINE_EXCEEDED", "late")
    often = of_code("RESOURCE_EXHAUSTED", "too often", reason="RATE_LIMITED", retry_after=3.0)
    wrong = of_code("UNAUTHENTICATED", "no", reason="INVALID_CREDENTIALS", metadata={"cause": "UNKNOWN"})
    used_up = of_code("RESOURCE_EXHAUSTED", "no more", reason="QUOTA_EXCEEDED")
    assert Attempts(None, safe=True).pause_after(away) > 0
    assert Attempts(None, safe=False).pause_after(full) >= 1.0
    assert Attempts(None, safe=False).pause_after(often) >= 3.0
    for safe, error in ((False, away), (True, too_large), (True, late), (True, wrong), (True, used_up)):
        with pytest.raises(type(error)):
            Attempts(None, safe=safe).pause_after(error)
    with pytest.raises(chatledger.OverloadedError):
        Attempts(0.5, safe=True).pause_after(full)


def test_pauses_grow_and_are_bounded() -> None:
    backoff = Backoff()
    pauses = [backoff.pause() for _ in range(20)]
    assert pauses[0] < 0.1 < pauses[5] and LONGEST_PAUSE / 2 <= pauses[-1] <= LONGEST_PAUSE
    assert backoff.pause(at_least=7.0) == 7.0
    backoff.reset()
    assert backoff.pause() < 0.1
