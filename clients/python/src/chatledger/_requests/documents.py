"""DocumentService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import _convert as convert
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import Document
from ..v1 import document_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack


def upsert(
    document_id: str,
    *,
    title: str = "",
    source_uri: str = "",
    mime_type: str = "",
    content_hash: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> Rpc[Document]:
    """Registers a document or replaces what is known of it, as a whole."""
    document = convert.make(
        pb.Document,
        id=document_id,
        title=title,
        source_uri=source_uri,
        mime_type=mime_type,
        content_hash=content_hash,
        metadata_json=convert.json_to(metadata, "metadata"),
    )
    return rpc(
        "DocumentService/UpsertDocument",
        convert.make(pb.UpsertDocumentRequest, document=document),
        pb.UpsertDocumentResponse,
        lambda r: convert.document_from(r.document),
    )


def get(document_id: str) -> Rpc[Document]:
    """Reads one document."""
    request = convert.make(pb.GetDocumentRequest, document_id=document_id)
    return rpc(
        "DocumentService/GetDocument",
        request,
        pb.GetDocumentResponse,
        lambda r: convert.document_from(r.document),
    )


@by_name(Listing, Paging)
def list_(
    *,
    title_contains: str | None = None,
    metadata_contains: Mapping[str, Any] | None = None,
    **paging: Unpack[Paging],
) -> Listing[Document]:
    """Lists documents by id."""
    contains = convert.optional_json_to(metadata_contains, "metadata_contains")

    def page(token: str, size: int) -> Rpc[Page[Document]]:
        request = convert.make(
            pb.ListDocumentsRequest,
            page_size=size, page_token=token, title_contains=title_contains, metadata_contains_json=contains
        )
        return rpc(
            "DocumentService/ListDocuments",
            request,
            pb.ListDocumentsResponse,
            lambda r: Page([convert.document_from(d) for d in r.documents], r.next_page_token),
        )

    return Listing(page, **paging)


def delete(document_id: str) -> Rpc[None]:
    """Forgets a document. Citations of it stay."""
    request = convert.make(pb.DeleteDocumentRequest, document_id=document_id)
    return rpc("DocumentService/DeleteDocument", request, pb.DeleteDocumentResponse, lambda r: None, safe=False)
