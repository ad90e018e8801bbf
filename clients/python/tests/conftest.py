"""Fixtures: clients of one real server, each test with a session of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import chatledger
from chatledger.testing import Server, server
from secured import Secured, secured_server


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


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A server over TLS that asks for credentials."""
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        yield running
