"""Ids that are made here."""

from __future__ import annotations

import time
import uuid

import chatledger


def test_uuid7() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid.UUID(chatledger.uuid7()) for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1000
    for each in made:
        assert (each.version, each.variant) == (7, uuid.RFC_4122)
        assert before <= each.int >> 80 <= after


def test_session_ids_of_frameworks() -> None:
    assert chatledger.NAMESPACE == uuid.uuid5(uuid.NAMESPACE_DNS, "chatledger.session")
    assert chatledger.session_id_of("user-123") == str(uuid.uuid5(chatledger.NAMESPACE, "user-123"))
    assert chatledger.session_id_of("x" * 36) == str(uuid.uuid5(chatledger.NAMESPACE, "x" * 36))
    session = chatledger.uuid7()
    assert chatledger.session_id_of(session) == chatledger.session_id_of(session.upper()) == session
