"""Pydantic AI's conversation store."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime

import pytest

pytest.importorskip("pydantic_ai.conversation_store")

from cases import NAME, OBJECT, VALID_TEXT
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, InMemoryConversationStore
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

import chatledger
from chatledger.pydantic_ai import ChatledgerConversationStore

NOW = st.datetimes(
    datetime.datetime(2020, 1, 1), datetime.datetime(2030, 1, 1), timezones=st.just(datetime.timezone.utc)
)
REQUEST = st.builds(
    ModelRequest,
    parts=st.lists(
        st.one_of(
            st.builds(UserPromptPart, content=VALID_TEXT, timestamp=NOW),
            st.builds(SystemPromptPart, content=VALID_TEXT, timestamp=NOW),
            st.builds(ToolReturnPart, tool_name=NAME, content=VALID_TEXT | OBJECT, tool_call_id=NAME, timestamp=NOW),
        ),
        min_size=1,
        max_size=3,
    ),
    instructions=st.none() | VALID_TEXT,
)
RESPONSE = st.builds(
    ModelResponse,
    parts=st.lists(
        st.one_of(
            st.builds(TextPart, content=VALID_TEXT),
            st.builds(ThinkingPart, content=VALID_TEXT),
            st.builds(ToolCallPart, tool_name=NAME, args=OBJECT, tool_call_id=NAME),
        ),
        min_size=1,
        max_size=3,
    ),
    usage=st.builds(RequestUsage, input_tokens=st.integers(0, 9999), output_tokens=st.integers(0, 9999)),
    model_name=NAME,
    timestamp=NOW,
)


def said(text: str) -> ModelMessage:
    return ModelRequest(parts=[UserPromptPart(content=text)])


def texts(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    return [str(part.content) for message in conversation.messages for part in message.parts if hasattr(part, "content")]


@given(messages=st.lists(REQUEST | RESPONSE, min_size=1, max_size=5))
def test_messages_come_back_as_they_were(chatledger_target: str, messages: list[ModelMessage]) -> None:
    async def round_trip() -> None:
        store = ChatledgerConversationStore(chatledger_target)
        conversation = Conversation(messages=list(messages), conversation_id=chatledger.uuid7())
        await store.save(conversation)
        loaded = await store.load(conversation.conversation_id)
        assert loaded is not None and loaded.messages == messages
        assert loaded.revision == conversation.revision
        await store.aclose()

    asyncio.run(round_trip())


async def test_runs_are_saved_and_go_on(chatledger_target: str, name: str, ledger: chatledger.Client) -> None:
    agent = Agent(TestModel(custom_output_text="hello"))
    store = ChatledgerConversationStore(chatledger_target)
    for turn in range(3):
        conversation = await store.load(name) or Conversation(conversation_id=name)
        result = await agent.run(f"turn {turn}", conversation=conversation)
        entries = await store.save(result, scope="ada")
        assert len(entries) == 2
    # This store is like another process: it has nothing in memory.
    other = ChatledgerConversationStore(chatledger_target)
    loaded = await other.load(name, scope="ada")
    assert texts(loaded) == ["turn 0", "hello", "turn 1", "hello", "turn 2", "hello"]
    assert loaded is not None and loaded.usage == result.conversation.usage and loaded.usage.requests == 3
    assert texts(await other.load(name, limit=2)) == ["turn 2", "hello"]
    assert await other.load(name, scope="eve") is None
    messages = [m for m in ledger.messages.list(chatledger.session_id_of(name)) if m.metadata["kind"] == "entry"]
    assert [(m.role, m.content) for m in messages[:2]] == [("user", "turn 0"), ("assistant", "hello")]
    assert messages[1].metadata["usage"]["output_tokens"] > 0
    assert len(messages) == 6


async def test_of_two_saves_one_is_told(chatledger_target: str, name: str) -> None:
    store = ChatledgerConversationStore(chatledger_target)
    await store.save(Conversation(messages=[said("0")], conversation_id=name))
    with pytest.raises(ConversationConflict):
        await store.save(Conversation(messages=[said("1")], conversation_id=name))
    copies = [await store.load(name) for _ in range(8)]
    for number, copy in enumerate(copies):
        assert copy is not None
        copy.messages.append(said(f"from {number}"))
    stores = [ChatledgerConversationStore(chatledger_target) for _ in copies]
    results = await asyncio.gather(
        *(each.save(copy) for each, copy in zip(stores, copies, strict=True) if copy), return_exceptions=True
    )
    conflicts = [result for result in results if isinstance(result, ConversationConflict)]
    assert len(conflicts) == 7
    assert len(texts(await store.load(name))) == 2


async def test_eight_writers_and_a_reader(chatledger_target: str, name: str) -> None:
    await ChatledgerConversationStore(chatledger_target).save(Conversation(conversation_id=name))
    writing = True

    async def write(number: int) -> None:
        store = ChatledgerConversationStore(chatledger_target)
        for n in range(5):
            while True:
                conversation = await store.load(name)
                assert conversation is not None
                conversation.messages.append(said(f"{number} {n}"))
                try:
                    await store.save(conversation)
                    break
                except ConversationConflict:
                    continue

    async def read() -> None:
        store, before = ChatledgerConversationStore(chatledger_target), list[str]()
        while writing:
            now = texts(await store.load(name))
            assert now[: len(before)] == before
            before = now

    reading = asyncio.create_task(read())
    await asyncio.gather(*map(write, range(8)))
    writing = False
    await reading
    stored = texts(await ChatledgerConversationStore(chatledger_target).load(name))
    assert len(stored) == 40
    for number in range(8):
        assert [text for text in stored if text.startswith(f"{number} ")] == [f"{number} {n}" for n in range(5)]


async def test_branches_and_forks_share_what_is_stored(
    chatledger_target: str, name: str, ledger: chatledger.Client
) -> None:
    store = ChatledgerConversationStore(chatledger_target)
    conversation = Conversation(messages=[said("a"), said("b"), said("c")], conversation_id=name)
    entries = await store.save(conversation)
    branched = await ChatledgerConversationStore(chatledger_target).branch(
        name, at=1, expected_revision=conversation.revision
    )
    branched.messages.append(said("B"))
    await store.save(branched)
    fork_id = f"{name}-fork"
    forked = await ChatledgerConversationStore(chatledger_target).fork(name, new_conversation_id=fork_id)
    forked.messages.append(said("C"))
    await ChatledgerConversationStore(chatledger_target).save(forked)
    forked.messages.append(said("D"))
    await ChatledgerConversationStore(chatledger_target).save(forked)
    again = await ChatledgerConversationStore(chatledger_target).fork(fork_id, at=3)

    fresh = ChatledgerConversationStore(chatledger_target)
    assert texts(await fresh.load(fork_id)) == ["a", "B", "C", "D"]
    assert texts(await fresh.load(fork_id, limit=3)) == ["B", "C", "D"]
    assert texts(await fresh.load(again.conversation_id)) == ["a", "B", "C"]
    assert texts(await fresh.load(name)) == ["a", "B"]
    back = await fresh.branch(name, from_entry=entries[2].id, expected_revision=branched.revision)
    assert texts(back) == ["a", "b", "c"] == texts(await ChatledgerConversationStore(chatledger_target).load(name))
    # The fork stored its own two messages, and shares the others.
    own = [m for m in ledger.messages.list(chatledger.session_id_of(fork_id)) if m.metadata["kind"] == "entry"]
    assert [m.content for m in own] == ["C", "D"]


async def test_lists_entries_and_deletes(chatledger_target: str, name: str) -> None:
    store = ChatledgerConversationStore(chatledger_target)
    scope = f"scope-{name}"
    for n in range(3):
        await store.save(Conversation(messages=[said(str(n))], conversation_id=f"{name}-{n}"), scope=scope)
    assert [r.conversation_id for r in await store.list_conversations(scope=scope)] == [f"{name}-{n}" for n in (2, 1, 0)]
    assert len(await store.list_conversations(scope=scope, limit=2)) == 2
    (entry,) = await store.load_entries(f"{name}-0") or []
    assert await ChatledgerConversationStore(chatledger_target).read_entry(entry.id) == entry
    with pytest.raises(LookupError):
        await store.read_entry(chatledger.uuid7())
    await store.delete(f"{name}-0", scope=scope)
    assert await store.load(f"{name}-0") is None
    assert len(await store.list_conversations(scope=scope)) == 2
    with pytest.raises(ConversationConflict):
        await store.delete_record(f"{name}-0", expected_revision="gone")
    await store.save(Conversation(messages=[said("new")], conversation_id=f"{name}-0"), scope=scope)
    assert texts(await store.load(f"{name}-0")) == ["new"]


async def test_records_are_as_those_of_the_framework(chatledger_target: str, name: str) -> None:
    """The answers are those of the framework's own store in memory, for the same calls."""
    ours, theirs = ChatledgerConversationStore(chatledger_target), InMemoryConversationStore()
    agent = Agent(TestModel())
    result = await agent.run("hi", conversation=Conversation(conversation_id=name))
    copy = dataclasses.replace(result.conversation)
    await ours.save(result, scope="s")
    await theirs.save(copy, scope="s")
    mine, other = await ours.read_record(name), await theirs.read_record(name)
    assert mine is not None and other is not None
    same = {field: getattr(other, field) for field in ("head_id", "revision", "updated_at")}
    assert dataclasses.replace(mine, **same) == other
