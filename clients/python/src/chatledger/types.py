"""The values that go in and come out: plain dataclasses. Times are aware, in UTC; ids are canonical UUIDs as ``str``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, final

from ._ids import Id

Role = Literal["user", "assistant", "system", "tool"]
"""The speaker of a message: the person, the model, instructions to the model, or a tool's result."""

JsonObject = dict[str, Any]
"""A JSON object. Values survive, spellings don't: 1e2 reads back as 100."""


@final
class Unset:
    """The type of :data:`UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""The value of an argument that says "leave it as it is", where ``None`` says "clear it"."""

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def time_of(stamp: tuple[int, int]) -> datetime.datetime:
    """The time of a protobuf Timestamp: so many seconds and nanoseconds after 1970."""
    return EPOCH + datetime.timedelta(0, stamp[0], stamp[1] // 1000)


class _Lazy:
    """A dataclass's field that is parsed when it is first asked for: most readers of a history never do.

    The slot holds what the server sent until then, which is of a type that the field itself never has.
    """

    __slots__ = ("_parse", "_raw", "_slot")

    def __init__(self, slot: Any, raw: type, parse: Callable[[Any], Any]) -> None:
        self._slot, self._raw, self._parse = slot, raw, parse

    def __get__(self, owner: object | None, kind: type | None = None) -> Any:
        if owner is None:
            return self
        value = self._slot.__get__(owner, kind)
        if type(value) is self._raw:
            # Two threads may both get here: they store equal values.
            value = self._parse(value)
            self._slot.__set__(owner, value)
        return value

    def __set__(self, owner: object, value: Any) -> None:
        self._slot.__set__(owner, value)


def _parsed_late(kind: type, **fields: tuple[type, Callable[[Any], Any]]) -> None:
    """Makes fields of a dataclass lazy: each with the type that its slot has before, and the function that parses it."""
    for name, (raw, parse) in fields.items():
        setattr(kind, name, _Lazy(getattr(kind, name), raw, parse))


@dataclass(frozen=True, slots=True)
class User:
    """A person who chats."""

    id: str
    email: str
    """The address, unique without regard to case."""
    external_id: str | None
    """The id that an identity provider gives (a JWT's ``sub``)."""
    name: str
    is_active: bool
    """Whether the user may sign in."""
    create_time: datetime.datetime
    update_time: datetime.datetime


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's onboarding answers."""

    user_id: str
    software_background: str | None
    hardware_background: str | None
    learning_goals: str | None
    experience_level: str | None
    preferred_language: str | None
    """A BCP-47 language tag."""
    preferences: JsonObject
    create_time: datetime.datetime
    update_time: datetime.datetime


@dataclass(frozen=True, slots=True)
class NewProfile:
    """A profile to create together with its user."""

    software_background: str | None = None
    hardware_background: str | None = None
    learning_goals: str | None = None
    experience_level: str | None = None
    preferred_language: str | None = None
    """A BCP-47 language tag; the server's default is ``en``."""
    preferences: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation."""

    id: str
    user_id: str | None
    """The user it belongs to; None: anonymous."""
    title: str
    metadata: JsonObject
    last_seq: int
    """The number of messages that were ever appended: the seq of the last one."""
    create_time: datetime.datetime
    update_time: datetime.datetime
    last_message_time: datetime.datetime | None
    """None before the first message."""


@dataclass(frozen=True, slots=True)
class Citation:
    """One source of a message: a chunk of a document."""

    document_id: str
    chunk_id: str = ""
    score: float = 0.0
    """The retrieval score, finite, in the retriever's own scale."""
    citation_index: int = 0
    """The number that the text cites it by, from 1; 0 in a request: the lowest free one."""
    session_id: str | None = None
    """Output only, and only from ``citations``: the session of the citing message."""
    message_id: str | None = None
    """Output only, and only from ``citations``: the citing message."""
    create_time: datetime.datetime | None = None
    """Output only, and only from ``citations``: when it was stored."""


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message of a session."""

    id: str
    session_id: str
    seq: int
    """The message's place in the session, from 1."""
    role: Role
    content: str
    selected_text: str | None
    """The passage that the person had selected when asking."""
    metadata: JsonObject
    payload: bytes | None
    """A framework's own form of the message, byte for byte as it was given."""
    citations: list[Citation]
    """The message's sources, by citation_index."""
    create_time: datetime.datetime
    """The time of the append; strictly increases with seq within a session, except for imports."""


SET_MESSAGE: Final = tuple(vars(Message)[name].__set__ for name in Message.__match_args__)
"""The setters of a message's slots, in the order of the fields: the constructor takes as long as all the rest."""

_parsed_late(Message, metadata=(str, json.loads), create_time=(tuple, time_of))


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append, for ``messages.append_batch``."""

    role: Role
    content: str = ""
    """The text, at most 1 MiB; may be empty."""
    selected_text: str | None = None
    """The passage that the person had selected, at most 64 KiB."""
    metadata: Mapping[str, Any] | None = None
    """A JSON object, at most 64 KiB and 32 levels deep."""
    payload: bytes | None = None
    """A framework's own form of the message, at most 1 MiB."""
    citations: Sequence[Citation] = ()
    """The message's sources, at most 100."""
    message_id: Id | None = None
    """The id; None: a new UUIDv7, made before the first attempt."""
    create_time: datetime.datetime | None = None
    """The time, for imports only; not in the future."""


class MessageFields(TypedDict, total=False):
    """The fields of a :class:`NewMessage` behind its content, for functions that take them by name and pass them on.

    The type checkers can't read them from the dataclass; a test holds the two alike.
    """

    selected_text: str | None
    metadata: Mapping[str, Any] | None
    payload: bytes | None
    citations: Sequence[Citation]
    message_id: Id | None
    create_time: datetime.datetime | None


@dataclass(slots=True)
class Receipt:
    """The place where an appended message was stored."""

    message_id: str
    session_id: str
    seq: int
    """The message's place in the session, from 1."""
    create_time: datetime.datetime
    deduplicated: bool
    """True where the message had been stored by an earlier request."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One message that matches a search."""

    message: Message
    session_title: str
    rank: float
    """The rank by Postgres' ts_rank; higher is better."""
    snippet: str
    """The best passage, the matched words between ``<b>`` and ``</b>``. The rest is not escaped."""


@dataclass(frozen=True, slots=True)
class Document:
    """The facts known of one source."""

    id: str
    """The key that citations use, 1 to 512 bytes."""
    title: str
    source_uri: str
    mime_type: str
    content_hash: str
    metadata: JsonObject
    create_time: datetime.datetime
    update_time: datetime.datetime


@dataclass(frozen=True, slots=True)
class TopDocument:
    """A document and how often it was cited."""

    document_id: str
    title: str
    """Empty where the document isn't registered."""
    citation_count: int
    mean_score: float


@dataclass(frozen=True, slots=True)
class UserActivity:
    """The numbers of one user's sessions and messages."""

    user_id: str
    email: str
    session_count: int
    message_count: int
    last_active_time: datetime.datetime | None
    """None without sessions."""


@dataclass(frozen=True, slots=True)
class DailyVolume:
    """One day's count."""

    date: datetime.date
    """The day in the requested time zone."""
    message_count: int
    session_count: int


@dataclass(frozen=True, slots=True)
class SessionLengthBucket:
    """A range of lengths and how many sessions fall in it."""

    label: str
    """``1``, ``2-5``, ``6-10``, ``11-20`` or ``20+``."""
    session_count: int


CallerKind = Literal["service", "end_user", "local"]
"""What a caller is: a program, a person, or anybody, of a server that asks for no credentials."""

Scope = Literal["read", "write", "users", "admin"]
"""What a service may do; each includes those before it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What the server takes a caller for."""

    kind: CallerKind
    tenant: str
    user_id: str | None
    """The user that it is, or acts for."""
    scopes: list[Scope]
    """What it may do; of an end user empty: that follows from whose the data is."""
    key_id: str | None
    """The id of its API key, where that is a stored one."""
    expire_time: datetime.datetime | None
    """When its credentials end; None: they don't."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of an API key, without its secret."""

    id: str
    """The part of the key that is no secret."""
    name: str
    tenant: str
    """The tenant whose data it reaches."""
    scopes: list[Scope]
    create_time: datetime.datetime
    expire_time: datetime.datetime | None
    """When it ends; None: never."""
    revoke_time: datetime.datetime | None
    """When it was revoked; None: it wasn't."""
    last_use_time: datetime.datetime | None
    """When it was last used, to the hour or so; None: it wasn't."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """An API key that was just made."""

    api_key: ApiKey
    secret: str = field(repr=False)
    """The whole key, to be given to a client as ``api_key``. It can't be had again."""
