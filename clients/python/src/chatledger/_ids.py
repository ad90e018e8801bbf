"""Ids that are made on the client, so that a request can be sent again."""

from __future__ import annotations

import os
import time
import uuid

Id = str | uuid.UUID
"""An id as callers give it; they get ``str`` back, in canonical form."""

NAMESPACE = uuid.UUID("5e470c61-108d-585c-a313-8657a921e990")
"""The namespace of session ids that are derived from the string ids of frameworks.

It is ``uuid5(NAMESPACE_DNS, "chatledger.session")``. A framework's session ``name`` is the session
``uuid5(NAMESPACE, name)``, so that programs in other languages find it too.
"""


def uuid7() -> str:
    """A new UUIDv7 in canonical form: time first, so that the database's index grows at its end.

    Without any state, so that threads and forked processes can't give the same id.
    """
    # 48 bits of milliseconds, version 7, 12 random bits, variant 2, 62 random bits.
    time_part = f"{time.time_ns() // 1_000_000:012x}"
    random = os.urandom(10).hex()
    variant = "89ab"[int(random[3], 16) & 3]
    return f"{time_part[:8]}-{time_part[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def session_id_of(name: str) -> str:
    """The session that belongs to a framework's string id.

    A name that is a UUID is that session; any other is the UUIDv5 of the name in :data:`NAMESPACE`.
    """
    try:
        return str(uuid.UUID(name)) if len(name) == 36 else str(uuid.uuid5(NAMESPACE, name))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, name))
