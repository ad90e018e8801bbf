"""Microsoft Agent Framework's history provider."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("agent_framework")

from agent_framework import Agent, BaseChatClient, ChatResponse, Content
from agent_framework import Message as FrameworkMessage
from cases import NAME, OBJECT, TEXT, foreign, in_order, write_and_poll
from hypothesis import given
from hypothesis import strategies as st

import chatledger
from chatledger._adapter import Chat
from chatledger.agent_framework import ChatledgerHistoryProvider, new_messages

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


@pytest.mark.parametrize("before", [0, 600])
async def test_what_other_programs_wrote(
    chatledger_target: str, name: str, ledger: chatledger.Client, before: int
) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    own = [user(str(n)) for n in range(before + 1)]
    await provider.save_messages(name, own)
    others = foreign("agent-framework")
    ledger.messages.append_batch(chatledger.session_id_of(name), others)
    found = await provider.get_messages(name)
    assert forms(found[: len(own)]) == forms(own)
    assert [(message.role, message.text) for message in found[len(own) :]] == [("user", m.content) for m in others]
    await provider.aclose()


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


class Parrot(BaseChatClient[Any]):
    """A model that always gives the same answer."""

    def _inner_get_response(self, **_: Any) -> Any:
        async def answer() -> ChatResponse[Any]:
            return ChatResponse(messages=[FrameworkMessage("assistant", ["Please repeat that."])])

        return answer()


async def test_a_repeated_turn_is_stored_again(chatledger_target: str, name: str) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    agent = Agent(client=Parrot(), context_providers=[provider])
    session = agent.create_session(session_id=name)
    for _ in range(3):
        await agent.run("continue", session=session)
    assert [m.text for m in await provider.get_messages(name)] == ["continue", "Please repeat that."] * 3


async def test_a_run_without_a_session_has_one_of_its_own(chatledger_target: str, ledger: chatledger.Client) -> None:
    user_id = ledger.users.create(f"{chatledger.uuid7()}@example.com").id
    provider = ChatledgerHistoryProvider(target=chatledger_target, user_id=user_id)
    agent = Agent(client=Parrot(), context_providers=[provider])
    for _ in range(2):
        await agent.run("hi")
    sessions = list(ledger.sessions.list(user_id=user_id))
    assert [session.last_seq for session in sessions] == [2, 2]


async def test_a_replay_is_not_stored_again(chatledger_target: str, name: str, ledger: chatledger.Client) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    history = [user("one"), FrameworkMessage("assistant", ["two"], message_id="a"), user("three")]
    await provider.save_messages(name, history[:2])
    await provider.save_messages(name, history)
    assert forms(await provider.get_messages(name)) == forms(history)
    # The replay lacks the beginning, and is known by the id alone.
    await provider.save_messages(name, [history[1], user("four")])
    await provider.save_messages(name, [history[1]])
    history.append(user("four"))
    assert forms(await provider.get_messages(name)) == forms(history)
    assert ledger.sessions.get(chatledger.session_id_of(name)).last_seq == 4


async def test_what_another_program_wrote_is_replayed_as_well(
    chatledger_target: str, name: str, ledger: chatledger.Client
) -> None:
    provider = ChatledgerHistoryProvider(target=chatledger_target)
    await provider.save_messages(name, [user("one")])
    ledger.messages.append(chatledger.session_id_of(name), "assistant", "from elsewhere")
    history = await provider.get_messages(name)
    await provider.save_messages(name, [*history, user("two")])
    assert [m.text for m in await provider.get_messages(name)] == ["one", "from elsewhere", "two"]


QUESTION, ANSWER = user("again?"), FrameworkMessage("assistant", ["again"])
KNOWN = FrameworkMessage("assistant", ["again"], message_id="a")
NUMBERED = FrameworkMessage("user", ["again?"], message_id="msg_0")


@pytest.mark.parametrize(
    ("history", "messages", "new"),
    [
        pytest.param([QUESTION, ANSWER], [QUESTION, ANSWER], [0, 1], id="the same turn again"),
        pytest.param([QUESTION], [QUESTION], [0], id="the same input again"),
        pytest.param([QUESTION], [QUESTION, ANSWER], [0, 1], id="an input that was never answered"),
        pytest.param([QUESTION], [QUESTION, QUESTION], [0, 1], id="two inputs"),
        pytest.param([QUESTION, ANSWER], [QUESTION, ANSWER, QUESTION, ANSWER], [2, 3], id="a whole transcript"),
        pytest.param([QUESTION, ANSWER], [QUESTION, ANSWER, ANSWER], [0, 1, 2], id="a turn of two answers"),
        pytest.param([user("x"), ANSWER] * 2, [user("x"), ANSWER, QUESTION], [0, 1, 2], id="a part without ids"),
        pytest.param([user("x"), QUESTION, KNOWN], [QUESTION, KNOWN, QUESTION], [2], id="a part with an id"),
        pytest.param([QUESTION, KNOWN], [user("other"), KNOWN], [0], id="an id after something else"),
        pytest.param(
            [QUESTION, KNOWN], [FrameworkMessage("assistant", ["edited"], message_id="a")], [0], id="an edited one"
        ),
        pytest.param([NUMBERED, ANSWER], [NUMBERED, ANSWER], [0, 1], id="ids that number a run's messages"),
        pytest.param([], [KNOWN, KNOWN], [0, 1], id="an id twice in one run"),
    ],
)
def test_the_rule_for_replays(
    history: list[FrameworkMessage], messages: list[FrameworkMessage], new: list[int]
) -> None:
    assert new_messages(history, messages) == [messages[n] for n in new]


async def test_what_two_save_at_once_is_stored_once(
    chatledger_target: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads, both_have_read = Chat.aread, 0, asyncio.Event()

    async def read_and_wait(chat: Chat, form: Any) -> Any:
        nonlocal reads
        found = await read(chat, form)
        reads += 1
        if reads == 2:
            both_have_read.set()
        await both_have_read.wait()
        return found

    monkeypatch.setattr(Chat, "aread", read_and_wait)
    messages = [user("one"), FrameworkMessage("assistant", ["two"], message_id="a")]
    providers = [ChatledgerHistoryProvider(target=chatledger_target) for _ in range(2)]
    await asyncio.gather(*(provider.save_messages(name, messages) for provider in providers))
    assert forms(await providers[0].get_messages(name)) == forms(messages)


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
