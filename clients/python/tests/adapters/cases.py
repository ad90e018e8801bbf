"""The parts that the tests of the adapters share: texts and JSON to try, and many writers with a reader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from chatledger import NewMessage

# Each example is a call or two to a real server; how long that takes says nothing.
settings.register_profile(
    "server", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("server")

TEXT = st.text(max_size=50)
"""Any text, also with what PostgreSQL can't hold: NUL and lone surrogates."""

VALID_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
"""Text that UTF-8 can hold, for frameworks that refuse any other themselves."""

NAME = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | VALID_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALID_TEXT, inner, max_size=3),
    max_leaves=8,
)

OBJECT = st.dictionaries(NAME, JSON, max_size=3)


async def write_and_poll(
    write: Callable[[int, int], Awaitable[None]], read: Callable[[], Awaitable[Sequence[Any]]], each: int = 20
) -> list[Any]:
    """Eight writers, and a reader that polls: each read extends the one before. Returns what is there at the end."""
    writing = True

    async def writer(number: int) -> None:
        for n in range(each):
            await write(number, n)

    async def reader() -> int:
        before: list[Any] = []
        reads = 0
        while writing:
            now = list(await read())
            assert now[: len(before)] == before, "a read took back what an earlier one had"
            before = now
            reads += 1
        return reads

    polling = asyncio.create_task(reader())
    await asyncio.gather(*map(writer, range(8)))
    writing = False
    assert await polling > 1
    return list(await read())


def in_order(texts: Sequence[str], each: int = 20) -> bool:
    """Whether all is there once, and each writer's in its own order; texts are ``writer n``."""
    return len(texts) == 8 * each and all(
        [text for text in texts if text.startswith(f"{number} ")] == [f"{number} {n}" for n in range(each)]
        for number in range(8)
    )


def foreign(framework: str) -> list[NewMessage]:
    """Messages that other programs wrote into a framework's session: other frameworks' forms, odd payloads, none."""
    forms: dict[str, bytes] = {
        "langchain": b'{"type":"human","data":{"content":"no","type":"human"}}',
        "openai-agents": b'{"role":"user","content":"no"}',
        "llama-index": b'{"role":"user","additional_kwargs":{},"blocks":[{"block_type":"text","text":"no"}]}',
        "agent-framework": b'{"type":"message","role":"user","contents":[{"type":"text","text":"no"}]}',
        "pydantic-ai": b'{"id":"1","parent_id":null,"parent_session":null,"message":{"kind":"request","parts":[]}}',
    }
    others = [
        NewMessage("user", name, payload=payload, metadata={"framework": name})
        for name, payload in forms.items()
        if name != framework
    ]
    odd = [b"", b"\x00\xff", b"null", b"[]", b"1", b'"role content"', b"{}", b'{"type":[]}', b'{"type":"event"}']
    return [*others, *(NewMessage("user", f"odd {n}", payload=each) for n, each in enumerate(odd)), NewMessage("user", "none")]
