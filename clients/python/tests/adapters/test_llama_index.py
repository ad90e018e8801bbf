"""LlamaIndex's chat stores."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("llama_index.core")

from cases import NAME, OBJECT, VALID_TEXT, foreign, in_order, write_and_poll
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.storage.chat_store.base_db import MessageStatus
from pydantic import BaseModel

import chatledger
from chatledger.llama_index import ChatledgerBaseChatStore, ChatledgerChatStore, of_message, of_payload

BLOCK = st.one_of(
    st.builds(TextBlock, text=VALID_TEXT),
    st.builds(ToolCallBlock, tool_call_id=NAME, tool_name=NAME, tool_kwargs=OBJECT),
    st.builds(ImageBlock, url=st.just("https://example.com/x.png")),
)
MESSAGE = st.builds(
    ChatMessage,
    role=st.sampled_from(MessageRole),
    blocks=st.lists(BLOCK, max_size=3),
    additional_kwargs=st.fixed_dictionaries({}, optional={"tool_call_id": NAME, "extra": OBJECT}),
)


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def texts(messages: list[ChatMessage] | None) -> list[str | None]:
    return [message.content for message in messages or []]


@given(messages=st.lists(MESSAGE, min_size=1, max_size=5))
def test_messages_come_back_as_they_were(chatledger_target: str, messages: list[ChatMessage]) -> None:
    async def round_trip() -> None:
        store = ChatledgerChatStore(chatledger_target)
        key = chatledger.uuid7()
        await store.add_messages(key, messages)
        assert await store.get_messages(key) == messages
        await store.aclose()

    asyncio.run(round_trip())


@given(message=MESSAGE)
def test_a_payload_is_read_as_llama_index_reads_it(message: ChatMessage) -> None:
    payload = of_message(message).payload or b""
    wanted, found = ChatMessage.model_validate(json.loads(payload)), of_payload(payload)
    assert found == wanted == message
    assert found is not None and found.model_fields_set == wanted.model_fields_set
    assert [type(block) for block in found.blocks] == [type(block) for block in wanted.blocks]


async def test_a_long_history(chatledger_target: str, name: str) -> None:
    store, older = ChatledgerChatStore(chatledger_target), ChatledgerBaseChatStore(chatledger_target)
    messages = [user(str(n)) for n in range(1_200)]
    await store.add_messages(name, messages)
    assert await store.get_messages(name) == messages == await older.aget_messages(name)
    assert await asyncio.to_thread(older.get_messages, name) == messages
    await store.aclose()
    await older.aclose()


@pytest.mark.parametrize("before", [1, 600])
async def test_what_other_programs_wrote(
    chatledger_target: str, name: str, ledger: chatledger.Client, before: int
) -> None:
    store, older = ChatledgerChatStore(chatledger_target), ChatledgerBaseChatStore(chatledger_target)
    own = [user(str(n)) for n in range(before)]
    await store.add_messages(name, own)
    others = foreign("llama-index")
    ledger.messages.append_batch(chatledger.session_id_of(name), others)
    wanted = [*own, *(user(other.content) for other in others)]
    assert await store.get_messages(name) == wanted == await older.aget_messages(name)
    await store.aclose()
    await older.aclose()


async def test_the_store(chatledger_target: str, name: str) -> None:
    store = ChatledgerChatStore(chatledger_target)
    assert await store.get_messages(name) == [] and await store.count_messages(name) == 0
    await store.delete_messages(name)
    await store.add_message(name, user("1"))
    await store.add_messages(name, [user("2"), user("3"), user("4")])
    await store.add_message(name, user("old"), status=MessageStatus.ARCHIVED)
    assert texts(await store.get_messages(name)) == ["1", "2", "3", "4"]
    assert texts(await store.get_messages(name, limit=2, offset=1)) == ["2", "3"]
    assert texts(await store.get_messages(name, status=None)) == ["1", "2", "3", "4", "old"]
    assert await store.count_messages(name, status=MessageStatus.ARCHIVED) == 1
    assert texts(await store.archive_oldest_messages(name, 1)) == ["1"]
    assert texts(await store.get_messages(name, status=MessageStatus.ARCHIVED)) == ["1", "old"]
    assert texts(await store.delete_oldest_messages(name, 1)) == ["2"]
    deleted = await store.delete_message(name, 4)
    assert deleted == user("4") and await store.delete_message(name, 4) is None
    assert texts(await store.get_messages(name)) == ["3"]
    assert name in await store.get_keys()
    await store.delete_messages(name, status=MessageStatus.ARCHIVED)
    assert texts(await store.get_messages(name, status=None)) == ["3"]
    await store.delete_messages(name)
    assert await store.get_messages(name, status=None) == []


async def test_set_messages_stores_only_what_is_new(
    chatledger_target: str, name: str, ledger: chatledger.Client
) -> None:
    store = ChatledgerChatStore(chatledger_target)
    await store.set_messages(name, [user("1"), user("2"), user("3")])
    await store.set_messages(name, [user("1"), user("2"), user("3"), user("4")])
    session_id = chatledger.session_id_of(name)
    assert ledger.sessions.get(session_id).last_seq == 4
    await store.set_messages(name, [user("1"), user("other")])
    assert texts(await store.get_messages(name)) == ["1", "other"]
    assert [m.seq for m in ledger.messages.list(session_id)] == [1, 5]
    await store.set_messages(name, [])
    assert await store.get_messages(name) == []


async def test_a_memory_uses_it(chatledger_target: str, name: str) -> None:
    store = ChatledgerChatStore(chatledger_target)
    memory = Memory(sql_store=store, session_id=name, token_limit=1000)  # type: ignore[arg-type]
    await memory.aput(user("one"))
    await memory.aput_messages([ChatMessage(role="assistant", content="two")])
    assert texts(await memory.aget()) == ["one", "two"]
    await memory.areset()
    assert await memory.aget() == []


def test_the_older_store(chatledger_target: str, name: str, ledger: chatledger.Client) -> None:
    store = ChatledgerBaseChatStore(client=ledger)
    memory = ChatMemoryBuffer.from_defaults(chat_store=store, chat_store_key=name, token_limit=1000)
    for n in range(4):
        memory.put(user(str(n)))
    assert texts(memory.get_all()) == ["0", "1", "2", "3"]
    assert store.delete_message(name, 1) == user("1")
    assert store.delete_message(name, 9) is None
    assert store.delete_last_message(name) == user("3")
    assert texts(store.get_messages(name)) == ["0", "2"]
    assert name in store.get_keys()
    store.set_messages(name, [user("0"), user("new")])
    assert texts(store.delete_messages(name)) == ["0", "new"]
    assert store.delete_messages(name) is None and store.get_messages(name) == []


async def test_the_older_store_awaited(aclient: chatledger.AsyncClient, name: str) -> None:
    store = ChatledgerBaseChatStore(client=aclient)
    await store.async_add_message(name, user("1"))
    await store.aset_messages(name, [user("1"), user("2")])
    assert texts(await store.aget_messages(name)) == ["1", "2"]
    assert await store.adelete_last_message(name) == user("2")
    assert name in await store.aget_keys()
    assert await store.adelete_message(name, 0) == user("1")
    assert name not in await store.aget_keys()
    assert await store.adelete_messages(name) is None


def test_others_can_read_it(chatledger_target: str, name: str, ledger: chatledger.Client) -> None:
    store = ChatledgerBaseChatStore(client=ledger)
    call = ToolCallBlock(tool_call_id="c1", tool_name="search", tool_kwargs={})
    store.add_message(name, ChatMessage(role="assistant", blocks=[TextBlock(text="Let me see."), call]))
    store.add_message(name, ChatMessage(role="tool", content="found", additional_kwargs={"tool_call_id": "c1"}))
    first, second = ledger.messages.list(chatledger.session_id_of(name))
    assert (first.role, first.content, first.metadata["tools"]) == ("assistant", "Let me see.", ["search"])
    assert (second.role, second.content, second.metadata["call_id"]) == ("tool", "found", "c1")
    ledger.messages.append(first.session_id, "user", "from elsewhere")
    assert store.get_messages(name)[2] == user("from elsewhere")


class Function(BaseModel):
    name: str


class ToolCall(BaseModel):
    """A call as the OpenAI SDK has it."""

    id: str
    function: Function


@pytest.mark.parametrize(
    ("call", "tools"),
    [
        (ToolCall(id="c1", function=Function(name="search")), ["search"]),
        ({"id": "c1", "function": {"name": "search"}}, ["search"]),
        ({"name": "search", "arguments": "{}"}, ["search"]),
        (Function(name="search"), ["search"]),
        ({"function": "odd"}, None),
        ("odd", None),
    ],
)
def test_tools_are_named_in_any_form(call: object, tools: list[str] | None) -> None:
    message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [call]})
    assert (of_message(message).metadata or {}).get("tools") == tools


async def test_a_key_without_messages_is_none(chatledger_target: str, ledger: chatledger.Client) -> None:
    user_id = ledger.users.create(f"{chatledger.uuid7()}@example.com").id
    store = ChatledgerChatStore(chatledger_target, user_id=user_id)
    older = ChatledgerBaseChatStore(chatledger_target, user_id=user_id)
    empty = [
        lambda key: store.set_messages(key, []),
        lambda key: store.delete_messages(key),
        lambda key: store.delete_oldest_messages(key, 1),
        lambda key: older.adelete_messages(key),
    ]
    names = sorted(chatledger.uuid7() for _ in range(20))
    for name in names:
        await store.add_message(name, user("1"))
    assert sorted(await store.get_keys()) == names
    for name, act in zip(names, empty):
        await act(name)
    assert sorted(await store.get_keys()) == names[4:]
    await store.aclose()
    await older.aclose()


async def test_eight_writers_and_a_reader(chatledger_target: str, name: str) -> None:
    stores = [ChatledgerChatStore(chatledger_target) for _ in range(8)]
    found = await write_and_poll(
        lambda number, n: stores[number].add_message(name, user(f"{number} {n}")),
        lambda: stores[0].get_messages(name),
    )
    assert in_order([message.content for message in found])
