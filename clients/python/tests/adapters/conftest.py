"""Fixtures of the adapters' tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import chatledger


@pytest.fixture
def name() -> str:
    """A session's name that no other test has."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def ledger(chatledger_target: str) -> Iterator[chatledger.Client]:
    """A look at what is stored, as another language has it."""
    with chatledger.Client(chatledger_target) as client:
        yield client
