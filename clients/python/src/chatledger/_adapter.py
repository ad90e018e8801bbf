"""What the adapters to frameworks share: their clients, the sessions behind string ids, and readable copies."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import errors
from ._ids import Id, session_id_of
from ._settings import DEFAULT_TIMEOUT, settings
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Receipt, Role

MAX_BATCH = 500
"""The most messages that the server stores all or none of."""

MAX_CONTENT_BYTES = 1 << 20
"""What the server takes as content. The payload has a message whole."""


class Clients:
    """The clients of an adapter: the given one, and those that it makes itself, alike, where another kind is needed.

    An async client belongs to an event loop, and frameworks run many (``Runner.run_sync``): there is one for each.
    """

    def __init__(self, target: str | None, client: Client | AsyncClient | None, api_key: str | None) -> None:
        if client is not None and (target is not None or api_key is not None):
            raise ValueError("give target and api_key, or client")
        self.settings = (
            client.settings
            if client is not None
            else settings(
                target,
                api_key=api_key,
                timeout=DEFAULT_TIMEOUT,
                tls=None,
                root_certificates=None,
                private_key=None,
                certificate_chain=None,
            )
        )
        self._sync = client if isinstance(client, Client) else None
        self._owns_sync = False
        self._given = client if isinstance(client, AsyncClient) else None
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def sync(self) -> Client:
        if self._sync is None:
            self._sync, self._owns_sync = Client.of_settings(self.settings), True
        return self._sync

    @property
    def aio(self) -> AsyncClient:
        if self._given is not None and self._given.fits_here():
            return self._given
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            found = self._by_loop[loop] = AsyncClient.of_settings(self.settings)
        return found

    def close(self) -> None:
        """Closes the blocking client, if it was made here."""
        if self._sync is not None and self._owns_sync:
            self._sync.close()
            self._sync = None

    async def aclose(self) -> None:
        """Closes what was made here, as far as it belongs to no other event loop."""
        self.close()
        found = self._by_loop.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.close()


class Chat:
    """A framework's conversation as a session, which is created with its first message."""

    def __init__(self, clients: Clients, framework: str, name: str, user_id: Id | None = None) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"a session's id must be a string that isn't empty, not {name!r}")
        self.clients = clients
        self.id = session_id_of(name)
        self._session = {
            "session_id": self.id,
            "user_id": user_id,
            "metadata": {"framework": framework, "name": name},
        }

    def append(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        """Appends messages: up to 500 together or not at all, more in steps of 500."""
        receipts: list[Receipt] = []
        with_ids = batches(messages)
        client = self.clients.sync
        for batch in with_ids:
            try:
                receipts += client.messages.append_batch(self.id, batch)
            except errors.NotFoundError:
                client.sessions.create(**self._session)  # type: ignore[arg-type]
                receipts += client.messages.append_batch(self.id, batch)
        return receipts

    async def aappend(self, messages: Sequence[NewMessage], expected_last_seq: int | None = None) -> list[Receipt]:
        """Appends messages: up to 500 together or not at all, more in steps of 500."""
        receipts: list[Receipt] = []
        client = self.clients.aio
        for batch in batches(messages):
            try:
                receipts += await client.messages.append_batch(self.id, batch, expected_last_seq=expected_last_seq)
            except errors.NotFoundError:
                await self.acreate()
                receipts += await client.messages.append_batch(self.id, batch, expected_last_seq=expected_last_seq)
            if expected_last_seq is not None:
                expected_last_seq = receipts[-1].seq
        return receipts

    async def acreate(self) -> None:
        """Creates the session, if it isn't there."""
        await self.clients.aio.sessions.create(**self._session)  # type: ignore[arg-type]

    def messages(self) -> list[Message]:
        """All messages, oldest first; none where there is no session."""
        try:
            return list(self.clients.sync.messages.list(self.id, page_size=MAX_BATCH, omit_citations=True))
        except errors.NotFoundError:
            return []

    async def amessages(self) -> list[Message]:
        """All messages, oldest first; none where there is no session."""
        listing = self.clients.aio.messages.list(self.id, page_size=MAX_BATCH, omit_citations=True)
        try:
            return [message async for message in listing]
        except errors.NotFoundError:
            return []

    async def alast(self, count: int) -> list[Message]:
        """The last messages, oldest first; none where there is no session."""
        try:
            return await self.clients.aio.messages.last(self.id, count)
        except errors.NotFoundError:
            return []

    async def adelete(self, message: Message) -> bool:
        """Erases a message; False where somebody else has done so before."""
        try:
            await self.clients.aio.messages.delete(self.id, message.id)
        except errors.NotFoundError:
            return False
        return True

    def clear(self) -> None:
        """Erases all messages."""
        try:
            self.clients.sync.messages.clear(self.id)
        except errors.NotFoundError:
            return

    async def aclear(self) -> None:
        """Erases all messages."""
        try:
            await self.clients.aio.messages.clear(self.id)
        except errors.NotFoundError:
            return


def batches(messages: Sequence[NewMessage]) -> Iterable[Sequence[NewMessage]]:
    """In steps of what the server stores all or none of."""
    return (messages[start : start + MAX_BATCH] for start in range(0, len(messages), MAX_BATCH))


def to_json(value: Any) -> bytes:
    """JSON as the payload has it. Characters beyond ASCII are escaped, so that any string goes through."""
    return json.dumps(value, separators=(",", ":")).encode()


def readable(text: str) -> str:
    """A text as other languages read it: without what PostgreSQL can't hold, and within what the server takes."""
    data = text.replace("\0", "\ufffd").encode(errors="replace")
    return data[:MAX_CONTENT_BYTES].decode(errors="ignore")


def stored(
    framework: str, role: Role, text: str, payload: bytes, facts: Mapping[str, Any], message_id: str | None = None
) -> NewMessage:
    """A framework's message: the payload whole, its text as content, and what else is known of it as metadata."""
    metadata = {"framework": framework} | {key: value for key, value in facts.items() if value not in (None, [], {})}
    return NewMessage(role, readable(text), metadata=_clean(metadata), payload=payload, message_id=message_id)


def own_payload(framework: str, message: Message) -> bytes | None:
    """The payload, where this framework wrote it; None: read role and content."""
    if message.metadata.get("framework") != framework:
        return None
    return message.payload


def _clean(value: Any) -> Any:
    """Metadata that PostgreSQL can hold."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(key)): _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    return value
