"""SessionService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf.field_mask_pb2 import FieldMask

from .. import _convert as convert
from .._ids import Id
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import UNSET, Session, Unset
from ..v1 import session_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ORDERS = {
    "last_active": pb.SESSION_ORDER_LAST_ACTIVE_DESC,
    "created": pb.SESSION_ORDER_CREATED_DESC,
}


def create(
    *,
    session_id: Id | None = None,
    user_id: Id | None = None,
    title: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    claim_secret: str | None = None,
) -> Rpc[Session]:
    """Creates a session, of a user or anonymous.

    With a ``session_id`` that exists and the same user (or none, and the same secret) it returns the stored session,
    unchanged. A ``claim_secret``, only of an anonymous session and best ``secrets.token_urlsafe()``, lets an end user
    who knows it claim the session.
    """
    request = convert.make(
        pb.CreateSessionRequest,
        session_id=convert.new_id(session_id),
        user_id=convert.id_to(user_id),
        title=title,
        metadata_json=convert.json_to(metadata, "metadata"),
        claim_secret=claim_secret,
    )
    return rpc(
        "SessionService/CreateSession",
        request,
        pb.CreateSessionResponse,
        lambda r: convert.session_from(r.session),
    )


def get(session_id: Id) -> Rpc[Session]:
    """Reads one session."""
    request = convert.make(pb.GetSessionRequest, session_id=str(session_id))
    return rpc(
        "SessionService/GetSession", request, pb.GetSessionResponse, lambda r: convert.session_from(r.session)
    )


@by_name(Listing, Paging)
def list_(
    *,
    user_id: Id | None = None,
    order_by: Literal["last_active", "created"] | None = None,
    metadata_contains: Mapping[str, Any] | None = None,
    title_contains: str | None = None,
    **paging: Unpack[Paging],
) -> Listing[Session]:
    """Lists the sessions of a user, last active first, or without ``user_id`` the anonymous ones, newest first."""
    ordered = None if order_by is None else convert.choice(order_by, _ORDERS, "order_by")
    contains = convert.optional_json_to(metadata_contains, "metadata_contains")

    def page(token: str, size: int) -> Rpc[Page[Session]]:
        request = convert.make(
            pb.ListSessionsRequest,
            page_size=size,
            page_token=token,
            user_id=convert.id_to(user_id),
            order_by=ordered,
            metadata_contains_json=contains,
            title_contains=title_contains,
        )
        if user_id is None:
            request.anonymous = True
        return rpc(
            "SessionService/ListSessions",
            request,
            pb.ListSessionsResponse,
            lambda r: Page([convert.session_from(s) for s in r.sessions], r.next_page_token),
        )

    return Listing(page, **paging)


def update(
    session_id: Id,
    *,
    title: str | None | Unset = UNSET,
    metadata: Mapping[str, Any] | None | Unset = UNSET,
    replace_metadata: bool = False,
) -> Rpc[Session]:
    """Changes title and metadata where given; None clears one.

    Metadata are merged (the given keys are set, those whose value is None are removed) unless
    ``replace_metadata``.
    """
    request = convert.make(pb.UpdateSessionRequest, session_id=str(session_id), update_mask=FieldMask())
    given = {
        "title": title,
        "metadata_json": metadata
        if isinstance(metadata, Unset)
        else convert.json_to(metadata, "metadata") or "{}",
    }
    convert.set_given(request, given, request.update_mask)
    request.metadata_mode = convert.json_mode(replace_metadata or metadata is None)
    return rpc(
        "SessionService/UpdateSession",
        request,
        pb.UpdateSessionResponse,
        lambda r: convert.session_from(r.session),
    )


def delete(session_id: Id) -> Rpc[None]:
    """Deletes a session with its messages and citations."""
    request = convert.make(pb.DeleteSessionRequest, session_id=str(session_id))
    return rpc("SessionService/DeleteSession", request, pb.DeleteSessionResponse, lambda r: None, safe=False)


def claim(
    user_id: Id, session_ids: Iterable[Id], *, claim_secrets: Iterable[str] | None = None
) -> Rpc[list[str]]:
    """Gives anonymous sessions to a user who has signed in; returns those that are the user's now.

    At most 500. Those of somebody else, and those that don't exist, are passed over. An end user gives the claim secret
    of each session, in the same order; a service need not, and where it does, those with another secret are passed over.
    """
    given = [str(session_id) for session_id in convert.each(session_ids, "session_ids")]
    secrets = [] if claim_secrets is None else list(convert.each(claim_secrets, "claim_secrets"))
    request = convert.make(
        pb.ClaimSessionsRequest, user_id=str(user_id), session_ids=given, claim_secrets=secrets
    )
    return rpc(
        "SessionService/ClaimSessions",
        request,
        pb.ClaimSessionsResponse,
        lambda r: list(r.claimed_session_ids),
    )
