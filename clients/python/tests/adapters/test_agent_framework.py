"""Microsoft Agent Framework's history provider."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("agent_framework")

from agent_framework import Content
from agent_framework import Message as FrameworkMessage
from cases import NAME, OBJECT, TEXT, in_order, write_and_poll
from hypothesis import given
from hypothesis import strategies as st

import chatledger
from chatledger.agent_framework import ChatledgerHistoryProvider

CONTENT = st.one_of(
    st.builds(Content.from_text, TEXT),
    st.builds(lambda i, n, a: Content.from_function_call(i, n, arguments=a), NAME, NAME, OBJECT),
    st.builds(lambda i, r: Content.from_function_result(i, result=r), NAME, TEXT),
    st.just(Content.from_uri("https://example.com/x.png", media_type="image/png")),
)
MESSAGE = st.builds(
    lambda role, contents, author, message_id, extra: FrameworkMessage(
        role, contents, author_name=author, message_id=message_id, additional_properties=extra
    ),
    st.sampled_from(["user", "assistant", "system", "tool"]),
    st.lists(CONTENT, max_size=3),
    st.none() | NAME,
    st.none() | NAME,
    OBJECT,
)


def user(text: str) -> FrameworkMessage:
    return FrameworkMessage("user", [text])


def forms(messages: list[FrameworkMessage]) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]


@given(messages=st.lists(MESSAGE, min_size=1, max_size=5))
def test_messages_come_back_as_they_were(chatledger_target: str, messages: list[FrameworkMessage]) -> None:
    async def round_trip() -> None:
        provider = ChatledgerHistoryProvider(target=chatledger_target)
        session_id = chatledger.uuid7()
        await provider.save_messages(session_id, messages)
        assert forms(await provider.get_messages(session_id)) == forms(messages)
        await provider.aclose()

    asyncio.run(round_trip())


async def test_saving_and_clearing(chatledger_target: str, name: str) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    assert await provider.get_messages(name) == []
    await provider.save_messages(name, [])
    await provider.save_messages(name, [user("one"), FrameworkMessage("assistant", ["two"])])
    assert [m.text for m in await provider.get_messages(name)] == ["one", "two"]
    await provider.clear(name)
    assert await provider.get_messages(name) == []
    with pytest.raises(ValueError, match="needs a session id"):
        await provider.get_messages(None)


async def test_a_replay_is_not_stored_again(chatledger_target: str, name: str, ledger: chatledger.Client) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    history = [user("one"), FrameworkMessage("assistant", ["two"]), user("three")]
    await provider.save_messages(name, history[:2])
    await provider.save_messages(name, history)
    await provider.save_messages(name, history)
    assert forms(await provider.get_messages(name)) == forms(history)
    assert ledger.sessions.get(chatledger.session_id_of(name)).last_seq == 3


async def test_others_can_read_it_and_write_to_it(
    chatledger_target: str, name: str, ledger: chatledger.Client
) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    call = FrameworkMessage("assistant", [Content.from_function_call("c1", "search", arguments="{}")])
    result = FrameworkMessage("tool", [Content.from_function_result("c1", result="found")])
    await provider.save_messages(name, [call, result])
    first, second = ledger.messages.list(chatledger.session_id_of(name))
    assert (first.role, first.content, first.metadata["tools"]) == ("assistant", "", ["search"])
    assert (second.role, second.content, second.metadata["call_id"]) == ("tool", "found", "c1")
    ledger.messages.append(first.session_id, "user", "from elsewhere")
    assert (await provider.get_messages(name))[2].text == "from elsewhere"


async def test_what_cannot_be_stored_leaves_nothing(chatledger_target: str, name: str) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    call = FrameworkMessage("assistant", [Content.from_function_call("c1", "draw", arguments="{}")])
    result = FrameworkMessage("tool", [Content.from_function_result("c1", result="x" * (2 << 20))])
    with pytest.raises(chatledger.InvalidArgumentError, match="payload"):
        await provider.save_messages(name, [call, result])
    assert await provider.get_messages(name) == []


async def test_eight_writers_and_a_reader(chatledger_target: str, name: str) -> None:
    providers = [ChatledgerHistoryProvider(target=chatledger_target) for _ in range(8)]

    async def read() -> list[dict[str, Any]]:
        return forms(await providers[0].get_messages(name))

    found = await write_and_poll(lambda w, n: providers[w].save_messages(name, [user(f"{w} {n}")]), read)
    assert in_order([FrameworkMessage.from_dict(form).text for form in found])
