"""LangChain's chat message history."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from cases import JSON, NAME, OBJECT, TEXT, foreign, in_order, write_and_poll
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
)

import chatledger
from chatledger.langchain import ChatledgerChatMessageHistory, of_message, of_payload

CONTENT = TEXT | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=3)
COMMON = {"id": st.none() | NAME, "name": st.none() | NAME, "additional_kwargs": OBJECT}
TOOL_CALL = st.fixed_dictionaries({"name": NAME, "args": OBJECT, "id": NAME, "type": st.just("tool_call")})
USAGE = st.tuples(st.integers(0, 9999), st.integers(0, 9999)).map(
    lambda n: {"input_tokens": n[0], "output_tokens": n[1], "total_tokens": n[0] + n[1]}
)
MESSAGE: st.SearchStrategy[BaseMessage] = st.one_of(
    st.builds(HumanMessage, content=CONTENT, **COMMON),
    st.builds(SystemMessage, content=CONTENT, **COMMON),
    st.builds(
        AIMessage,
        content=CONTENT,
        tool_calls=st.lists(TOOL_CALL, max_size=2),
        usage_metadata=st.none() | USAGE,
        **COMMON,
    ),
    st.builds(AIMessageChunk, content=TEXT),
    st.builds(ToolMessage, content=CONTENT, tool_call_id=NAME, artifact=JSON, **COMMON),
    st.builds(FunctionMessage, content=TEXT, name=NAME),
    st.builds(ChatMessage, content=TEXT, role=NAME),
)


@given(messages=st.lists(MESSAGE, min_size=1, max_size=5))
def test_messages_come_back_as_they_were(chatledger_target: str, messages: list[BaseMessage]) -> None:
    history = ChatledgerChatMessageHistory(chatledger.uuid7(), target=chatledger_target)
    history.add_messages(messages)
    assert history.messages == messages
    history.close()


@given(message=MESSAGE)
def test_a_payload_is_read_as_langchain_reads_it(message: BaseMessage) -> None:
    payload = of_message(message).payload or b""
    (wanted,) = messages_from_dict([json.loads(payload)])
    found = of_payload(payload)
    # A surrogate without its other half is read by the longer way.
    assert found is not None or "\\ud" in payload.decode()
    if found is not None:
        assert type(found) is type(wanted) and found == wanted
        assert found.model_fields_set == wanted.model_fields_set and found.model_extra == wanted.model_extra


async def test_a_long_history(chatledger_target: str, name: str) -> None:
    history = ChatledgerChatMessageHistory(name, target=chatledger_target)
    messages = [(AIMessage if n % 2 else HumanMessage)(str(n)) for n in range(1_200)]
    history.add_messages(messages)
    assert history.messages == messages == await history.aget_messages()
    await history.aclose()


@pytest.mark.parametrize("before", [0, 600])
async def test_what_other_programs_wrote(
    chatledger_target: str, name: str, ledger: chatledger.Client, before: int
) -> None:
    history = ChatledgerChatMessageHistory(name, target=chatledger_target)
    own = [AIMessage(f"lone \ud800 {n}") if n == 1 else AIMessage(str(n)) for n in range(before + 2)]
    history.add_messages(own)
    others = foreign("langchain")
    ledger.messages.append_batch(chatledger.session_id_of(name), others)
    wanted = [*own, *(HumanMessage(other.content) for other in others)]
    for messages in (history.messages, await history.aget_messages()):
        assert [message.text for message in messages] == [message.text for message in wanted]
        assert [type(message) for message in messages] == [type(message) for message in wanted]
        assert messages[: len(own)] == own
    await history.aclose()


async def test_both_ways(chatledger_target: str, name: str) -> None:
    history = ChatledgerChatMessageHistory(name, target=chatledger_target)
    assert history.messages == [] == await history.aget_messages()
    history.clear()
    await history.aclear()
    history.add_user_message("one")
    history.add_ai_message("two")
    await history.aadd_messages([HumanMessage("three")])
    history.add_messages([])
    assert [m.text for m in history.messages] == ["one", "two", "three"]
    assert await history.aget_messages() == history.messages
    await history.aclear()
    assert history.messages == []
    await history.aclose()


async def test_others_can_read_it_and_write_to_it(
    chatledger_target: str, name: str, ledger: chatledger.Client
) -> None:
    history = ChatledgerChatMessageHistory(name, client=ledger)
    call: Any = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}
    usage: Any = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    history.add_messages(
        [AIMessage("", tool_calls=[call], usage_metadata=usage), ToolMessage("found", tool_call_id="c1", name="search")]
    )
    first, second = ledger.messages.list(chatledger.session_id_of(name))
    assert (first.role, first.content) == ("assistant", "")
    assert first.metadata == {"framework": "langchain", "type": "ai", "tools": ["search"], "usage": usage}
    assert (second.role, second.content) == ("tool", "found")
    assert second.metadata == {"framework": "langchain", "type": "tool", "tool": "search", "call_id": "c1"}
    ledger.messages.append(first.session_id, "user", "from elsewhere")
    assert isinstance(history.messages[2], HumanMessage) and history.messages[2].text == "from elsewhere"
    assert (await history.aget_messages())[2].text == "from elsewhere"
    await history.aclose()


def test_what_cannot_be_stored_leaves_nothing(chatledger_target: str, name: str) -> None:
    history = ChatledgerChatMessageHistory(name, target=chatledger_target)
    with pytest.raises(chatledger.InvalidArgumentError, match="payload"):
        history.add_messages([AIMessage("calls"), ToolMessage("x" * (2 << 20), tool_call_id="c1")])
    assert history.messages == []
    with pytest.raises(ValueError, match="session's id"):
        ChatledgerChatMessageHistory("", target=chatledger_target)


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (ToolMessage("x", tool_call_id="c1", artifact=b"bytes"), "ToolMessage.artifact .*bytes"),
        (
            HumanMessage("x", id="m1", additional_kwargs={"seen": [1, {"at": datetime.datetime.now()}]}),
            r"HumanMessage 'm1'.additional_kwargs.seen\[1\].at .*datetime",
        ),
        (AIMessage("x", response_metadata={"a": {(1, 2): 3}}), "AIMessage.response_metadata.a.*tuple"),
    ],
)
def test_what_json_cannot_hold_is_named(chatledger_target: str, name: str, message: BaseMessage, where: str) -> None:
    history = ChatledgerChatMessageHistory(name, target=chatledger_target)
    with pytest.raises(TypeError, match=where):
        history.add_messages([HumanMessage("before"), message])
    assert history.messages == []
    history.close()


async def test_eight_writers_and_a_reader(chatledger_target: str, name: str) -> None:
    histories = [ChatledgerChatMessageHistory(name, target=chatledger_target) for _ in range(8)]
    reader = ChatledgerChatMessageHistory(name, target=chatledger_target)

    async def write(number: int, n: int) -> None:
        message = HumanMessage(f"{number} {n}")
        if number % 2:
            await histories[number].aadd_messages([message])
        else:
            await asyncio.to_thread(histories[number].add_messages, [message])

    assert in_order([m.text for m in await write_and_poll(write, reader.aget_messages)])
