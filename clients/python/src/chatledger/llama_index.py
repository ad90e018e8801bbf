"""LlamaIndex: chat stores that keep their messages in chatledger, for ``Memory`` and for the older buffers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.storage.chat_store.base import BaseChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from pydantic import BaseModel, Field, PrivateAttr

from . import errors
from ._adapter import AT_ONCE, Chat, Clients, Form, own_payload, framework_message, to_json
from ._ids import Id
from ._rpc import MAX_PAGE
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Role

FRAMEWORK = "llama-index"
STATUS = "llama_index_status"
"""The metadata key of a message that isn't active."""

T = TypeVar("T")

_ROLES: dict[str, Role] = {"user": "user", "system": "system", "developer": "system", "tool": "tool", "function": "tool"}


class _Store:
    """The work of both chat stores, by key."""

    def __init__(
        self, target: str | None, api_key: str | None, client: Client | AsyncClient | None, user_id: Id | None
    ) -> None:
        self.clients = Clients(target, client, api_key)
        self._user_id = user_id

    def chat(self, key: str) -> Chat:
        return Chat(self.clients, FRAMEWORK, key, self._user_id)

    async def read(self, key: str, status: MessageStatus | None) -> list[Message]:
        messages = await self.chat(key).amessages()
        return [message for message in messages if status is None or _status(message) == status]

    async def add(self, key: str, messages: Sequence[ChatMessage], status: MessageStatus) -> None:
        await self.chat(key).aappend([of_message(message, status) for message in messages])

    async def replace(self, key: str, messages: Sequence[ChatMessage], status: MessageStatus) -> None:
        """Makes these the messages of the key: what both have at the beginning stays as it is."""
        chat = self.chat(key)
        new = [of_message(message, status) for message in messages]
        while True:
            last_seq = await chat.alast_seq()
            old = await chat.amessages()
            shared = 0
            while shared < min(len(old), len(new)) and _is_same(old[shared], new[shared]):
                shared += 1
            if shared < len(new):
                try:
                    await chat.aappend(new[shared:], expected_last_seq=last_seq)
                except errors.SequenceConflictError:
                    # Somebody has added something: look again.
                    continue
            # The deletions come last, so that nothing is lost where this is cut short.
            for message in old[shared:]:
                await chat.adelete(message)
            return

    async def delete(self, key: str, messages: Sequence[Message]) -> list[ChatMessage]:
        """Erases messages; those that it was, and not somebody else."""
        chat = self.chat(key)
        return [to_message(message) for message in messages if await chat.adelete(message)]

    async def delete_all(self, key: str) -> list[ChatMessage] | None:
        found = await self.read(key, None)
        await self.delete(key, found)
        return [to_message(message) for message in found] or None

    async def delete_at(self, key: str, idx: int) -> ChatMessage | None:
        """Erases the message at a place of the list; no message goes to two callers."""
        while True:
            found = await self.read(key, None)
            if not -len(found) <= idx < len(found):
                return None
            deleted = await self.delete(key, [found[idx]])
            if deleted:
                return deleted[0]

    def run(self, work: Callable[[_Store], Coroutine[Any, Any, T]]) -> T:
        """Runs something in an event loop of its own, on a connection of its own, which ends with it."""

        async def run() -> T:
            alone = _Store(None, None, AsyncClient.of_settings(self.clients.settings), self._user_id)
            try:
                return await work(alone)
            finally:
                await alone.clients.aio.close()

        return asyncio.run(run())

    async def archive(self, key: str, messages: Sequence[Message]) -> list[ChatMessage]:
        chat, archived = self.chat(key), []
        for message in messages:
            try:
                await self.clients.aio.messages.update(
                    chat.id, message.id, metadata={STATUS: MessageStatus.ARCHIVED.value}
                )
            except errors.NotFoundError:
                continue
            archived.append(to_message(message))
        return archived

    async def keys(self) -> list[str]:
        listing = self.clients.aio.sessions.list(
            user_id=self._user_id, metadata_contains={"framework": FRAMEWORK}, page_size=MAX_PAGE
        )
        names = [session.metadata["name"] async for session in listing if session.last_message_time is not None]
        found: list[str] = []
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            # A session stays where its messages are deleted.
            newest = await asyncio.gather(*(self.chat(name).alast(1) for name in some))
            found += [name for name, messages in zip(some, newest, strict=True) if messages]
        return found


class _Arguments(BaseModel):
    """The arguments of both chat stores, which LlamaIndex wants to be models of pydantic.

    Type checkers make a constructor of the fields for each class of pydantic's that has none in its own body, so both
    stores name this one.
    """

    target: str | None = Field(default=None)
    user_id: str | None = Field(default=None)
    _store: _Store = PrivateAttr()

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        client: Client | AsyncClient | None = None,
        user_id: Id | None = None,
    ) -> None:
        user = None if user_id is None else str(user_id)
        # pydantic's constructor takes the fields that the class declares.
        super().__init__(target=target, user_id=user)
        self._store = _Store(target, api_key, client, user)


class ChatledgerChatStore(_Arguments, AsyncDBChatStore):
    """A chat store for LlamaIndex's ``Memory``: ``Memory(sql_store=ChatledgerChatStore(), session_id="user-123")``.

    Each key is a session, and each message one message, in the order in which it was added; a status other than active
    is in its metadata. What one ``add_messages`` adds is stored together or not at all (up to 500 messages and
    8 MiB; more in steps). ``set_messages`` keeps the messages that both histories begin with, and stores only the others.

    :param target: where the server is; default: ``CHATLEDGER_TARGET``.
    :param client: a client to use instead.
    :param user_id: the user whom new sessions belong to, a UUID.
    """

    __init__ = _Arguments.__init__

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """The messages of a key, oldest first, without the first ``offset``, at most ``limit``."""
        first = offset or 0
        last = None if limit is None else first + limit
        return [to_message(message) for message in (await self._store.read(key, status))[first:last]]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """How many messages a key has."""
        return len(await self._store.read(key, status))

    async def add_message(
        self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Adds a message at the end."""
        await self._store.add(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Adds messages at the end, all or none."""
        await self._store.add(key, messages, status)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Makes these the messages of the key."""
        await self._store.replace(key, messages, status)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Deletes the message whose seq is ``idx`` (from 1, as it was added), and returns it."""
        found = [message for message in await self._store.read(key, None) if message.seq == idx]
        return next(iter(await self._store.delete(key, found)), None)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Deletes the messages of a key, of a status or all."""
        if status is None:
            await self._store.chat(key).aclear()
        else:
            await self._store.delete(key, await self._store.read(key, status))

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Deletes the oldest active messages, and returns them."""
        return await self._store.delete(key, (await self._store.read(key, MessageStatus.ACTIVE))[:n])

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archives the oldest active messages, and returns them."""
        return await self._store.archive(key, (await self._store.read(key, MessageStatus.ACTIVE))[:n])

    async def get_keys(self) -> list[str]:
        """The keys that have messages. It reads one for each key that there ever was."""
        return await self._store.keys()

    async def aclose(self) -> None:
        """Closes the connection, if it isn't that of a given client."""
        await self._store.clients.aclose()

    @classmethod
    def class_name(cls) -> str:
        """The class's name in LlamaIndex's serialized form."""
        return "ChatledgerChatStore"


class ChatledgerBaseChatStore(_Arguments, BaseChatStore):
    """A chat store of the older interface, for ``ChatMemoryBuffer(chat_store=…, chat_store_key="user-123")``.

    As :class:`ChatledgerChatStore`; ``idx`` is the place in the list of messages, from 0, as the interface has it. The
    blocking methods run an event loop of their own, so they can't be called from within one.
    """

    __init__ = _Arguments.__init__

    @classmethod
    def class_name(cls) -> str:
        """The class's name in LlamaIndex's serialized form."""
        return "ChatledgerBaseChatStore"

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Makes these the messages of the key."""
        self._store.run(lambda store: store.replace(key, messages, MessageStatus.ACTIVE))

    def get_messages(self, key: str) -> list[ChatMessage]:
        """The messages of a key, oldest first."""
        return self._store.chat(key).read(_FORM)

    def add_message(self, key: str, message: ChatMessage) -> None:
        """Adds a message at the end."""
        self._store.chat(key).append([of_message(message)])

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Deletes the messages of a key, and returns them."""
        return self._store.run(lambda store: store.delete_all(key))

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Deletes the message at a place of the list, and returns it."""
        return self._store.run(lambda store: store.delete_at(key, idx))

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Deletes the last message, and returns it."""
        return self.delete_message(key, -1)

    def get_keys(self) -> list[str]:
        """The keys that have messages. It reads one for each key that there ever was."""
        return self._store.run(lambda store: store.keys())

    async def aset_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Makes these the messages of the key."""
        await self._store.replace(key, messages, MessageStatus.ACTIVE)

    async def aget_messages(self, key: str) -> list[ChatMessage]:
        """The messages of a key, oldest first."""
        return await self._store.chat(key).aread(_FORM)

    async def async_add_message(self, key: str, message: ChatMessage) -> None:
        """Adds a message at the end."""
        await self._store.add(key, [message], MessageStatus.ACTIVE)

    async def adelete_messages(self, key: str) -> list[ChatMessage] | None:
        """Deletes the messages of a key, and returns them."""
        return await self._store.delete_all(key)

    async def adelete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Deletes the message at a place of the list, and returns it."""
        return await self._store.delete_at(key, idx)

    async def adelete_last_message(self, key: str) -> ChatMessage | None:
        """Deletes the last message, and returns it."""
        return await self.adelete_message(key, -1)

    async def aget_keys(self) -> list[str]:
        """The keys that have messages. It reads one for each key that there ever was."""
        return await self._store.keys()

    def close(self) -> None:
        """Closes the connection of the blocking methods, if it isn't that of a given client."""
        self._store.clients.close()

    async def aclose(self) -> None:
        """Closes the connections, if they aren't those of a given client."""
        await self._store.clients.aclose()


def of_message(message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> NewMessage:
    """LlamaIndex's message as a message."""
    role = str(message.role.value)
    extra = message.additional_kwargs
    calls = [block.tool_name for block in message.blocks if block.block_type == "tool_call"]
    calls += [name for call in extra.get("tool_calls") or [] if (name := _tool_name(call))]
    facts: dict[str, Any] = {
        "type": role,
        "tools": calls,
        "tool": extra.get("name") if _ROLES.get(role) == "tool" else None,
        "call_id": extra.get("tool_call_id"),
        "usage": extra.get("usage"),
        STATUS: None if status == MessageStatus.ACTIVE else status.value,
    }
    return framework_message(
        FRAMEWORK,
        _ROLES.get(role, "assistant"),
        message.content or "",
        to_json(message.model_dump(mode="json")),
        facts,
    )


def to_message(message: Message) -> ChatMessage:
    """A message as LlamaIndex's; one that another program wrote has its role and its text."""
    payload = own_payload(FRAMEWORK, message)
    if payload is not None:
        found = of_payload(payload)
        return found if found is not None else ChatMessage.model_validate(json.loads(payload))
    return ChatMessage(role=message.role, blocks=[TextBlock(text=message.content)])


def of_payload(payload: bytes) -> ChatMessage | None:
    """The message of a payload that has LlamaIndex's form; None where it hasn't, or can't be read as fast as this.

    It is what ``model_validate`` makes, without the constructor, which takes a message apart only to pass it on.
    """
    # Both keys are where model_dump has them. No text has them: in JSON its quotation marks are escaped.
    if not payload.startswith(b'{"role":') or b',"additional_kwargs":{' not in payload or b',"blocks":[' not in payload:
        return None
    made = ChatMessage.__new__(ChatMessage)
    try:
        ChatMessage.__pydantic_validator__.validate_json(payload, self_instance=made)
    except ValueError:
        return None
    return made


_FORM = Form(of_payload, to_message)


def _status(message: Message) -> MessageStatus:
    return MessageStatus(message.metadata.get(STATUS, MessageStatus.ACTIVE.value))


def _is_same(old: Message, new: NewMessage) -> bool:
    return old.payload == new.payload and old.metadata.get(STATUS) == (new.metadata or {}).get(STATUS)


def _tool_name(call: Any) -> str | None:
    """The tool's name of a call in a provider's own form: a dict, or an object of its SDK."""
    name = _field(_field(call, "function"), "name") or _field(call, "name")
    return name if isinstance(name, str) else None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
