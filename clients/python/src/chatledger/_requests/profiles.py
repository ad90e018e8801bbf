"""ProfileService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.field_mask_pb2 import FieldMask

from .. import _convert as convert
from .._ids import Id
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import UNSET, Profile, Unset
from ..v1 import profile_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack


def get(user_id: Id) -> Rpc[Profile]:
    """Reads a user's profile."""
    request = convert.make(pb.GetProfileRequest, user_id=str(user_id))
    return rpc(
        "ProfileService/GetProfile", request, pb.GetProfileResponse, lambda r: convert.profile_from(r.profile)
    )


def update(
    user_id: Id,
    *,
    software_background: str | None | Unset = UNSET,
    hardware_background: str | None | Unset = UNSET,
    learning_goals: str | None | Unset = UNSET,
    experience_level: str | None | Unset = UNSET,
    preferred_language: str | None | Unset = UNSET,
    preferences: Mapping[str, Any] | None | Unset = UNSET,
    merge_preferences: bool = False,
    allow_missing: bool = False,
) -> Rpc[Profile]:
    """Changes the fields that are given; None clears one.

    ``merge_preferences`` sets the given keys and removes those whose value is None, instead of replacing them all.
    ``allow_missing`` creates the profile where there is none.
    """
    profile = convert.make(pb.Profile, user_id=str(user_id))
    request = convert.make(
        pb.UpdateProfileRequest,
        update_mask=FieldMask(), allow_missing=allow_missing, merge_preferences=merge_preferences
    )
    given = {
        "software_background": software_background,
        "hardware_background": hardware_background,
        "learning_goals": learning_goals,
        "experience_level": experience_level,
        "preferred_language": preferred_language,
        "preferences_json": preferences
        if isinstance(preferences, Unset)
        else convert.optional_json_to(preferences, "preferences"),
    }
    convert.set_given(profile, given, request.update_mask)
    request.profile.CopyFrom(profile)
    return rpc(
        "ProfileService/UpdateProfile",
        request,
        pb.UpdateProfileResponse,
        lambda r: convert.profile_from(r.profile),
    )


def delete(user_id: Id) -> Rpc[None]:
    """Deletes a user's profile; the user stays."""
    request = convert.make(pb.DeleteProfileRequest, user_id=str(user_id))
    return rpc("ProfileService/DeleteProfile", request, pb.DeleteProfileResponse, lambda r: None, safe=False)


@by_name(Listing, Paging)
def list_(
    *,
    experience_level: str | None = None,
    preferences_contain: Mapping[str, Any] | None = None,
    **paging: Unpack[Paging],
) -> Listing[Profile]:
    """Lists profiles by user id."""
    contain = convert.optional_json_to(preferences_contain, "preferences_contain")

    def page(token: str, size: int) -> Rpc[Page[Profile]]:
        request = convert.make(
            pb.ListProfilesRequest,
            page_size=size, page_token=token, experience_level=experience_level, preferences_contain_json=contain
        )
        return rpc(
            "ProfileService/ListProfiles",
            request,
            pb.ListProfilesResponse,
            lambda r: Page([convert.profile_from(p) for p in r.profiles], r.next_page_token),
        )

    return Listing(page, **paging)
