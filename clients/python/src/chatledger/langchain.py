"""LangChain: a ``BaseChatMessageHistory`` that keeps its messages in chatledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
    message_to_dict,
    messages_from_dict,
)
from pydantic_core import from_json

from ._adapter import Chat, Clients, Form, own_payload, framework_message, to_json
from ._ids import Id
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Role

FRAMEWORK = "langchain"
_ROLES: dict[str, Role] = {
    "human": "user",
    "HumanMessageChunk": "user",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessageChunk": "tool",
}
_KINDS: dict[str, type[BaseMessage]] = {
    kind.model_fields["type"].default: kind
    for kind in (
        *(AIMessage, ChatMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage),
        *(AIMessageChunk, ChatMessageChunk, FunctionMessageChunk, HumanMessageChunk, SystemMessageChunk, ToolMessageChunk),
    )
}
"""The classes by the types that payloads name."""


class ChatledgerChatMessageHistory(BaseChatMessageHistory):
    """A chat history of LangChain, for ``RunnableWithMessageHistory`` and by itself; blocking and async.

    Each message is one message, in the order in which it was added. What one ``add_messages`` adds is stored together or
    not at all (up to 500 messages and 8 MiB; more in steps).

    :param session_id: the framework's id of the session; see :func:`chatledger.session_id_of`.
    :param target: where the server is; default: ``CHATLEDGER_TARGET``.
    :param client: a client to use instead, of either kind.
    :param user_id: the user whom a new session belongs to, a UUID.
    """

    def __init__(
        self,
        session_id: str,
        *,
        target: str | None = None,
        api_key: str | None = None,
        client: Client | AsyncClient | None = None,
        user_id: Id | None = None,
    ) -> None:
        self.session_id = session_id
        self._clients = Clients(target, client, api_key)
        self._chat = Chat(self._clients, FRAMEWORK, session_id, user_id)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """All messages, oldest first; a call to the server each time."""
        return self._chat.read(_FORM)

    async def aget_messages(self) -> list[BaseMessage]:
        """All messages, oldest first."""
        return await self._chat.aread(_FORM)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Adds messages at the end, all or none."""
        if messages:
            self._chat.append([of_message(message) for message in messages])

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Adds messages at the end, all or none."""
        if messages:
            await self._chat.aappend([of_message(message) for message in messages])

    def clear(self) -> None:
        """Removes all messages."""
        self._chat.clear()

    async def aclear(self) -> None:
        """Removes all messages."""
        await self._chat.aclear()

    def close(self) -> None:
        """Closes the connection of the blocking methods, if it isn't that of a given client."""
        self._clients.close()

    async def aclose(self) -> None:
        """Closes the connections, if they aren't those of a given client."""
        await self._clients.aclose()


def of_message(message: BaseMessage) -> NewMessage:
    """LangChain's message as a message."""
    given: dict[str, Any] = message_to_dict(message)
    # A message answers what it hasn't by an exception within, which takes longer than all the rest here.
    data = given["data"]
    role: Role = _ROLES.get(message.type, "assistant")
    if message.type == "chat" and data.get("role") in ("user", "system", "tool"):
        role = data["role"]
    calls = data.get("tool_calls") or []
    return framework_message(
        FRAMEWORK,
        role,
        message.text if isinstance(message.text, str) else str(message.content),
        _payload(message, given),
        {
            "type": message.type,
            "tools": [call["name"] for call in calls],
            "tool": message.name if role == "tool" else None,
            "call_id": data.get("tool_call_id"),
            "usage": data.get("usage_metadata"),
        },
    )


def to_message(message: Message) -> BaseMessage:
    """A message as LangChain's; one that another program wrote has its role and its text."""
    payload = own_payload(FRAMEWORK, message)
    if payload is not None:
        found = of_payload(payload)
        return found if found is not None else messages_from_dict([json.loads(payload)])[0]
    if message.role == "user":
        return HumanMessage(content=message.content, id=message.id)
    if message.role == "assistant":
        return AIMessage(content=message.content, id=message.id)
    if message.role == "tool":
        return ToolMessage(content=message.content, tool_call_id=message.id, id=message.id)
    return SystemMessage(content=message.content, id=message.id)


def of_payload(payload: bytes) -> BaseMessage | None:
    """The message of a payload that has LangChain's form; None where it hasn't, or can't be read as fast as this.

    It is what ``messages_from_dict`` makes, without the four constructors that pass on a message's fields until pydantic
    has them.
    """
    try:
        given = from_json(payload)
        kind = _KINDS[given["type"]]
        made = kind.__new__(kind)
        kind.__pydantic_validator__.validate_python(given["data"], self_instance=made)
    except (ValueError, TypeError, KeyError):
        return None
    return made if len(given) == 2 else None


_FORM = Form(of_payload, to_message)


def _payload(message: BaseMessage, given: dict[str, Any]) -> bytes:
    try:
        return to_json(given)
    except TypeError as error:
        # LangChain's own dumps would store something else instead, which doesn't come back as it was.
        which = "" if message.id is None else f" {message.id!r}"
        where = _not_json(given["data"], type(message).__name__ + which)
        raise TypeError(f"{where} can't be stored: {error}") from None


def _not_json(value: Any, path: str) -> str:
    """The path to what JSON doesn't have in a value."""
    if isinstance(value, dict | list | tuple):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            try:
                to_json({key: each})
            except TypeError:
                return _not_json(each, f"{path}[{key!r}]" if isinstance(value, list | tuple) else f"{path}.{key}")
    return path
