"""The parts that the adapters share: steps, timeouts, event loops."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref

import pytest

import chatledger
from chatledger import NewMessage
from chatledger._adapter import MAX_BATCH, MAX_REQUEST_BYTES, Chat, Clients, steps_of, framework_message, to_json


def message(text: str) -> NewMessage:
    """A message as the adapters make it: the text is sent twice."""
    return framework_message("test", "user", text, to_json({"text": text}), {})


@pytest.mark.parametrize("text", ["plain", "\u4e2d\u00e9\U0001f600", "a\0b", "lone \ud800 surrogate"])
def test_any_text_comes_back(text: str) -> None:
    assert json.loads(to_json({"text": text})) == {"text": text}


def test_the_payload_is_as_large_as_the_text() -> None:
    assert len(to_json("\u4e2d" * 1000)) == 3002


def test_steps_are_as_few_as_the_server_takes() -> None:
    assert steps_of([]) == []
    small = [message("x")] * (MAX_BATCH + 1)
    assert [len(step) for step in steps_of(small)] == [MAX_BATCH, 1]
    large = [message("x" * 600_000)] * 20
    assert [len(step) for step in steps_of(large)] == [6, 6, 6, 2]
    huge = message("x" * MAX_REQUEST_BYTES)
    assert [len(step) for step in steps_of([small[0], huge, small[0]])] == [1, 1, 1]


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["\u4e2d" * 180_000], id="one long text"),
        pytest.param(["x" * 600_000 + str(n) for n in range(20)], id="more than one request"),
        pytest.param(["\u4e2d" * 1_300] * 500, id="the most of one request"),
        pytest.param([str(n) for n in range(1001)], id="more than one batch"),
    ],
)
async def test_large_additions(chatledger_target: str, name: str, texts: list[str], blocking: bool) -> None:
    chat = Chat(Clients(chatledger_target, None, None), "test", name)
    messages = [message(text) for text in texts]
    receipts = await asyncio.to_thread(chat.append, messages) if blocking else await chat.aappend(messages)
    assert [receipt.seq for receipt in receipts] == list(range(1, len(texts) + 1))
    assert [m.content for m in await chat.amessages()] == texts
    chat.clients.close()
    await chat.clients.aclose()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(message("x" * (2 << 20)), id="payload"),
        pytest.param(framework_message("test", "user", "", b"{}", {"tools": ["x" * 200] * 400}), id="metadata"),
    ],
)
async def test_a_message_that_is_too_large_leaves_nothing(
    chatledger_target: str, name: str, refused: NewMessage, existing: bool, blocking: bool
) -> None:
    chat = Chat(Clients(chatledger_target, None, None), "test", name)
    if existing:
        await chat.aappend([message("before")])
    messages = [*[message("x")] * MAX_BATCH, refused]
    with pytest.raises(chatledger.InvalidArgumentError, match="payload|metadata"):
        await asyncio.to_thread(chat.append, messages) if blocking else await chat.aappend(messages)
    assert [m.content for m in await chat.amessages()] == ["before"] * existing
    chat.clients.close()
    await chat.clients.aclose()


async def test_an_expectation_holds_for_what_was_read(
    chatledger_target: str, name: str, ledger: chatledger.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the steps, another program appends: what was decided before stands, unless each step is to follow."""
    chat = Chat(Clients(chatledger_target, None, None), "test", name)
    await chat.acreate()
    run = chatledger.AsyncClient.run
    appended: list[int] = []

    async def run_and_append(client: chatledger.AsyncClient, rpc: chatledger._rpc.Rpc) -> object:  # type: ignore
        answer = await run(client, rpc)
        if rpc.method.endswith("BatchAppendMessages"):
            appended.append(ledger.messages.append(chat.id, "user", "between").seq)
        return answer

    monkeypatch.setattr(chatledger.AsyncClient, "run", run_and_append)
    messages = [NewMessage("user", str(n), message_id=chatledger.uuid7()) for n in range(MAX_BATCH + 1)]
    with pytest.raises(chatledger.SequenceConflictError) as conflict:
        await chat.aappend(messages, expected_last_seq=0, each_step=True)
    assert conflict.value.last_seq == MAX_BATCH + 1
    # The second attempt finds that the first step is there already: the second follows what is there now.
    monkeypatch.setattr(chatledger.AsyncClient, "run", run)
    last_seq = await chat.alast_seq()
    receipts = await chat.aappend(messages, expected_last_seq=last_seq, each_step=True)
    assert [receipts[0].seq, receipts[-1].seq] == [1, last_seq + 1]
    monkeypatch.setattr(chatledger.AsyncClient, "run", run_and_append)
    more = [NewMessage("user", "more") for _ in range(MAX_BATCH + 1)]
    receipts = await chat.aappend(more, expected_last_seq=last_seq + 1)
    assert receipts[-1].seq - receipts[0].seq == MAX_BATCH + 1
    await chat.clients.aclose()


def test_the_clients_of_closed_loops_go(chatledger_target: str) -> None:
    clients = Clients(chatledger_target, None, None)
    seen: list[weakref.ref[chatledger.AsyncClient]] = []

    async def use() -> None:
        await Chat(clients, "test", chatledger.uuid7()).amessages()
        seen.append(weakref.ref(clients.aio))

    for _ in range(5):
        asyncio.run(use())
    gc.collect()
    assert [ref() is None for ref in seen] == [True] * 4 + [False]


@pytest.mark.parametrize("kind", [chatledger.Client, chatledger.AsyncClient])
async def test_a_clients_timeout_is_kept(
    chatledger_target: str, kind: type[chatledger.Client] | type[chatledger.AsyncClient]
) -> None:
    clients = Clients(None, kind(chatledger_target).with_timeout(3), None)
    assert clients.sync._timeout == clients.aio._timeout == clients.settings.timeout == 3
