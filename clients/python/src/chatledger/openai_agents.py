"""OpenAI Agents SDK: a ``Session`` that keeps its items in chatledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from agents.items import TResponseInputItem
from agents.memory import SessionABC, SessionSettings
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit
from pydantic_core import from_json

from ._adapter import Chat, Clients, Form, own_payload, framework_message, to_json
from ._ids import Id
from .aio import AsyncClient
from .client import Client
from .types import Message, NewMessage, Role

FRAMEWORK = "openai-agents"
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TYPES = frozenset(
    f"{name}{suffix}"
    for name in (
        "apply_patch_call",
        "code_interpreter_call",
        "computer_call",
        "custom_tool_call",
        "file_search_call",
        "function_call",
        "image_generation_call",
        "local_shell_call",
        "mcp_call",
        "reasoning",
        "shell_call",
        "tool_search_call",
        "web_search_call",
    )
    for suffix in ("", "_output")
)
"""The types of items without a role that no other framework's messages have; the others are rare."""


class ChatledgerSession(SessionABC):
    """A session of the Agents SDK: ``Runner.run(agent, "…", session=ChatledgerSession("user-123"))``.

    Each item is one message, in the order in which it was added. What one ``add_items`` adds is stored together or not
    at all (up to 500 items and 8 MiB; more in steps).

    :param session_id: the framework's id of the session; see :func:`chatledger.session_id_of`.
    :param target: where the server is; default: ``CHATLEDGER_TARGET``.
    :param client: a client to use instead.
    :param user_id: the user whom a new session belongs to, a UUID.
    :param session_settings: the SDK's, such as a default ``limit``.
    """

    # The attribute is declared here, as the SDK's protocol has it: what __init__ assigns would be of a narrower type.
    session_settings: SessionSettings | None = None

    def __init__(
        self,
        session_id: str,
        *,
        target: str | None = None,
        api_key: str | None = None,
        client: Client | AsyncClient | None = None,
        user_id: Id | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = coerce_session_settings(session_settings or SessionSettings())
        self._clients = Clients(target, client, api_key)
        self._chat = Chat(self._clients, FRAMEWORK, session_id, user_id)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items, oldest first; with ``limit``, or the settings', the last so many."""
        limit = resolve_session_limit(limit, self.session_settings)
        if limit is None or limit < 0:
            return await self._chat.aread(_FORM)
        return await self._chat.aread_last(_FORM, limit)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Adds items at the end, all or none."""
        if items:
            await self._chat.aappend([of_item(item) for item in items])

    async def pop_item(self) -> TResponseInputItem | None:
        """Removes the last item and returns it; no item goes to two callers."""
        while newest := await self._chat.alast(1):
            if await self._chat.adelete(newest[0]):
                return to_item(newest[0])
        return None

    async def clear_session(self) -> None:
        """Removes all items."""
        await self._chat.aclear()

    async def aclose(self) -> None:
        """Closes the connection, if it isn't that of a given client."""
        await self._clients.aclose()


def of_item(item: TResponseInputItem) -> NewMessage:
    """An item as a message."""
    # Items are dicts of many types; only what can be read of any of them is.
    given = cast(Mapping[str, Any], item)
    kind = given.get("type", "message")
    role: Role = _ROLES.get(str(given.get("role")), "assistant")
    if str(kind).endswith("_output"):
        role = "tool"
    text = next(
        (found for key in ("content", "output", "summary", "arguments") if (found := _text(given.get(key)))), ""
    )
    if kind != "message" and role == "assistant":
        # A call has no text of its own; what it was given is in the payload.
        text = "" if "arguments" in given else text
    return framework_message(
        FRAMEWORK,
        role,
        text,
        to_json(given),
        {"type": kind, "tool": given.get("name") if kind != "message" else None, "call_id": given.get("call_id")},
    )


def to_item(message: Message) -> TResponseInputItem:
    """A message as an item; one that another program wrote is a plain message of its role."""
    payload = own_payload(FRAMEWORK, message)
    if payload is not None:
        return cast(TResponseInputItem, json.loads(payload))
    role = "system" if message.role == "tool" else message.role
    return cast(TResponseInputItem, {"role": role, "content": message.content})


def of_payload(payload: bytes) -> TResponseInputItem | None:
    """The item of a payload that has the SDK's form; None where it hasn't, or can't be read as fast as this."""
    try:
        item = from_json(payload)
        known = isinstance(item, dict) and ("content" in item if "role" in item else item["type"] in _TYPES)
    except (ValueError, TypeError, KeyError):
        return None
    return cast(TResponseInputItem, item) if known else None


_FORM = Form(of_payload, to_item)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") or part.get("refusal") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""
