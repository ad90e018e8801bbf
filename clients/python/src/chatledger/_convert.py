"""The conversion between protobuf's messages and the dataclasses: the only place that knows both."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message as Protobuf
from google.protobuf.timestamp_pb2 import Timestamp

from . import types as t
from ._ids import Id, uuid7
from .v1 import access_pb2, analytics_pb2, citation_pb2, document_pb2, message_pb2, profile_pb2, session_pb2, user_pb2

_EPOCH = t.EPOCH
_CALLER_KINDS: dict[int, t.CallerKind] = {
    access_pb2.CALLER_KIND_SERVICE: "service",
    access_pb2.CALLER_KIND_END_USER: "end_user",
    access_pb2.CALLER_KIND_LOCAL: "local",
}
_ROLE_NUMBERS: dict[str, message_pb2.Role] = {
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "system": message_pb2.ROLE_SYSTEM,
    "tool": message_pb2.ROLE_TOOL,
}
_ROLES: dict[int, Any] = {number: name for name, number in _ROLE_NUMBERS.items()}

_new: Any = object.__new__
(
    _set_id,
    _set_session_id,
    _set_seq,
    _set_role,
    _set_content,
    _set_selected_text,
    _set_metadata,
    _set_payload,
    _set_citations,
    _set_create_time,
) = t.SET_MESSAGE

R = TypeVar("R", bound=Protobuf)
V = TypeVar("V")
C = TypeVar("C")


def make(kind: type[R], /, *, within: str = "", **fields: Any) -> R:
    """A protobuf message of these fields; what it doesn't take is named, as ``within`` that."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise culprit(error, kind, fields, within) from None


def culprit(error: Exception, kind: type[Protobuf], fields: Mapping[str, Any], within: str = "") -> Exception:
    """The error of a field that protobuf doesn't take, with its name.

    Protobuf doesn't say which it was. To find out by trying them is for afterwards: it must cost nothing before.
    """
    for name, value in fields.items():
        try:
            kind(**{name: value})
        except (TypeError, ValueError) as why:
            error_kind = TypeError if isinstance(why, TypeError) else ValueError
            return error_kind(f"{within}{name.removesuffix('_json')} can't be sent as {type(value).__name__}: {why}")
    return error


def check_kind(value: object, kind: type, field: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{field} must be {kind.__name__}, not {type(value).__name__}")


def each(values: Iterable[V], field: str) -> Iterable[V]:
    """The values, where they are several: of a text, one would get the letters."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{field} must be a sequence, not {type(values).__name__}")
    return values


def choice(value: Any, choices: Mapping[str, C], field: str) -> C:
    try:
        return choices[value]
    except (KeyError, TypeError):
        raise ValueError(f"{field} must be one of {', '.join(choices)}, not {value!r}") from None


def time_from(stamp: Timestamp) -> datetime.datetime:
    return t.time_of((stamp.seconds, stamp.nanos))


def time_to(value: datetime.datetime, field: str) -> Timestamp:
    check_kind(value, datetime.datetime, field)
    if value.utcoffset() is None:
        raise ValueError(f"{field} must be an aware datetime, such as datetime.now(timezone.utc)")
    delta = value - _EPOCH
    return Timestamp(seconds=delta.days * 86_400 + delta.seconds, nanos=delta.microseconds * 1000)


def optional_time_to(value: datetime.datetime | None, field: str) -> Timestamp | None:
    return None if value is None else time_to(value, field)


_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_to(value: Mapping[str, Any] | None, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        raise TypeError(f"{field} must be a dict, not {type(value).__name__}")
    try:
        return _to_json(value if isinstance(value, dict) else dict(value))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{field} is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{field} is nested too deep") from None


def optional_json_to(value: Mapping[str, Any] | None, field: str) -> str | None:
    return None if value is None else json_to(value, field)


def json_from(text: str) -> t.JsonObject:
    return json.loads(text) if text else {}


def id_to(value: Id | None) -> str | None:
    return None if value is None else str(value)


def new_id(value: Id | None) -> str:
    """The given id, or a new one: made here, so that the call can be retried."""
    return uuid7() if value is None else str(value)


def set_given(request: Protobuf, given: Mapping[str, Any], mask: FieldMask) -> None:
    """Sets the fields that are given, and names them in the mask; one of None is named and not set, hence cleared."""
    for name, value in given.items():
        if not isinstance(value, t.Unset):
            mask.paths.append(name)
            if value is not None:
                try:
                    setattr(request, name, value)
                except (TypeError, ValueError) as error:
                    raise culprit(error, type(request), {name: value}) from None
    if not mask.paths:
        raise ValueError(f"give at least one of {', '.join(name.removesuffix('_json') for name in given)}")


def json_mode(replace: bool) -> session_pb2.JsonMode:
    return session_pb2.JSON_MODE_REPLACE if replace else session_pb2.JSON_MODE_MERGE


def role_to(role: str, field: str = "role") -> message_pb2.Role:
    return choice(role, _ROLE_NUMBERS, field)


def roles_to(roles: Iterable[str]) -> list[message_pb2.Role]:
    return [role_to(role, "roles") for role in each(roles, "roles")]


def user_from(m: user_pb2.User) -> t.User:
    return t.User(
        id=m.id,
        email=m.email,
        external_id=m.external_id if m.HasField("external_id") else None,
        name=m.name,
        is_active=m.is_active,
        create_time=time_from(m.create_time),
        update_time=time_from(m.update_time),
    )


def profile_from(m: profile_pb2.Profile) -> t.Profile:
    def text(name: str) -> str | None:
        return getattr(m, name) if m.HasField(name) else None

    return t.Profile(
        user_id=m.user_id,
        software_background=text("software_background"),
        hardware_background=text("hardware_background"),
        learning_goals=text("learning_goals"),
        experience_level=text("experience_level"),
        preferred_language=text("preferred_language"),
        preferences=json_from(m.preferences_json),
        create_time=time_from(m.create_time),
        update_time=time_from(m.update_time),
    )


def new_profile_to(profile: t.NewProfile | None) -> profile_pb2.Profile | None:
    if profile is None:
        return None
    check_kind(profile, t.NewProfile, "profile")
    return make(
        profile_pb2.Profile,
        within="profile.",
        software_background=profile.software_background,
        hardware_background=profile.hardware_background,
        learning_goals=profile.learning_goals,
        experience_level=profile.experience_level,
        preferred_language=profile.preferred_language,
        preferences_json=json_to(profile.preferences, "profile.preferences"),
    )


def session_from(m: session_pb2.Session) -> t.Session:
    return t.Session(
        id=m.id,
        user_id=m.user_id if m.HasField("user_id") else None,
        title=m.title,
        metadata=json_from(m.metadata_json),
        last_seq=m.last_seq,
        create_time=time_from(m.create_time),
        update_time=time_from(m.update_time),
        last_message_time=time_from(m.last_message_time) if m.HasField("last_message_time") else None,
    )


def citation_from(m: citation_pb2.Citation) -> t.Citation:
    return t.Citation(
        document_id=m.document_id,
        chunk_id=m.chunk_id,
        score=m.score,
        citation_index=m.citation_index,
        session_id=m.session_id or None,
        message_id=m.message_id or None,
        create_time=time_from(m.create_time) if m.HasField("create_time") else None,
    )


def citation_to(c: t.Citation, field: str) -> citation_pb2.Citation:
    check_kind(c, t.Citation, field)
    return make(
        citation_pb2.Citation,
        within=f"{field}.",
        document_id=c.document_id,
        chunk_id=c.chunk_id,
        score=c.score,
        citation_index=c.citation_index,
    )


def citations_to(citations: Iterable[t.Citation]) -> list[citation_pb2.Citation]:
    return [citation_to(c, f"citations[{place}]") for place, c in enumerate(each(citations, "citations"))]


def message_from(m: message_pb2.Message) -> t.Message:
    """A message of protobuf's, in one pass: a history has thousands.

    The slots are set without the constructor; metadata and time as they come, to be parsed when they are asked for.
    """
    made: t.Message = _new(t.Message)
    stamp, citations = m.create_time, m.citations
    _set_id(made, m.id)
    _set_session_id(made, m.session_id)
    _set_seq(made, m.seq)
    _set_role(made, _ROLES[m.role])
    _set_content(made, m.content)
    _set_selected_text(made, m.selected_text if m.HasField("selected_text") else None)
    _set_metadata(made, m.metadata_json or "{}")
    _set_payload(made, m.payload if m.HasField("payload") else None)
    _set_citations(made, [citation_from(c) for c in citations] if citations else [])
    _set_create_time(made, (stamp.seconds, stamp.nanos))
    return made


def new_message_fields(m: t.NewMessage) -> dict[str, Any]:
    """The fields of a message to append, as protobuf takes them. It always has an id.

    A writer calls this once a message, so it must cost little.
    """
    if not isinstance(m.content, str):
        # Protobuf would take bytes.
        raise TypeError(f"content must be a str, not {type(m.content).__name__}")
    return {
        "message_id": new_id(m.message_id),
        "role": role_to(m.role),
        "content": m.content,
        "selected_text": m.selected_text,
        # Nothing is sent for an empty dict, and an empty list is refused.
        "metadata_json": json_to(m.metadata, "metadata") if m.metadata or m.metadata not in (None, {}) else None,
        "payload": m.payload,
        "citations": citations_to(m.citations) if m.citations else None,
        "create_time": optional_time_to(m.create_time, "create_time"),
    }


def new_message_to(m: t.NewMessage) -> message_pb2.NewMessage:
    """A message to append."""
    check_kind(m, t.NewMessage, "messages")
    return make(message_pb2.NewMessage, **new_message_fields(m))


def receipt_from(m: message_pb2.Receipt) -> t.Receipt:
    stamp = m.create_time
    return t.Receipt(
        m.message_id,
        m.session_id,
        m.seq,
        _EPOCH + datetime.timedelta(0, stamp.seconds, stamp.nanos // 1000),
        m.deduplicated,
    )


def hit_from(m: message_pb2.SearchHit) -> t.SearchHit:
    return t.SearchHit(
        message=message_from(m.message), session_title=m.session_title, rank=m.rank, snippet=m.snippet
    )


def document_from(m: document_pb2.Document) -> t.Document:
    return t.Document(
        id=m.id,
        title=m.title,
        source_uri=m.source_uri,
        mime_type=m.mime_type,
        content_hash=m.content_hash,
        metadata=json_from(m.metadata_json),
        create_time=time_from(m.create_time),
        update_time=time_from(m.update_time),
    )


def top_document_from(m: analytics_pb2.TopDocument) -> t.TopDocument:
    return t.TopDocument(
        document_id=m.document_id, title=m.title, citation_count=m.citation_count, mean_score=m.mean_score
    )


def user_activity_from(m: analytics_pb2.UserActivity) -> t.UserActivity:
    return t.UserActivity(
        user_id=m.user_id,
        email=m.email,
        session_count=m.session_count,
        message_count=m.message_count,
        last_active_time=time_from(m.last_active_time) if m.HasField("last_active_time") else None,
    )


def daily_volume_from(m: analytics_pb2.DailyVolume) -> t.DailyVolume:
    return t.DailyVolume(
        date=datetime.date.fromisoformat(m.date), message_count=m.message_count, session_count=m.session_count
    )


def bucket_from(m: analytics_pb2.SessionLengthBucket) -> t.SessionLengthBucket:
    return t.SessionLengthBucket(label=m.label, session_count=m.session_count)


def _time_in(m: Any, field: str) -> datetime.datetime | None:
    return time_from(getattr(m, field)) if m.HasField(field) else None


def caller_from(m: access_pb2.WhoAmIResponse) -> t.Caller:
    return t.Caller(
        kind=_CALLER_KINDS[m.kind],
        tenant=m.tenant,
        user_id=m.user_id if m.HasField("user_id") else None,
        scopes=list(m.scopes),  # type: ignore[arg-type]
        key_id=m.key_id if m.HasField("key_id") else None,
        expire_time=_time_in(m, "expire_time"),
    )


def api_key_from(m: access_pb2.ApiKey) -> t.ApiKey:
    return t.ApiKey(
        id=m.id,
        name=m.name,
        tenant=m.tenant,
        scopes=list(m.scopes),  # type: ignore[arg-type]
        create_time=time_from(m.create_time),
        expire_time=_time_in(m, "expire_time"),
        revoke_time=_time_in(m, "revoke_time"),
        last_use_time=_time_in(m, "last_use_time"),
    )
