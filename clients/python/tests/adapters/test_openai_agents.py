"""The OpenAI Agents SDK's session."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("agents")

from agents import Agent, Runner, SessionSettings
from agents.memory import Session
from agents.testing import ScriptedModel
from cases import JSON, NAME, TEXT, foreign, in_order, write_and_poll
from hypothesis import given
from hypothesis import strategies as st

import chatledger
from chatledger.openai_agents import ChatledgerSession, of_item, of_payload, to_item

TEXT_PART = st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text"]), "text": TEXT})
ITEM = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "developer", "assistant"]), "content": TEXT}),
    st.fixed_dictionaries(
        {"type": st.just("message"), "role": st.just("assistant"), "content": st.lists(TEXT_PART, max_size=3)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": NAME, "name": NAME, "arguments": JSON.map(json.dumps)}
    ),
    st.fixed_dictionaries({"type": st.just("function_call_output"), "call_id": NAME, "output": TEXT}),
    st.fixed_dictionaries({"type": st.just("reasoning"), "id": NAME, "summary": st.lists(TEXT_PART, max_size=2)}),
)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@given(items=st.lists(ITEM, min_size=1, max_size=5))
def test_items_come_back_as_they_were(chatledger_target: str, items: list[Any]) -> None:
    async def round_trip() -> None:
        session = ChatledgerSession(chatledger.uuid7(), target=chatledger_target)
        await session.add_items(items)
        assert await session.get_items() == items
        await session.aclose()

    asyncio.run(round_trip())


@given(item=ITEM)
def test_a_payload_is_read_as_json(item: Any) -> None:
    payload = of_item(item).payload or b""
    found = of_payload(payload)
    # A surrogate without its other half is read by the longer way.
    assert found == item or (found is None and "\\ud" in payload.decode())


async def test_a_long_history(chatledger_target: str, name: str) -> None:
    session = ChatledgerSession(name, target=chatledger_target)
    items = [user(str(n)) for n in range(1_200)]
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(limit=700) == items[-700:]
    await session.aclose()


@pytest.mark.parametrize("before", [0, 600])
async def test_what_other_programs_wrote(
    chatledger_target: str, name: str, ledger: chatledger.Client, before: int
) -> None:
    session = ChatledgerSession(name, target=chatledger_target)
    # A type that a later SDK may have isn't known, and is read all the same.
    own = [user("lone \ud800"), {"type": "dream", "id": "d1"}, *(user(str(n)) for n in range(before))]
    await session.add_items(own)
    others = foreign("openai-agents")
    ledger.messages.append_batch(chatledger.session_id_of(name), others)
    wanted = [*own, *(user(other.content) for other in others)]
    assert await session.get_items() == wanted
    assert await session.get_items(limit=len(others) + 1) == wanted[-len(others) - 1 :]
    for item in wanted[: -len(others) - 1 : -1]:
        assert await session.pop_item() == item
    await session.aclose()


async def test_limits_pops_and_clear(chatledger_target: str, name: str) -> None:
    session = ChatledgerSession(name, target=chatledger_target)
    assert isinstance(session, Session)
    assert await session.get_items() == [] == await session.get_items(limit=5)
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([])
    await session.add_items([user(str(n)) for n in range(5)])
    assert await session.get_items(limit=2) == [user("3"), user("4")]
    assert await session.get_items(limit=0) == []
    assert len(await session.get_items(limit=50)) == 5
    limited = ChatledgerSession(name, target=chatledger_target, session_settings=SessionSettings(limit=1))
    assert await limited.get_items() == [user("4")] == (await limited.get_items(limit=3))[2:]
    assert await session.pop_item() == user("4")
    assert await session.get_items(limit=2) == [user("2"), user("3")]
    await session.clear_session()
    assert await session.get_items() == [] and await session.pop_item() is None
    await session.add_items([user("again")])
    assert await session.get_items() == [user("again")]


async def test_no_item_is_popped_twice(chatledger_target: str, name: str) -> None:
    session = ChatledgerSession(name, target=chatledger_target)
    await session.add_items([user(str(n)) for n in range(30)])

    async def pop_all() -> list[Any]:
        popped = []
        while (item := await session.pop_item()) is not None:
            popped.append(item)
        return popped

    popped = [item for each in await asyncio.gather(*(pop_all() for _ in range(8))) for item in each]
    assert sorted(int(item["content"]) for item in popped) == list(range(30))


async def test_others_can_read_it_and_write_to_it(
    chatledger_target: str, name: str, ledger: chatledger.Client
) -> None:
    async with chatledger.AsyncClient(chatledger_target) as client:
        session = ChatledgerSession(name, client=client)
        call = {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"}
        output = {"type": "function_call_output", "call_id": "c1", "output": "found\0 it"}
        answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Here."}]}
        await session.add_items([user("Where?"), call, output, answer])  # type: ignore[list-item]
        await session.aclose()
        messages = list(ledger.messages.list(chatledger.session_id_of(name)))
        assert [(m.role, m.content) for m in messages] == [
            ("user", "Where?"),
            ("assistant", ""),
            ("tool", "found\ufffd it"),
            ("assistant", "Here."),
        ]
        assert messages[1].metadata == {
            "framework": "openai-agents",
            "type": "function_call",
            "tool": "search",
            "call_id": "c1",
        }
        assert ledger.sessions.get(messages[0].session_id).metadata == {"framework": "openai-agents", "name": name}
        ledger.messages.append(chatledger.session_id_of(name), "user", "from elsewhere")
        assert (await session.get_items(limit=1)) == [user("from elsewhere")]


async def test_what_cannot_be_stored_leaves_nothing(chatledger_target: str, name: str) -> None:
    session = ChatledgerSession(name, target=chatledger_target)
    call = {"type": "function_call", "call_id": "c1", "name": "draw", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "x" * (2 << 20)}
    with pytest.raises(chatledger.InvalidArgumentError, match="payload"):
        await session.add_items([call, output])  # type: ignore[list-item]
    assert await session.get_items() == []


async def test_eight_writers_and_a_reader(chatledger_target: str, name: str) -> None:
    sessions = [ChatledgerSession(name, target=chatledger_target) for _ in range(8)]
    reader = ChatledgerSession(name, target=chatledger_target)
    items = await write_and_poll(lambda number, n: sessions[number].add_items([user(f"{number} {n}")]), reader.get_items)
    assert in_order([item["content"] for item in items])


async def test_a_run(chatledger_target: str, name: str) -> None:
    session = ChatledgerSession(name, target=chatledger_target)
    agent = Agent(name="a", model=ScriptedModel([[message("Paris")], [message("France")]]))
    await Runner.run(agent, "Which city?", session=session)
    await Runner.run(agent, "Which country?", session=session)
    roles = [item.get("role") for item in await session.get_items()]
    assert roles == ["user", "assistant", "user", "assistant"]


def message(text: str) -> Any:
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText

    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=content)  # type: ignore[arg-type]


def test_items_keep_their_form_without_a_server() -> None:
    item = user("hi")
    made = of_item(item)
    assert made.payload == b'{"role":"user","content":"hi"}'
    assert (made.role, made.content) == ("user", "hi")
    assert to_item.__doc__
