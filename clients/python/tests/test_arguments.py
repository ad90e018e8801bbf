"""An argument that can't be sent is refused by ValueError or TypeError with the field's name."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from chatledger import AsyncClient, Citation, Client, NewMessage, NewProfile, uuid7

LONE = "half a \ud83e"
"""A surrogate without its other half: Python has it, UTF-8 doesn't."""

DEEP: dict[str, Any] = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}

MESSAGES: list[tuple[str, dict[str, Any]]] = [
    ("session_id", {"session_id": LONE}),
    ("message_id", {"message_id": LONE}),
    ("role", {"role": ["user"]}),
    ("content", {"content": LONE}),
    ("content", {"content": b"bytes"}),
    ("selected_text", {"selected_text": LONE}),
    ("selected_text", {"selected_text": 5}),
    ("metadata", {"metadata": {"a": LONE}}),
    ("metadata", {"metadata": []}),
    ("metadata", {"metadata": ["a"]}),
    ("metadata", {"metadata": {"a": object()}}),
    ("metadata", {"metadata": DEEP}),
    ("payload", {"payload": "abc"}),
    ("citations", {"citations": 5}),
    ("citations", {"citations": "d"}),
    ("citations", {"citations": Citation("d")}),
    (r"citations\[1\]", {"citations": [Citation("d"), "d"]}),
    (r"citations\[0\].score", {"citations": [Citation("d", score="hi")]}),  # type: ignore[arg-type]
    (r"citations\[0\].document_id", {"citations": [Citation(LONE)]}),
    ("create_time", {"create_time": datetime.date.today()}),
    ("create_time", {"create_time": datetime.datetime(2020, 1, 1)}),
]


@pytest.mark.parametrize(("field", "wrong"), MESSAGES)
async def test_messages(field: str, wrong: dict[str, Any]) -> None:
    given = {"session_id": uuid7(), "role": "user"} | wrong
    # No call gets as far as a server.
    client, aclient = Client("127.0.0.1:9"), AsyncClient("127.0.0.1:9")
    writer, awriter = client.messages.writer(), aclient.messages.writer()
    for append in (client.messages.append, writer.append):
        with pytest.raises((TypeError, ValueError), match=rf"^{field}\W"):
            append(**given)
    for aappend in (aclient.messages.append, awriter.append):
        with pytest.raises((TypeError, ValueError), match=rf"^{field}\W"):
            await aappend(**given)
    assert writer.pending() == awriter.pending() == 0


CALLS: list[tuple[str, Callable[[Any], object]]] = [
    ("session_id", lambda c: c.sessions.get(LONE)),
    ("title", lambda c: c.sessions.create(title=5)),
    ("title", lambda c: c.sessions.update("id", title=LONE)),
    ("metadata", lambda c: c.sessions.update("id", metadata=[])),
    ("metadata", lambda c: c.messages.update("id", "id", metadata={"a": LONE})),
    ("order_by", lambda c: c.sessions.list(order_by=["created"])),
    ("metadata_contains", lambda c: c.sessions.list(metadata_contains=["a"])),
    ("title_contains", lambda c: list(c.sessions.list(title_contains=LONE))),
    ("limit", lambda c: c.sessions.list(limit="5")),
    ("page_size", lambda c: c.sessions.list(page_size="5")),
    ("page_token", lambda c: list(c.sessions.list(page_token=5))),
    ("session_ids", lambda c: c.sessions.claim("id", "id")),
    ("claim_secrets", lambda c: c.sessions.claim("id", ["id"], claim_secrets="secret")),
    ("messages", lambda c: c.messages.append_batch("id", ["text"])),
    ("messages", lambda c: c.messages.append_batch("id", NewMessage("user"))),
    ("expected_last_seq", lambda c: c.messages.append_batch("id", [], expected_last_seq="1")),
    ("content", lambda c: c.messages.append_batch("id", [NewMessage("user", LONE)])),
    ("after_seq", lambda c: list(c.messages.list("id", after_seq=2**70))),
    ("after_seq", lambda c: c.messages.watch("id", after_seq="1")),
    ("session_id", lambda c: c.messages.watch(LONE)),
    ("order", lambda c: c.messages.list("id", order="up")),
    ("roles", lambda c: c.messages.list("id", roles="user")),
    ("roles", lambda c: c.messages.list("id", roles=5)),
    ("fields", lambda c: c.messages.search("x", fields=["payload"])),
    ("query", lambda c: list(c.messages.search(LONE))),
    ("citations", lambda c: c.citations.add("id", "id", ["d"])),
    ("citation_index", lambda c: c.citations.delete("id", "id", "1")),
    ("metadata", lambda c: c.documents.upsert("d", metadata=[])),
    ("email", lambda c: c.users.create(LONE)),
    ("is_active", lambda c: c.users.update("id", is_active="yes")),
    ("is_active", lambda c: list(c.users.list(is_active="yes"))),
    ("profile", lambda c: c.users.create("a@b.c", profile={})),
    ("profile.learning_goals", lambda c: c.users.create("a@b.c", profile=NewProfile(learning_goals=LONE))),
    ("preferences", lambda c: c.profiles.update("id", preferences=[])),
    ("experience_level", lambda c: c.profiles.update("id", experience_level=5)),
    ("since", lambda c: c.analytics.top_documents(since=datetime.date.today())),
    ("since", lambda c: c.analytics.daily_volume(since="today")),
    ("limit", lambda c: c.analytics.top_documents(limit="5")),
]


@pytest.mark.parametrize(("field", "use"), CALLS)
def test_calls(field: str, use: Callable[[Client], object]) -> None:
    with Client("127.0.0.1:9") as client, pytest.raises((TypeError, ValueError), match=rf"^{field}\W"):
        use(client)


def test_a_password_is_not_shown() -> None:
    with Client("127.0.0.1:9") as client, pytest.raises(ValueError, match="^password") as caught:
        client.users.set_password("id", "secret" + LONE)
    assert "secret" not in str(caught.value)
