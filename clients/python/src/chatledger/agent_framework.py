"""Microsoft Agent Framework: a ``HistoryProvider`` that keeps its messages in chatledger."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from agent_framework import HistoryProvider
from agent_framework import Message as FrameworkMessage

from . import errors
from ._adapter import Chat, Clients, Form, own_payload, framework_message, to_json
from ._ids import Id
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Role

FRAMEWORK = "agent-framework"
_NUMBERED = re.compile(r"msg_\d{1,9}")
"""An id that the framework's compaction gives by a message's place in one run: another run's message has it, too."""
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}


class ChatledgerHistoryProvider(HistoryProvider):
    """A history provider of the Agent Framework: ``Agent(…, context_providers=[ChatledgerHistoryProvider()])``.

    Each message is one message, in the order in which it was saved. What one run saves is stored together or not at all
    (up to 500 messages and 8 MiB; more in steps).

    A run may give messages of earlier runs again. What is stored already is known by its ``message_id`` (with the same
    role and text), and so are those without an id that came right before it then and now. Messages without ids are taken
    for a replay only where they begin with the whole history, answers included, and the user goes on after it. All else
    is new, also when it says what was said before: a turn is rather stored twice than lost.

    ``Agent.run`` without a session makes one with a random id for that run, and it is stored like any other: give one to
    go on with it. Only calls of the provider itself can lack an id; they are refused, since all would share a history.

    :param source_id: the framework's name of this provider.
    :param target: where the server is; default: ``CHATLEDGER_TARGET``.
    :param client: a client to use instead.
    :param user_id: the user whom new sessions belong to, a UUID.
    """

    DEFAULT_SOURCE_ID = "chatledger"

    def __init__(
        self,
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        target: str | None = None,
        api_key: str | None = None,
        client: Client | AsyncClient | None = None,
        user_id: Id | None = None,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self._clients = Clients(target, client, api_key)
        self._user_id = user_id

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[FrameworkMessage]:
        """All messages of a session, oldest first."""
        return await self._chat(session_id).aread(_FORM)

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[FrameworkMessage],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Adds messages at the end, all or none; without those that a run replays."""
        if not messages:
            return
        chat = self._chat(session_id)
        if not _may_replay(messages):
            await chat.aappend([of_message(message) for message in messages])
            return
        while True:
            # The seq is read before the history: what is appended after that is found out by the server.
            last_seq = await chat.alast_seq()
            history = await chat.aread(_FORM)
            new = new_messages(history, messages)
            try:
                await chat.aappend([of_message(message) for message in new], expected_last_seq=last_seq)
                return
            except errors.SequenceConflictError:
                # Somebody has added something, perhaps the same messages: look again.
                continue

    async def clear(self, session_id: str | None) -> None:
        """Removes all messages of a session."""
        await self._chat(session_id).aclear()

    async def aclose(self) -> None:
        """Closes the connection, if it isn't that of a given client."""
        await self._clients.aclose()

    def _chat(self, session_id: str | None) -> Chat:
        if session_id is None:
            raise ValueError("ChatledgerHistoryProvider needs a session id: run the agent with a session")
        return Chat(self._clients, FRAMEWORK, session_id, self._user_id)


def new_messages(
    history: Sequence[FrameworkMessage], messages: Sequence[FrameworkMessage]
) -> list[FrameworkMessage]:
    """The messages without those that are in the history already; the rule is the class's.

    The framework's own rule takes any run that equals the end of the history for a replay, and so loses a turn in which
    the user and the agent say again what they have just said.
    """
    stored, given = [_key(message) for message in history], [_key(message) for message in messages]
    if _is_transcript(messages, len(stored)) and given[: len(stored)] == stored:
        return list(messages[len(stored) :])
    places = {key: place for place, key in enumerate(stored) if key[0] is not None}
    replayed: set[int] = set()
    for n, key in enumerate(given):
        place = places.get(key)
        while place is not None and min(place, n) >= 0 and n not in replayed and stored[place] == given[n]:
            replayed.add(n)
            place, n = place - 1, n - 1
    return [message for n, message in enumerate(messages) if n not in replayed]


def _may_replay(messages: Sequence[FrameworkMessage]) -> bool:
    """Whether any of the messages could be known again; otherwise the history needn't be read."""
    return any(_id(message) for message in messages) or any(
        _is_transcript(messages, n) for n in range(1, len(messages))
    )


def _is_transcript(messages: Sequence[FrameworkMessage], length: int) -> bool:
    """Whether the user goes on after so many messages with an answer among them; no single turn is like that."""
    return (
        length < len(messages)
        and messages[length].role == "user"
        and any(message.role == "assistant" for message in messages[:length])
    )


def _id(message: FrameworkMessage) -> str | None:
    found = message.message_id
    return None if not found or _NUMBERED.fullmatch(found) else found


def _key(message: FrameworkMessage) -> tuple[str | None, str, str]:
    """The key that two equal messages share: the id and the text, or without an id all contents."""
    found = _id(message)
    if found is not None:
        return found, str(message.role), message.text
    return None, str(message.role), json.dumps([content.to_dict() for content in message.contents], sort_keys=True)


def of_message(message: FrameworkMessage) -> NewMessage:
    """The framework's message as a message."""
    contents = message.contents
    calls = [content.name for content in contents if content.type == "function_call"]
    results = [content for content in contents if content.type == "function_result"]
    text = message.text or "\n".join(str(content.result) for content in results if content.result is not None)
    usage = [content.usage_details for content in contents if content.type == "usage"]
    return framework_message(
        FRAMEWORK,
        _ROLES.get(str(message.role), "assistant"),
        text,
        to_json(message.to_dict()),
        {
            "type": str(message.role),
            "author": message.author_name,
            "tools": [name for name in calls if name],
            "call_id": results[0].call_id if results else None,
            "usage": usage[0] if usage else None,
        },
    )


def to_message(message: Message) -> FrameworkMessage:
    """A message as the framework's; one that another program wrote has its role and its text."""
    payload = own_payload(FRAMEWORK, message)
    if payload is not None:
        return FrameworkMessage.from_dict(json.loads(payload))
    role = "system" if message.role == "tool" else message.role
    return FrameworkMessage(role, [message.content], message_id=message.id)


def of_payload(payload: bytes) -> FrameworkMessage | None:
    """The message of a payload that has the framework's form; None where it hasn't, or can't be read as fast as this."""
    try:
        given = json.loads(payload)
        known = given["type"] == "message" and "contents" in given
    except (ValueError, TypeError, KeyError):
        return None
    return FrameworkMessage.from_dict(given) if known else None


_FORM = Form(of_payload, to_message)
