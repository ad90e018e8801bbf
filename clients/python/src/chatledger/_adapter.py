"""The parts that the adapters to frameworks share: their clients, the sessions behind string ids, and readable copies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from . import _convert as convert
from . import errors
from ._ids import Id, session_id_of
from ._requests.messages import append_encoded, listing
from ._rpc import MAX_PAGE, AsyncPager, Listing, Page, Rpc, Stream
from ._settings import settings
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Receipt, Role
from .v1 import message_pb2 as pb

T = TypeVar("T")

AT_ONCE = 16
"""The number of sessions that are read at a time: few enough to leave the server to others."""

MAX_BATCH = 500
"""The most messages that the server stores all or none of."""

MAX_REQUEST_BYTES = (8 << 20) - 1024
"""The most bytes of messages in a request: what the server takes, without the room for what isn't messages."""

MAX_CONTENT_BYTES = 1 << 20
"""The most bytes of content that the server takes. The payload has a message whole."""

MAX_PAYLOAD_BYTES = 1 << 20
MAX_JSON_BYTES = 64 << 10
"""The most bytes of payload and of metadata that a server takes by default."""

_NEVER = (1 << 63) - 1
"""A seq that no session has: an append that expects it is checked, and stores nothing."""


class Clients:
    """The clients of an adapter: the given one, and those that it makes itself, alike, where another kind is needed.

    An async client belongs to an event loop, and frameworks run many (``Runner.run_sync``): there is one for each.
    """

    def __init__(self, target: str | None, client: Client | AsyncClient | None, api_key: str | None) -> None:
        if client is not None and (target is not None or api_key is not None):
            raise ValueError("give target and api_key, or client")
        self.settings = (
            # The timeout is the one that the client has, where with_timeout made it.
            dataclasses.replace(client.settings, timeout=client._timeout)
            if client is not None
            else settings(target, api_key=api_key)
        )
        self._sync = client if isinstance(client, Client) else None
        self._owns_sync = False
        self._given = client if isinstance(client, AsyncClient) else None
        # Weak references wouldn't do: a client holds its loop, so they would never end.
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncClient] = {}

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
            # Each asyncio.run closes its loop; other threads may be here at the same time.
            for other in list(self._by_loop):
                if other.is_closed():
                    self._by_loop.pop(other, None)
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


@dataclasses.dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """The form of a framework's messages, and how they are read."""

    of_payload: Callable[[bytes], T | None]
    """The message of a payload, by what is fastest; None where it might be another program's, or isn't read like that."""
    of_message: Callable[[Message], T]
    """The message of a message that is there as a whole, whoever wrote it."""


class _Reading(Generic[T]):
    """One read of a history, straight from protobuf to the framework's own messages.

    Its first page comes by a call of its own: most histories have no more, and a stream takes twice as long to open. The
    payloads come alone, since they have all of it. Whose they are is in the metadata, so it has to be seen by the payload
    itself; where there is a doubt, the history has to be read once more, as a whole.
    """

    def __init__(self, form: Form[T]) -> None:
        self._form = form
        self._last_seq = 0
        self.doubtful = False

    def listing(self, session_id: str, **fields: Any) -> Listing[T]:
        return listing(self._decode, session_id, omit_citations=True, payload_only=True, **fields)

    def page(self, session_id: str) -> Rpc[Page[T]]:
        """The call for the first page."""
        return self.listing(session_id, limit=MAX_PAGE).next("", 0)

    def rest(self, session_id: str) -> Stream[T]:
        """The stream of all that is behind what was read."""
        stream = self.listing(session_id, after_seq=self._last_seq).whole
        assert stream is not None  # nothing was asked for that needs pages
        return stream

    def _decode(self, message: pb.Message) -> T:
        self._last_seq = message.seq
        payload = message.payload
        if payload:
            found = self._form.of_payload(payload)
            if found is not None:
                return found
        if message.HasField("payload"):
            self.doubtful = True
        return self._form.of_message(convert.message_from(message))


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
        """Appends messages: together or not at all as far as one request takes them, more in steps."""
        receipts: list[Receipt] = []
        client = self.clients.sync
        steps = steps_of(messages)
        if (doubtful := doubtful_message(steps)) is not None:
            try:
                client.run(append_encoded(self.id, [doubtful], _NEVER))
            except (errors.SequenceConflictError, errors.NotFoundError):
                pass
        for step in steps:
            call = append_encoded(self.id, step)
            try:
                stored = client.run(call)
            except errors.NotFoundError:
                client.sessions.create(**self._session)  # type: ignore[arg-type]
                stored = client.run(call)
            receipts += stored
        return receipts

    async def aappend(
        self, messages: Sequence[NewMessage], expected_last_seq: int | None = None, *, each_step: bool = False
    ) -> list[Receipt]:
        """Appends messages: together or not at all as far as one request takes them, more in steps.

        ``expected_last_seq`` holds for the first step, so that where it differs nothing was stored; with ``each_step``
        nobody else may append between the steps either.
        """
        receipts: list[Receipt] = []
        client = self.clients.aio
        steps = steps_of(messages)
        if (doubtful := doubtful_message(steps)) is not None:
            try:
                await client.run(append_encoded(self.id, [doubtful], _NEVER))
            except (errors.SequenceConflictError, errors.NotFoundError):
                pass
        for step in steps:
            call = append_encoded(self.id, step, expected_last_seq)
            try:
                stored = await client.run(call)
            except errors.NotFoundError:
                await self.acreate()
                stored = await client.run(call)
            receipts += stored
            if expected_last_seq is not None:
                # A step that was stored before, by an attempt that was cut short, is further back.
                expected_last_seq = max(expected_last_seq, receipts[-1].seq) if each_step else None
        return receipts

    async def alast_seq(self) -> int:
        """The session's last seq, for an append that expects it; creates the session, if it isn't there."""
        try:
            return (await self.clients.aio.sessions.get(self.id)).last_seq
        except errors.NotFoundError:
            await self.acreate()
            return 0

    async def acreate(self) -> None:
        """Creates the session, if it isn't there."""
        await self.clients.aio.sessions.create(**self._session)  # type: ignore[arg-type]

    def read(self, form: Form[T]) -> list[T]:
        """All messages as the framework's own, oldest first; none where there is no session."""
        reading, client = _Reading(form), self.clients.sync
        try:
            first = client.run(reading.page(self.id))
            items = first.items
            if first.next_page_token:
                for frame in client.frames(reading.rest(self.id)):
                    items.extend(frame.items)
        except errors.NotFoundError:
            return []
        if not reading.doubtful:
            return items
        return [form.of_message(message) for message in client.messages.list(self.id, omit_citations=True)]

    async def aread(self, form: Form[T]) -> list[T]:
        """All messages as the framework's own, oldest first; none where there is no session."""
        reading, client = _Reading(form), self.clients.aio
        try:
            first = await client.run(reading.page(self.id))
            items = first.items
            if first.next_page_token:
                async for frame in client.frames(reading.rest(self.id)):
                    items.extend(frame.items)
        except errors.NotFoundError:
            return []
        return [form.of_message(message) for message in await self.amessages()] if reading.doubtful else items

    async def aread_last(self, form: Form[T], count: int) -> list[T]:
        """The last messages as the framework's own, oldest first; none where there is no session."""
        reading = _Reading(form)
        wanted = reading.listing(self.id, order="desc", limit=count)
        try:
            items = [item async for page in AsyncPager(self.clients.aio, wanted).pages() for item in page.items]
        except errors.NotFoundError:
            return []
        if reading.doubtful:
            return [form.of_message(message) for message in await self.alast(count)]
        return items[::-1]

    async def amessages(self) -> list[Message]:
        """All messages, oldest first; none where there is no session."""
        try:
            return [message async for message in self.clients.aio.messages.list(self.id, omit_citations=True)]
        except errors.NotFoundError:
            return []

    async def alast(self, count: int) -> list[Message]:
        """The last messages, oldest first; none where there is no session."""
        listing = self.clients.aio.messages.list(self.id, order="desc", limit=count, omit_citations=True)
        try:
            return [message async for message in listing][::-1]
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


def steps_of(messages: Iterable[NewMessage]) -> list[list[pb.NewMessage]]:
    """The steps of what the server stores all or none of: so many messages, in a request of such a size."""
    steps: list[list[pb.NewMessage]] = []
    size = 0
    for message in map(convert.new_message_to, messages):
        # Protobuf puts six bytes around each.
        wanted = message.ByteSize() + 6
        if not steps or len(steps[-1]) == MAX_BATCH or size + wanted > MAX_REQUEST_BYTES:
            steps.append([])
            size = 0
        steps[-1].append(message)
        size += wanted
    return steps


def doubtful_message(steps: Sequence[Sequence[pb.NewMessage]]) -> pb.NewMessage | None:
    """A message that the server may refuse after earlier steps were stored, so that it should be asked before."""
    later = (message for step in steps[1:] for message in step)
    return next((message for message in later if _is_large(message)), None)


def _is_large(message: pb.NewMessage) -> bool:
    return len(message.payload) > MAX_PAYLOAD_BYTES or len(message.metadata_json.encode()) > MAX_JSON_BYTES


_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def to_json(value: Any) -> bytes:
    """JSON as the payload has it: as UTF-8, or escaped, so that any string goes through, also with lone surrogates."""
    try:
        return _to_json(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def readable_text(text: str) -> str:
    """A text as other languages read it: without what PostgreSQL can't hold, and within what the server takes."""
    if text.isascii() and len(text) <= MAX_CONTENT_BYTES and "\0" not in text:
        return text
    data = text.replace("\0", "\ufffd").encode(errors="replace")
    return data[:MAX_CONTENT_BYTES].decode(errors="ignore")


def framework_message(
    framework: str, role: Role, text: str, payload: bytes, facts: Mapping[str, Any], message_id: str | None = None
) -> NewMessage:
    """A framework's message: the payload whole, its text as content, and what else is known of it as metadata."""
    metadata = {"framework": framework} | {key: value for key, value in facts.items() if value not in (None, [], {})}
    return NewMessage(
        role, readable_text(text), metadata=_clean_metadata(metadata), payload=payload, message_id=message_id
    )


def own_payload(framework: str, message: Message) -> bytes | None:
    """The payload, where this framework wrote it; None: read role and content."""
    if message.metadata.get("framework") != framework:
        return None
    return message.payload


def _clean_metadata(value: Any) -> Any:
    """Metadata that PostgreSQL can hold."""
    if isinstance(value, str):
        return readable_text(value)
    if isinstance(value, Mapping):
        return {readable_text(str(key)): _clean_metadata(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_metadata(each) for each in value]
    return value
