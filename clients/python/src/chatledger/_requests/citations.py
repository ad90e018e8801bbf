"""CitationService."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .. import _convert as convert
from .._ids import Id
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import Citation
from ..v1 import citation_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack


def add(session_id: Id, message_id: Id, citations: Iterable[Citation]) -> Rpc[list[Citation]]:
    """Adds citations to a stored message, all or none; returns them as stored.

    With a ``citation_index`` each, adding them again changes nothing, so only then a failed call is sent again.
    """
    request = convert.make(
        pb.AddCitationsRequest,
        session_id=str(session_id),
        message_id=str(message_id),
        citations=convert.citations_to(citations),
    )
    return rpc(
        "CitationService/AddCitations",
        request,
        pb.AddCitationsResponse,
        lambda r: [convert.citation_from(c) for c in r.citations],
        safe=all(citation.citation_index for citation in request.citations),
    )


@by_name(Listing, Paging)
def list_(
    session_id: Id | None = None,
    message_id: Id | None = None,
    *,
    document_id: str | None = None,
    **paging: Unpack[Paging],
) -> Listing[Citation]:
    """Lists the citations of one message, or all that name one document."""
    by_message = session_id is not None and message_id is not None
    if by_message == (document_id is not None) or (session_id is None) != (message_id is None):
        raise ValueError("give session_id and message_id, or document_id")

    def page(token: str, size: int) -> Rpc[Page[Citation]]:
        named = {"session_id": str(session_id), "message_id": str(message_id)}
        key = convert.make(pb.MessageKey, **named) if by_message else None
        request = convert.make(
            pb.ListCitationsRequest,
            page_size=size, page_token=token, message=key, document_id=document_id
        )
        return rpc(
            "CitationService/ListCitations",
            request,
            pb.ListCitationsResponse,
            lambda r: Page([convert.citation_from(c) for c in r.citations], r.next_page_token),
        )

    return Listing(page, **paging)


def delete(session_id: Id, message_id: Id, citation_index: int) -> Rpc[None]:
    """Removes one citation of a message, by its number, from 1."""
    request = convert.make(
        pb.DeleteCitationRequest,
        session_id=str(session_id), message_id=str(message_id), citation_index=citation_index
    )
    return rpc(
        "CitationService/DeleteCitation", request, pb.DeleteCitationResponse, lambda r: None, safe=False
    )
