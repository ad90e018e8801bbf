"""The arguments that many methods share are described once, and are still seen one by one."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from chatledger import AsyncClient, AsyncWriter, Client, NewMessage, Writer
from chatledger._rpc import Listing, Paging
from chatledger._window import BoundFields, Bounds
from chatledger.types import MessageFields

CLIENT, ACLIENT = Client("127.0.0.1:9"), AsyncClient("127.0.0.1:9")


def fields_of(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass that aren't known otherwise, with their types."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.name not in known}


@pytest.mark.parametrize(
    ("kind", "fields", "others"),
    [(NewMessage, MessageFields, ["role", "content"]), (Listing, Paging, ["page", "stream"]), (Bounds, BoundFields, [])],
)
def test_fields_by_name_are_those_of_the_dataclass(kind: Any, fields: Any, others: list[str]) -> None:
    known = dict.fromkeys(others)
    assert list(get_type_hints(fields).items()) == list(fields_of(kind, known).items())
    assert not fields.__required_keys__


@pytest.mark.parametrize(
    "append", [CLIENT.messages.append, ACLIENT.messages.append, Writer.append, AsyncWriter.append]
)
def test_an_append_shows_the_fields_of_a_message(append: Callable[..., object]) -> None:
    parameters = dict(inspect.signature(append).parameters)
    parameters.pop("self", None)
    wanted = inspect.signature(NewMessage).parameters
    assert list(parameters) == ["session_id", *wanted]
    for name, parameter in wanted.items():
        by_name = name in MessageFields.__annotations__
        kind = parameter.KEYWORD_ONLY if by_name else parameter.POSITIONAL_OR_KEYWORD
        assert parameters[name] == parameter.replace(kind=kind)
    assert "create_time: 'datetime.datetime | None' = None" in pydoc.plaintext.document(append)


def test_the_annotations_of_an_append_can_be_read() -> None:
    for append in (Writer.append, AsyncWriter.append):
        hints = get_type_hints(append)
        assert hints.pop("session_id") and hints.pop("return")
        assert hints == get_type_hints(NewMessage)


@pytest.mark.parametrize(
    "list_",
    [
        CLIENT.users.list,
        CLIENT.profiles.list,
        CLIENT.sessions.list,
        CLIENT.messages.list,
        CLIENT.messages.search,
        CLIENT.citations.list,
        CLIENT.documents.list,
        CLIENT.analytics.user_activity,
        CLIENT.access.list_api_keys,
        ACLIENT.messages.list,
    ],
)
def test_a_list_shows_how_it_is_paged(list_: Callable[..., object]) -> None:
    *_, limit, page_size, page_token = inspect.signature(list_).parameters.values()
    assert [str(p) for p in (limit, page_size, page_token)] == [
        "limit: 'int | None' = None",
        "page_size: 'int' = 0",
        "page_token: 'str' = ''",
    ]
    assert limit.kind is limit.KEYWORD_ONLY


def test_an_argument_that_no_append_has_is_refused() -> None:
    wrong: Any = {"selected": "text"}
    for append in (CLIENT.messages.append, CLIENT.messages.writer().append):
        with pytest.raises(TypeError, match="'selected'"):
            append("id", "user", "text", **wrong)


@pytest.mark.parametrize("writer", [CLIENT.messages.writer, ACLIENT.messages.writer, Writer, AsyncWriter])
def test_a_writer_shows_its_bounds(writer: Callable[..., object]) -> None:
    *_, messages, size, timeout = inspect.signature(writer).parameters.values()
    assert (messages.name, messages.default) == ("max_pending", 4096)
    assert (size.name, size.default) == ("max_pending_bytes", 16 << 20)
    assert (timeout.name, timeout.default) == ("timeout", 120.0)
