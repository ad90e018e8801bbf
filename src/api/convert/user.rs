//! Users.

use uuid::Uuid;

use super::{UpdateMask, id_or_new, profile::profile_fields, time_to_pb};
use crate::{
    api::page,
    auth::Caller,
    domain::{
        Check, FieldPath,
        page::Fingerprint,
        user::{
            NewUser, User, UserChange, UserFilter, UserKey, check_email, check_external_id, check_name,
            check_password,
        },
    },
};
use chatledger_protocol::{self as pb, get_user_request::Key};

pub(in crate::api) fn user_to_pb(user: User) -> pb::User {
    pb::User {
        id: user.id.to_string(),
        email: user.email,
        external_id: user.external_id,
        name: user.name,
        is_active: user.is_active,
        create_time: Some(time_to_pb(user.created_at)),
        update_time: Some(time_to_pb(user.updated_at)),
    }
}

/// The user, and the password that is to be hashed.
pub(in crate::api) fn new_user(
    check: &mut Check<'_>,
    request: pb::CreateUserRequest,
) -> (NewUser, Option<String>) {
    let root = FieldPath::ROOT;
    let id = id_or_new(check, &root.field("user_id"), request.user_id.as_deref());
    check_email(check, &root.field("email"), &request.email);
    if let Some(external_id) = &request.external_id {
        check_external_id(check, &root.field("external_id"), external_id);
    }
    if let Some(name) = &request.name {
        check_name(check, &root.field("name"), name);
    }
    if let Some(password) = &request.password {
        check_password(check, &root.field("password"), password);
    }
    let profile = request.profile.map(|profile| {
        let at = root.field("profile");
        if !profile.user_id.is_empty() && !profile.user_id.eq_ignore_ascii_case(&id.to_string()) {
            check.violation(&at.field("user_id"), "must be empty or the user's");
        }
        profile_fields(check, &at, profile)
    });
    let user = NewUser {
        id,
        email: request.email,
        external_id: request.external_id,
        name: request.name,
        profile,
    };
    (user, request.password)
}

pub(in crate::api) fn user_key(check: &mut Check<'_>, request: pb::GetUserRequest) -> UserKey {
    let root = FieldPath::ROOT;
    match request.key {
        Some(Key::UserId(id)) => UserKey::Id(check.uuid(&root.field("user_id"), &id)),
        Some(Key::Email(email)) => {
            check_email(check, &root.field("email"), &email);
            UserKey::Email(email)
        }
        Some(Key::ExternalId(id)) => {
            check_external_id(check, &root.field("external_id"), &id);
            UserKey::ExternalId(id)
        }
        None => {
            check.violation(&root.field("key"), "is required: user_id, email or external_id");
            UserKey::Id(Uuid::nil())
        }
    }
}

pub(in crate::api) fn user_change(
    check: &mut Check<'_>,
    request: pb::UpdateUserRequest,
) -> (Uuid, UserChange) {
    let root = FieldPath::ROOT;
    let id = check.uuid(&root.field("user_id"), &request.user_id);
    let mask = UpdateMask::read(
        check,
        request.update_mask,
        &["email", "external_id", "name", "is_active"],
    );
    let change = UserChange {
        email: mask.apply_required(check, "email", request.email),
        external_id: mask.apply("external_id", request.external_id),
        name: mask.apply("name", request.name).map(Option::unwrap_or_default),
        is_active: mask.apply_required(check, "is_active", request.is_active),
    };
    if let Some(email) = &change.email {
        check_email(check, &root.field("email"), email);
    }
    if let Some(Some(external_id)) = &change.external_id {
        check_external_id(check, &root.field("external_id"), external_id);
    }
    if let Some(name) = &change.name {
        check_name(check, &root.field("name"), name);
    }
    (id, change)
}

pub(in crate::api) fn user_filter(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::ListUsersRequest,
) -> (UserFilter, Fingerprint) {
    let (page, list) = page::read(check, caller, &request);
    if let Some(prefix) = &request.email_prefix {
        check_name(check, &FieldPath::ROOT.field("email_prefix"), prefix);
    }
    let filter = UserFilter {
        page,
        email_prefix: request.email_prefix,
        is_active: request.is_active,
    };
    (filter, list)
}
