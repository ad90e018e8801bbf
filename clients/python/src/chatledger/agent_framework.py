"""Microsoft Agent Framework: a ``HistoryProvider`` that keeps its messages in chatledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agent_framework import HistoryProvider
from agent_framework import Message as FrameworkMessage
from agent_framework._sessions import filter_new_messages

from ._adapter import Chat, Clients, own_payload, stored, to_json
from ._ids import Id
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Role

FRAMEWORK = "agent-framework"
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}


class ChatledgerHistoryProvider(HistoryProvider):
    """A history provider of the Agent Framework: ``Agent(…, context_providers=[ChatledgerHistoryProvider()])``.

    Each message is one message, in the order in which it was saved. What one run saves is stored together or not at all
    (up to 500 messages). A run without a session id is refused: it would share its history with all others.

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
        return [to_message(message) for message in await self._chat(session_id).amessages()]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[FrameworkMessage],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Adds messages at the end, all or none; without those that are there already, where a run replays them."""
        if not messages:
            return
        chat = self._chat(session_id)
        # The framework's own rule for replays. It compares with the end of the history, so no more is read than
        # that: one message more than are given tells that the history is longer.
        tail = [to_message(message) for message in await chat.alast(len(messages) + 1)]
        new = filter_new_messages(tail, messages)
        await chat.aappend([of_message(message) for message in new])

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


def of_message(message: FrameworkMessage) -> NewMessage:
    """The framework's message as a message."""
    contents = message.contents
    calls = [content.name for content in contents if content.type == "function_call"]
    results = [content for content in contents if content.type == "function_result"]
    text = message.text or "\n".join(str(content.result) for content in results if content.result is not None)
    usage = [content.usage_details for content in contents if content.type == "usage"]
    return stored(
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
