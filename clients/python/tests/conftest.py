"""Fixtures: clients of one real server, each test with a session of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import chatledger
from chatledger.testing import Server, server


@pytest.fixture
def client(chatledger_target: str) -> Iterator[chatledger.Client]:
    with chatledger.Client(chatledger_target) as client:
        yield client


@pytest.fixture
async def aclient(chatledger_target: str) -> AsyncIterator[chatledger.AsyncClient]:
    async with chatledger.AsyncClient(chatledger_target) as client:
        yield client


@pytest.fixture
def session_id(client: chatledger.Client) -> str:
    return client.sessions.create(title="test").id


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may stop and start."""
    with server() as running:
        yield running
