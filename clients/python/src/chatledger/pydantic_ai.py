"""Pydantic AI: a ``ConversationStore`` that keeps conversations in chatledger.

A conversation is a session. Each entry of its log is one message. Each save appends its new entries and, after them,
the conversation's record as a system message without content, all or none, and only where nobody else has saved
since: the newest record is the one that holds. A fork's record points into the session of the conversation that it
was forked from.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import messages as ai
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from . import errors
from ._adapter import AT_ONCE, Chat, Clients, own_payload, framework_message, to_json
from ._ids import NAMESPACE, Id
from ._rpc import MAX_PAGE
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Role

FRAMEWORK = "pydantic-ai"
_RECORD, _ENTRY, _DELETED = "record", "entry", "deleted"
_MAX_PLACES = 100_000
"""The number of entries that the store remembers the session of: some 20 MB."""

_records = TypeAdapter(ConversationRecord)
_messages = TypeAdapter[ai.ModelMessage](ai.ModelMessage)


class ChatledgerConversationStore(ConversationStore):
    """A conversation store of Pydantic AI: ``await store.save(result)``, ``await store.load(conversation_id)``.

    A save is atomic up to 499 new messages and 8 MiB; more are stored before the record that makes them count. Two saves
    of the same revision: one raises ``ConversationConflict``.

    ``delete`` makes a conversation unknown and keeps its messages, since forks may share them. To erase them, too:
    ``client.messages.clear(chatledger.session_id_of(conversation_id))``.

    :param target: where the server is; default: ``CHATLEDGER_TARGET``.
    :param client: a client to use instead.
    :param user_id: the user whom new sessions belong to, a UUID.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        client: Client | AsyncClient | None = None,
        user_id: Id | None = None,
    ) -> None:
        self._clients = Clients(target, client, api_key)
        self._user_id = user_id
        # The session that an entry is in. Every read of a record fills in those that it points at.
        self._places: OrderedDict[str, str] = OrderedDict()

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """The record for a conversation, or ``None`` if the store doesn't have it."""
        return await self._record_of(self._chat(conversation_id).id)

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """The stored records, newest first. It reads one for each conversation that there is."""
        ids = [session_id async for session_id in self._sessions()]
        found: list[ConversationRecord] = []
        for start in range(0, len(ids), AT_ONCE):
            records = await asyncio.gather(*map(self._record_of, ids[start : start + AT_ONCE]))
            found += [record for record in records if record is not None and scope in (None, record.scope)]
        found.sort(key=lambda record: record.updated_at, reverse=True)
        return found[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Stores a record and the entries that it adds, together; raises ``ConversationConflict`` as the interface says."""
        chat = self._chat(record.conversation_id)
        places = await self._places_of(record, new_entries, chat.id)
        entries = [self._entry_to(entry, chat.id, places) for entry in new_entries]
        elsewhere = {entry: place for entry, place in places.items() if place != chat.id}
        payload = to_json({"record": json.loads(_records.dump_json(record)), "sessions": elsewhere})
        last = framework_message(FRAMEWORK, "system", "", payload, {"kind": _RECORD}, _message_id(record.revision))
        await self._append(chat, [*entries, last], record.conversation_id, expected_revision)
        for entry in new_entries:
            self._remember(entry.id, chat.id)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Makes a conversation unknown. Its entries stay, since forks may share them."""
        mark = framework_message(FRAMEWORK, "system", "", b"{}", {"kind": _DELETED})
        await self._append(self._chat(conversation_id), [mark], conversation_id, expected_revision)

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """The entries from the first one up to ``head_id``, in order, or only the last ``limit`` of them."""
        history: list[ConversationEntry] = []
        wanted, place = head_id, await self._place(head_id)
        while wanted is not None and (limit is None or len(history) < limit):
            # One pass over the session, newest first: an entry's parent is always further back.
            async for entry, parent_place in self._entries(place):
                if entry.id != wanted:
                    continue
                history.append(entry)
                self._remember(entry.id, place)
                wanted = entry.parent_id
                if wanted is None or (limit is not None and len(history) >= limit):
                    break
                if parent_place is not None:
                    place = parent_place
                    break
            else:
                if wanted is not None:
                    raise LookupError(f"entry {wanted!r} is not stored")
        return history[::-1]

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """The entry with this identifier; of one that no record read so far points at, all conversations are asked."""
        message = await self._message(await self._place(entry_id), entry_id)
        if message is None:
            raise LookupError(f"entry {entry_id!r} is not stored")
        return self._entry_from(message)[0]

    async def aclose(self) -> None:
        """Closes the connection, if it isn't that of a given client."""
        await self._clients.aclose()

    def _chat(self, conversation_id: str) -> Chat:
        return Chat(self._clients, FRAMEWORK, conversation_id, self._user_id)

    async def _sessions(self) -> AsyncIterator[str]:
        listing = self._clients.aio.sessions.list(
            user_id=self._user_id, metadata_contains={"framework": FRAMEWORK}, page_size=MAX_PAGE
        )
        async for session in listing:
            yield session.id

    async def _record_of(self, session_id: str) -> ConversationRecord | None:
        # The first system message from the end is the record, unless another program wrote some.
        listing = self._clients.aio.messages.list(
            session_id, order="desc", roles=["system"], page_size=2, omit_citations=True
        )
        try:
            async for message in listing:
                kind, payload = message.metadata.get("kind"), own_payload(FRAMEWORK, message)
                if kind == _DELETED:
                    return None
                if kind == _RECORD and payload is not None:
                    return self._record_from(payload, session_id)
        except errors.NotFoundError:
            return None
        return None

    def _record_from(self, payload: bytes, session_id: str) -> ConversationRecord:
        form = json.loads(payload)
        record = _records.validate_python(form["record"])
        for entry_id in filter(None, [record.head_id, record.forked_at, *record.branches]):
            self._remember(entry_id, form["sessions"].get(entry_id, session_id))
        return record

    async def _append(
        self, chat: Chat, messages: list[NewMessage], conversation_id: str, expected_revision: str | None
    ) -> None:
        """Appends where the stored record has this revision, and nobody else appends meanwhile."""
        while True:
            last_seq = await chat.alast_seq()
            # The record is read after the seq: what is appended after that is found out by the server.
            record = await self._record_of(chat.id)
            if (record.revision if record else None) != expected_revision:
                raise ConversationConflict(conversation_id)
            try:
                await chat.aappend(messages, expected_last_seq=last_seq, each_step=True)
                return
            except errors.SequenceConflictError:
                # This is another save, which the next look finds, or another program's message, which doesn't matter.
                continue

    async def _places_of(
        self, record: ConversationRecord, new_entries: Sequence[ConversationEntry], session_id: str
    ) -> dict[str, str]:
        """The sessions of the entries that a record, and the first of its new entries, point at."""
        places = {entry.id: session_id for entry in new_entries}
        pointed_at = [record.head_id, record.forked_at, *record.branches, *(e.parent_id for e in new_entries)]
        for entry_id in filter(None, pointed_at):
            if entry_id not in places:
                try:
                    places[entry_id] = await self._place(entry_id)
                except LookupError:
                    raise ConversationConflict(record.conversation_id) from None
        return places

    async def _place(self, entry_id: str | None) -> str:
        """The session that an entry is in."""
        if entry_id is None:
            return ""
        place = self._places.get(entry_id)
        if place is not None:
            return place
        async for session_id in self._sessions():
            if await self._message(session_id, entry_id) is not None:
                self._remember(entry_id, session_id)
                return session_id
        raise LookupError(f"entry {entry_id!r} is not stored")

    def _remember(self, entry_id: str, session_id: str) -> None:
        self._places[entry_id] = session_id
        self._places.move_to_end(entry_id)
        if len(self._places) > _MAX_PLACES:
            self._places.popitem(last=False)

    async def _message(self, session_id: str, entry_id: str) -> Message | None:
        try:
            return await self._clients.aio.messages.get(session_id, _message_id(entry_id))
        except errors.NotFoundError:
            return None

    async def _entries(self, session_id: str) -> AsyncIterator[tuple[ConversationEntry, str | None]]:
        """A session's entries, newest first, each with its parent's session where that is another one."""
        listing = self._clients.aio.messages.list(session_id, order="desc", page_size=MAX_PAGE, omit_citations=True)
        async for message in listing:
            if message.metadata.get("kind") == _ENTRY and message.metadata.get("framework") == FRAMEWORK:
                yield self._entry_from(message)

    def _entry_from(self, message: Message) -> tuple[ConversationEntry, str | None]:
        form = json.loads(message.payload or b"{}")
        entry = ConversationEntry(
            id=form["id"], parent_id=form["parent_id"], message=_messages.validate_python(form["message"])
        )
        return entry, form.get("parent_session")

    def _entry_to(self, entry: ConversationEntry, session_id: str, places: dict[str, str]) -> NewMessage:
        place = places.get(entry.parent_id) if entry.parent_id is not None else None
        form = {
            "id": entry.id,
            "parent_id": entry.parent_id,
            "parent_session": place if place != session_id else None,
            "message": json.loads(_messages.dump_json(entry.message)),
        }
        role, text, facts = _read(entry.message)
        return framework_message(FRAMEWORK, role, text, to_json(form), {"kind": _ENTRY} | facts, _message_id(entry.id))


def _message_id(entry_id: str) -> str:
    """The id of the message that holds an entry, or a revision's record."""
    try:
        return str(uuid.UUID(entry_id))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, entry_id))


def _read(message: ai.ModelMessage) -> tuple[Role, str, dict[str, Any]]:
    """The part of a message that other languages can read: role, text, and tools and usage as metadata."""
    if isinstance(message, ai.ModelResponse):
        usage = {key: value for key, value in vars(message.usage).items() if value}
        facts = {
            "type": message.kind,
            "model": message.model_name,
            "tools": [part.tool_name for part in message.parts if isinstance(part, ai.ToolCallPart)],
            "usage": usage,
        }
        return "assistant", message.text or "", facts
    texts: list[str] = []
    role: Role = "system"
    for part in message.parts:
        if isinstance(part, ai.UserPromptPart):
            role = "user"
            contents = [part.content] if isinstance(part.content, str) else part.content
            texts += [content for content in contents if isinstance(content, str)]
        elif isinstance(part, ai.ToolReturnPart):
            role = role if role == "user" else "tool"
            texts.append(part.model_response_str())
        elif isinstance(part, ai.SystemPromptPart):
            texts.append(part.content)
    tools = [part.tool_name for part in message.parts if isinstance(part, ai.ToolReturnPart)]
    return role, "\n".join(texts), {"type": message.kind, "tools": tools}
