"""MessageService, without its streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .. import _convert as convert
from .._ids import Id
from .._rpc import Frame, Listing, Page, Paging, Rpc, Stream, by_name, rpc
from ..types import Message, MessageFields, NewMessage, Receipt, Role, SearchHit
from ..v1 import message_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

_ORDERS = {"asc": pb.MESSAGE_ORDER_SEQ_ASC, "desc": pb.MESSAGE_ORDER_SEQ_DESC}
_FIELDS = {"content": pb.SEARCH_FIELD_CONTENT, "selected_text": pb.SEARCH_FIELD_SELECTED_TEXT}


@by_name(NewMessage, MessageFields)
def append(
    session_id: Id, role: Role, content: str = "", **fields: Unpack[MessageFields]
) -> Rpc[Receipt]:
    """Appends one message, once however often it is sent: its id is made here, before the first attempt.

    Give a ``message_id`` of your own to send it again in another call, or another process.
    """
    message = convert.new_message_to(NewMessage(role, content, **fields))
    request = convert.make(pb.AppendMessageRequest, session_id=str(session_id), message=message)
    return rpc(
        "MessageService/AppendMessage",
        request,
        pb.AppendMessageResponse,
        lambda r: convert.receipt_from(r.receipt),
    )


def append_batch(
    session_id: Id, messages: Iterable[NewMessage], *, expected_last_seq: int | None = None
) -> Rpc[list[Receipt]]:
    """Appends 1 to 500 messages to one session, all or none, with consecutive seqs.

    With ``expected_last_seq`` only where that is the session's last seq; otherwise it raises
    :class:`~chatledger.SequenceConflictError`.
    """
    encoded = [convert.new_message_to(message) for message in convert.each(messages, "messages")]
    return append_encoded(session_id, encoded, expected_last_seq)


def append_encoded(
    session_id: Id, messages: Sequence[pb.NewMessage], expected_last_seq: int | None = None
) -> Rpc[list[Receipt]]:
    """As ``append_batch``, of messages that are encoded already, so that their size is known."""
    request = convert.make(
        pb.BatchAppendMessagesRequest,
        session_id=str(session_id),
        messages=messages,
        expected_last_seq=expected_last_seq,
    )
    return rpc(
        "MessageService/BatchAppendMessages",
        request,
        pb.BatchAppendMessagesResponse,
        lambda r: [convert.receipt_from(receipt) for receipt in r.receipts],
    )


def get(session_id: Id, message_id: Id) -> Rpc[Message]:
    """Reads one message with its citations."""
    request = convert.make(pb.GetMessageRequest, session_id=str(session_id), message_id=str(message_id))
    return rpc(
        "MessageService/GetMessage", request, pb.GetMessageResponse, lambda r: convert.message_from(r.message)
    )


@by_name(Listing, Paging)
def list_(
    session_id: Id,
    *,
    after_seq: int | None = None,
    before_seq: int | None = None,
    order: Literal["asc", "desc"] = "asc",
    chronological: bool = False,
    roles: Sequence[Role] = (),
    omit_citations: bool = False,
    payload_only: bool = False,
    **paging: Unpack[Paging],
) -> Listing[Message]:
    """Reads a session's messages by seq, oldest first: all of them in one stream, of one moment.

    With ``order="desc"`` it starts at the newest, page by page; ``chronological`` then puts each *page* oldest first. For
    the last few, oldest first, see ``last``. With ``limit``, ``page_size`` or ``page_token`` it reads pages as well.
    ``payload_only`` leaves content, selected_text and metadata of those that have a payload empty.
    """
    return listing(
        convert.message_from,
        session_id,
        after_seq=after_seq,
        before_seq=before_seq,
        order=order,
        chronological=chronological,
        roles=roles,
        omit_citations=omit_citations,
        payload_only=payload_only,
        **paging,
    )


def listing(
    decode: Callable[[pb.Message], T],
    session_id: Id,
    *,
    after_seq: int | None = None,
    before_seq: int | None = None,
    order: Literal["asc", "desc"] = "asc",
    chronological: bool = False,
    roles: Sequence[Role] = (),
    omit_citations: bool = False,
    payload_only: bool = False,
    **paging: Unpack[Paging],
) -> Listing[T]:
    """A session's messages as what ``decode`` makes of them; the adapters make their framework's own."""
    ordered = convert.choice(order, _ORDERS, "order")
    fields: dict[str, Any] = {
        "session_id": str(session_id),
        "before_seq": before_seq,
        "roles": convert.roles_to(roles),
        "omit_citations": omit_citations,
        "payload_only": payload_only,
    }

    def page(token: str, size: int) -> Rpc[Page[T]]:
        request = convert.make(
            pb.ListMessagesRequest,
            page_size=size,
            page_token=token,
            after_seq=after_seq,
            order=ordered,
            chronological=chronological,
            **fields,
        )
        return rpc(
            "MessageService/ListMessages",
            request,
            pb.ListMessagesResponse,
            lambda r: Page([decode(m) for m in r.messages], r.next_page_token),
        )

    def request_after(seq: int | None) -> bytes:
        behind = after_seq if seq is None else seq
        return convert.make(pb.ReadMessagesRequest, after_seq=behind, **fields).SerializeToString()

    def frame(data: bytes) -> Frame[T]:
        messages = pb.ReadMessagesResponse.FromString(data).messages
        return Frame(map(decode, messages), messages[-1].seq if messages else None)

    stream = Stream("/chatledger.v1.MessageService/ReadMessages", request_after, frame)
    return Listing(page, stream if order == "asc" else None, **paging)


def update(
    session_id: Id,
    message_id: Id,
    *,
    metadata: Mapping[str, Any],
    replace_metadata: bool = False,
) -> Rpc[Message]:
    """Changes a message's metadata; what was said stays as it is.

    Merges (the given keys are set, those whose value is None are removed) unless ``replace_metadata``.
    """
    request = convert.make(
        pb.UpdateMessageRequest,
        session_id=str(session_id),
        message_id=str(message_id),
        metadata_json=convert.json_to(metadata, "metadata"),
        metadata_mode=convert.json_mode(replace_metadata),
    )
    return rpc(
        "MessageService/UpdateMessage",
        request,
        pb.UpdateMessageResponse,
        lambda r: convert.message_from(r.message),
    )


def delete(session_id: Id, message_id: Id) -> Rpc[None]:
    """Erases a message. Its seq is never given again, its id never stored again."""
    request = convert.make(pb.DeleteMessageRequest, session_id=str(session_id), message_id=str(message_id))
    return rpc("MessageService/DeleteMessage", request, pb.DeleteMessageResponse, lambda r: None, safe=False)


def clear(session_id: Id) -> Rpc[int]:
    """Erases all messages of a session; returns how many.

    Not sent again after a failure of which nobody knows what became: it would erase what came in between.
    """
    request = convert.make(pb.ClearMessagesRequest, session_id=str(session_id))
    return rpc(
        "MessageService/ClearMessages",
        request,
        pb.ClearMessagesResponse,
        lambda r: r.deleted_count,
        safe=False,
    )


@by_name(Listing, Paging)
def search(
    query: str,
    *,
    user_id: Id | None = None,
    session_id: Id | None = None,
    roles: Sequence[Role] = (),
    fields: Sequence[Literal["content", "selected_text"]] = (),
    **paging: Unpack[Paging],
) -> Listing[SearchHit]:
    """Searches the messages of a session or of a user, best match first.

    ``query`` is in the syntax of Postgres' ``websearch_to_tsquery``: words, "a phrase", or, -not.
    """
    searched = [convert.choice(field, _FIELDS, "fields") for field in convert.each(fields, "fields")]
    wanted = convert.roles_to(roles)

    def page(token: str, size: int) -> Rpc[Page[SearchHit]]:
        request = convert.make(
            pb.SearchMessagesRequest,
            query=query,
            page_size=size,
            page_token=token,
            user_id=convert.id_to(user_id),
            session_id=convert.id_to(session_id),
            roles=wanted,
            fields=searched,
        )
        return rpc(
            "MessageService/SearchMessages",
            request,
            pb.SearchMessagesResponse,
            lambda r: Page([convert.hit_from(h) for h in r.hits], r.next_page_token),
        )

    return Listing(page, **paging)
