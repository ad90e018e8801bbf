"""Limits and quotas, against a server that has some: what is waited for, and what is told at once."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

import chatledger
from chatledger import AsyncClient, Client
from chatledger.testing import Server, server

LIMITS = """
[methods.ListDocuments]
requests_per_second = 1

[storage]
hard = { sessions = 3, messages = 2 }
"""


@pytest.fixture
def limited(tmp_path: pathlib.Path) -> Iterator[Server]:
    (tmp_path / "limits.toml").write_text(LIMITS)
    with server(args=["--limits-file", str(tmp_path / "limits.toml")]) as running:
        yield running


def test_a_rate_is_waited_for(limited: Server) -> None:
    with Client(limited.target) as client:
        hasty = client.with_timeout(0.2)
        with pytest.raises(chatledger.RateLimitedError) as caught:
            while True:
                list(hasty.documents.list())
        assert "ListDocuments" in caught.value.limit and caught.value.retry_after is not None
        for _ in range(2):
            assert list(client.documents.list()) == []


async def test_a_quota_is_not(limited: Server) -> None:
    """No timeout would end these, if they were tried again."""
    with Client(limited.target, timeout=None) as client:
        session = client.sessions.create()
        with client.messages.writer(timeout=None) as writer:
            futures = [writer.append(session.id, "user", str(n)) for n in range(3)]
            assert [future.result(30).seq for future in futures[:2]] == [1, 2]
            with pytest.raises(chatledger.QuotaExceededError) as caught:
                futures[2].result(30)
        assert "messages" in caught.value.limit and caught.value.retry_after is None
        for _ in range(2):
            client.sessions.create()
        with pytest.raises(chatledger.QuotaExceededError) as caught:
            client.sessions.create()
        assert "sessions" in caught.value.limit
    async with AsyncClient(limited.target, timeout=None) as aclient, aclient.messages.writer(timeout=None) as awriter:
        with pytest.raises(chatledger.QuotaExceededError):
            await (await awriter.append(session.id, "user", "more"))
