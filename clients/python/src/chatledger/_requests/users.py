"""UserService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from .. import _convert as convert
from .._ids import Id
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import UNSET, NewProfile, Unset, User
from ..v1 import user_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack


def create(
    email: str,
    *,
    user_id: Id | None = None,
    external_id: str | None = None,
    name: str | None = None,
    password: str | None = None,
    profile: NewProfile | None = None,
) -> Rpc[User]:
    """Creates a user and, where given, the profile, together.

    With a ``user_id`` that exists and the same email it returns the stored user. Raises
    :class:`~chatledger.AlreadyExistsError` where email, external id or id is somebody else's.
    """
    request = convert.make(
        pb.CreateUserRequest,
        user_id=convert.new_id(user_id),
        email=email,
        external_id=external_id,
        name=name,
        password=password,
        profile=convert.new_profile_to(profile),
    )
    return rpc("UserService/CreateUser", request, pb.CreateUserResponse, lambda r: convert.user_from(r.user))


def get(user_id: Id | None = None, *, email: str | None = None, external_id: str | None = None) -> Rpc[User]:
    """Reads one user by id, email or external id: give just one."""
    if sum(key is not None for key in (user_id, email, external_id)) != 1:
        raise ValueError("give one of user_id, email and external_id")
    request = convert.make(pb.GetUserRequest, user_id=convert.id_to(user_id), email=email, external_id=external_id)
    return rpc("UserService/GetUser", request, pb.GetUserResponse, lambda r: convert.user_from(r.user))


def update(
    user_id: Id,
    *,
    email: str | Unset = UNSET,
    external_id: str | None | Unset = UNSET,
    name: str | None | Unset = UNSET,
    is_active: bool | Unset = UNSET,
) -> Rpc[User]:
    """Changes the fields that are given; None clears one."""
    request = convert.make(pb.UpdateUserRequest, user_id=str(user_id), update_mask=FieldMask())
    given = {"email": email, "external_id": external_id, "name": name, "is_active": is_active}
    convert.set_given(request, given, request.update_mask)
    return rpc("UserService/UpdateUser", request, pb.UpdateUserResponse, lambda r: convert.user_from(r.user))


def delete(user_id: Id) -> Rpc[None]:
    """Deletes a user with the profile, the sessions and all that is in them."""
    request = convert.make(pb.DeleteUserRequest, user_id=str(user_id))
    return rpc("UserService/DeleteUser", request, pb.DeleteUserResponse, lambda r: None, safe=False)


@by_name(Listing, Paging)
def list_(
    *,
    email_prefix: str | None = None,
    is_active: bool | None = None,
    **paging: Unpack[Paging],
) -> Listing[User]:
    """Lists users by id."""

    def page(token: str, size: int) -> Rpc[Page[User]]:
        request = convert.make(
            pb.ListUsersRequest,
            page_size=size,
            page_token=token,
            email_prefix=email_prefix,
            is_active=is_active,
        )
        return rpc(
            "UserService/ListUsers",
            request,
            pb.ListUsersResponse,
            lambda r: Page([convert.user_from(u) for u in r.users], r.next_page_token),
        )

    return Listing(page, **paging)


def set_password(user_id: Id, password: str) -> Rpc[None]:
    """Sets or replaces a user's password, 1 to 1,024 bytes."""
    request = convert.make(pb.SetPasswordRequest, user_id=str(user_id), password=password)
    return rpc("UserService/SetPassword", request, pb.SetPasswordResponse, lambda r: None)


def verify_password(email: str, password: str) -> Rpc[User]:
    """The user whose email and password these are.

    Raises :class:`~chatledger.UnauthenticatedError`, the same for a wrong password, an unknown email, and an
    inactive user.
    """
    request = convert.make(pb.VerifyPasswordRequest, email=email, password=password)
    return rpc(
        "UserService/VerifyPassword", request, pb.VerifyPasswordResponse, lambda r: convert.user_from(r.user)
    )
