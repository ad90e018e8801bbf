"""AccessService."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .. import _convert as convert
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import ApiKey, Caller, NewApiKey, Scope
from ..v1 import access_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack


def who_am_i() -> Rpc[Caller]:
    """What the server takes this client for."""
    return rpc("AccessService/WhoAmI", pb.WhoAmIRequest(), pb.WhoAmIResponse, convert.caller_from)


def create_api_key(
    name: str,
    scopes: Iterable[Scope],
    *,
    tenant: str | None = None,
    expire_time: datetime.datetime | None = None,
) -> Rpc[NewApiKey]:
    """Makes an API key for a service. Its secret is in this answer only.

    ``tenant`` is the caller's own, which is the default; where the server asks for no credentials, any.
    """
    request = convert.make(
        pb.CreateApiKeyRequest,
        name=name,
        scopes=list(convert.each(scopes, "scopes")),
        tenant=tenant,
        expire_time=convert.optional_time_to(expire_time, "expire_time"),
    )
    return rpc(
        "AccessService/CreateApiKey",
        request,
        pb.CreateApiKeyResponse,
        lambda r: NewApiKey(convert.api_key_from(r.api_key), r.secret),
        # Asking again makes another key.
        safe=False,
    )


@by_name(Listing, Paging)
def list_api_keys(**paging: Unpack[Paging]) -> Listing[ApiKey]:
    """Lists the tenant's API keys, newest first, those that are revoked or expired included."""

    def page(token: str, size: int) -> Rpc[Page[ApiKey]]:
        request = convert.make(pb.ListApiKeysRequest, page_size=size, page_token=token)
        return rpc(
            "AccessService/ListApiKeys",
            request,
            pb.ListApiKeysResponse,
            lambda r: Page([convert.api_key_from(k) for k in r.api_keys], r.next_page_token),
        )

    return Listing(page, **paging)


def revoke_api_key(api_key_id: str) -> Rpc[None]:
    """Ends an API key: within 30 seconds no server takes it any more, and within a minute its streams are ended."""
    request = convert.make(pb.RevokeApiKeyRequest, api_key_id=api_key_id)
    return rpc("AccessService/RevokeApiKey", request, pb.RevokeApiKeyResponse, lambda r: None)
