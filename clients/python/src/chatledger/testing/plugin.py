"""The pytest fixtures; pytest finds them by the package's entry point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import Server


@pytest.fixture(scope="session")
def chatledger_server() -> Iterator[Server]:
    """A chatledger server with a database of its own, for the whole test session."""
    # The import stands here: pytest loads this file in every run, and most don't use it.
    from . import server

    with server() as running:
        yield running


@pytest.fixture
def chatledger_target(chatledger_server: Server) -> str:
    """The address of that server, as ``host:port``."""
    return chatledger_server.target
