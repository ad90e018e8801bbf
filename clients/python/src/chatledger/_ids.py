"""Ids that are made on the client, so that a request can be sent again."""

from __future__ import annotations

import os
import random
import time
import uuid

Id = str | uuid.UUID
"""An id as callers give it; they get ``str`` back, in canonical form."""

NAMESPACE = uuid.UUID("5e470c61-108d-585c-a313-8657a921e990")
"""The namespace of session ids that are derived from the string ids of frameworks.

It is ``uuid5(NAMESPACE_DNS, "chatledger.session")``. A framework's session ``name`` is the session
``uuid5(NAMESPACE, name)``, so that programs in other languages find it too.
"""


# Random numbers come from a generator that the system seeds. Asking the system for each id would give up the
# interpreter's lock each time, which slows a writer down, and ids need not be hard to guess. A forked process must not go on with the same numbers.
_random = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def uuid7() -> str:
    """A new UUIDv7 in canonical form: time first, so that the database's index grows at its end."""
    # 48 bits of milliseconds, version 7, 12 random bits, variant 2, 62 random bits.
    bits = _random.getrandbits(74)
    value = time.time_ns() // 1_000_000 << 80 | 7 << 76 | bits >> 62 << 64 | 2 << 62 | bits & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def session_id_of(name: str) -> str:
    """The session that belongs to a framework's string id.

    A name that is a UUID is that session; any other is the UUIDv5 of the name in :data:`NAMESPACE`.
    """
    try:
        return str(uuid.UUID(name)) if len(name) == 36 else str(uuid.uuid5(NAMESPACE, name))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, name))
