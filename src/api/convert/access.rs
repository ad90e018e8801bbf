//! Callers and API keys.

use super::{time, time_to_pb};
use crate::{
    api::page,
    auth::{Caller, Principal, PrincipalKind},
    domain::{
        Check, FieldPath,
        access::{AccessScope, AccessScopes, ApiKey, ApiKeyPage, NewApiKey},
        page::{Fingerprint, NOT_OURS},
    },
};
use chatledger_protocol as pb;

pub(in crate::api) fn principal_to_pb(principal: &Principal) -> pb::WhoAmIResponse {
    let kind = match principal.kind {
        PrincipalKind::Local => pb::CallerKind::Local,
        PrincipalKind::Service => pb::CallerKind::Service,
        PrincipalKind::EndUser => pb::CallerKind::EndUser,
    };
    pb::WhoAmIResponse {
        kind: kind.into(),
        tenant: principal.tenant.to_string(),
        user_id: principal.end_user.map(|user| user.to_string()),
        scopes: scopes_to_pb(principal.scopes),
        key_id: principal.key_id.as_ref().map(ToString::to_string),
        expire_time: principal.expires_at.map(time_to_pb),
    }
}

pub(in crate::api) fn api_key_to_pb(key: ApiKey) -> pb::ApiKey {
    pb::ApiKey {
        id: key.id,
        name: key.name,
        tenant: key.tenant,
        scopes: scopes_to_pb(key.scopes),
        create_time: Some(time_to_pb(key.created_at)),
        expire_time: key.expires_at.map(time_to_pb),
        revoke_time: key.revoked_at.map(time_to_pb),
        last_use_time: key.last_used_at.map(time_to_pb),
    }
}

fn scopes_to_pb(scopes: AccessScopes) -> Vec<String> {
    scopes.iter().map(|scope| scope.name().to_owned()).collect()
}

pub(in crate::api) fn new_api_key(check: &mut Check<'_>, request: pb::CreateApiKeyRequest) -> NewApiKey {
    let root = FieldPath::ROOT;
    let mut scopes = Vec::new();
    for (index, name) in request.scopes.iter().enumerate() {
        match name.parse::<AccessScope>() {
            Ok(scope) => scopes.push(scope),
            Err(why) => check.violation(&root.item("scopes", index), why),
        }
    }
    let new = NewApiKey {
        tenant: request.tenant,
        name: request.name,
        scopes: scopes.into_iter().collect(),
        expires_at: time(check, &root.field("expire_time"), request.expire_time),
    };
    // What is wrong with single scopes has been told.
    if request.scopes.is_empty() || !new.scopes.is_empty() {
        new.validate(check, &root);
    }
    new
}

pub(in crate::api) fn api_key_page(
    check: &mut Check<'_>,
    caller: &Caller,
    request: &pb::ListApiKeysRequest,
) -> (ApiKeyPage, Fingerprint) {
    let (page, list) = page::read::<_, (i64, String)>(check, caller, request);
    if page.after.as_ref().is_some_and(|(_, id)| id.contains('\0')) {
        check.violation(&FieldPath::ROOT.field("page_token"), NOT_OURS);
    }
    (page, list)
}
