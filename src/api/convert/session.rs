//! Sessions.

use std::collections::HashSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{TIMESTAMP_SECONDS, UpdateMask, id_or_new, json_mode, session_id, time_to_pb};
use crate::{
    api::page,
    auth::Caller,
    domain::{
        Check, FieldPath,
        page::{Fingerprint, NOT_OURS},
        session::{
            ClaimHash, MAX_CLAIMS, NewSession, Session, SessionChange, SessionClaim, SessionFilter,
            SessionOrder, SessionOwner, check_claim_secret, check_title,
        },
    },
};
use chatledger_protocol::{self as pb, list_sessions_request};

pub(in crate::api) fn session_to_pb(session: Session) -> pb::Session {
    pb::Session {
        id: session.id.to_string(),
        user_id: session.user_id.map(|id| id.to_string()),
        title: session.title,
        metadata_json: session.metadata,
        last_seq: session.last_seq,
        create_time: Some(time_to_pb(session.created_at)),
        update_time: Some(time_to_pb(session.updated_at)),
        last_message_time: session.last_message_at.map(time_to_pb),
    }
}

pub(in crate::api) fn new_session(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::CreateSessionRequest,
) -> NewSession {
    let root = FieldPath::ROOT;
    if let Some(title) = &request.title {
        check_title(check, &root.field("title"), title);
    }
    if let Some(secret) = &request.claim_secret {
        let at = root.field("claim_secret");
        check_claim_secret(check, &at, secret);
        // What an end user creates is its own.
        if request.user_id.is_some() || caller.end_user.is_some() {
            check.violation(&at, "is only for an anonymous session");
        }
    }
    NewSession {
        id: id_or_new(check, &root.field("session_id"), request.session_id.as_deref()),
        user_id: check.optional_uuid(&root.field("user_id"), request.user_id.as_deref()),
        title: request.title,
        metadata: check.json(&root.field("metadata_json"), request.metadata_json),
        claim_hash: request.claim_secret.as_deref().map(ClaimHash::of),
    }
}

pub(in crate::api) fn session_change(
    check: &mut Check<'_>,
    request: pb::UpdateSessionRequest,
) -> SessionChange {
    let root = FieldPath::ROOT;
    let id = session_id(check, &request.session_id);
    let mask = UpdateMask::read(check, request.update_mask, &["title", "metadata_json"]);
    if let Some(title) = &request.title {
        check_title(check, &root.field("title"), title);
    }
    let metadata = check.optional_json(&root.field("metadata_json"), request.metadata_json);
    SessionChange {
        id,
        title: mask.apply("title", request.title).map(Option::unwrap_or_default),
        metadata: mask
            .apply("metadata_json", metadata)
            .map(Option::unwrap_or_default),
        metadata_mode: json_mode(check, &root.field("metadata_mode"), request.metadata_mode),
    }
}

pub(in crate::api) fn session_filter(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::ListSessionsRequest,
) -> (SessionFilter, Fingerprint) {
    let root = FieldPath::ROOT;
    let (page, list) = page::read::<_, (i64, Uuid)>(check, caller, &request);
    if page.after.is_some_and(|(micros, _)| !is_time(micros)) {
        check.violation(&root.field("page_token"), NOT_OURS);
    }
    let owner = owner(check, request.owner);
    let order = order(check, owner, request.order_by);
    let contains = check.optional_json(
        &root.field("metadata_contains_json"),
        request.metadata_contains_json,
    );
    if let Some(title) = &request.title_contains {
        check_title(check, &root.field("title_contains"), title);
    }
    let filter = SessionFilter {
        page,
        owner,
        order,
        metadata_contains: contains,
        title_contains: request.title_contains,
    };
    (filter, list)
}

/// Whether a row can have this time.
fn is_time(micros: i64) -> bool {
    TIMESTAMP_SECONDS.contains(&micros.div_euclid(1_000_000)) && Timestamp::from_microsecond(micros).is_ok()
}

fn owner(check: &mut Check<'_>, owner: Option<list_sessions_request::Owner>) -> SessionOwner {
    let root = FieldPath::ROOT;
    match owner {
        Some(list_sessions_request::Owner::UserId(id)) => {
            SessionOwner::User(check.uuid(&root.field("user_id"), &id))
        }
        Some(list_sessions_request::Owner::Anonymous(true)) => SessionOwner::Anonymous,
        Some(list_sessions_request::Owner::Anonymous(false)) => {
            check.violation(&root.field("anonymous"), "must be true, or else user_id be given");
            SessionOwner::Anonymous
        }
        None => {
            check.violation(&root.field("owner"), "is required: user_id or anonymous");
            SessionOwner::Anonymous
        }
    }
}

fn order(check: &mut Check<'_>, owner: SessionOwner, order: i32) -> SessionOrder {
    let at = FieldPath::ROOT.field("order_by");
    match (pb::SessionOrder::try_from(order), owner) {
        (Ok(pb::SessionOrder::CreatedDesc), _)
        | (Ok(pb::SessionOrder::Unspecified), SessionOwner::Anonymous) => SessionOrder::Created,
        (Ok(pb::SessionOrder::Unspecified | pb::SessionOrder::LastActiveDesc), SessionOwner::User(_)) => {
            SessionOrder::LastActive
        }
        (Ok(pb::SessionOrder::LastActiveDesc), SessionOwner::Anonymous) => {
            check.violation(&at, "must be SESSION_ORDER_CREATED_DESC for anonymous sessions");
            SessionOrder::Created
        }
        (Err(_), _) => {
            check.violation(&at, format!("must be a SessionOrder, is {order}"));
            SessionOrder::Created
        }
    }
}

/// The user, and the sessions that the user claims, with their secrets.
pub(in crate::api) fn claim(
    check: &mut Check<'_>,
    caller: &Caller,
    request: &pb::ClaimSessionsRequest,
) -> SessionClaim {
    let root = FieldPath::ROOT;
    let user_id = check.uuid(&root.field("user_id"), &request.user_id);
    let given = &request.session_ids;
    if given.len() > MAX_CLAIMS {
        check.violation(
            &root.field("session_ids"),
            format!("must have at most {MAX_CLAIMS} elements, has {}", given.len()),
        );
        let (ids, hashes) = (Vec::new(), None);
        return SessionClaim { user_id, ids, hashes };
    }
    let mut seen = HashSet::new();
    let mut ids = Vec::with_capacity(given.len());
    for (i, text) in given.iter().enumerate() {
        let at = root.item("session_ids", i);
        let id = check.uuid(&at, text);
        if !seen.insert(id) {
            check.violation(&at, "is given twice");
        }
        ids.push(id);
    }
    let hashes = claim_hashes(check, caller, request);
    SessionClaim { user_id, ids, hashes }
}

/// The hashes of the secrets, one for each session. Only a service may leave them out.
fn claim_hashes(
    check: &mut Check<'_>,
    caller: &Caller,
    request: &pb::ClaimSessionsRequest,
) -> Option<Vec<ClaimHash>> {
    let given = &request.claim_secrets;
    if given.is_empty() && caller.end_user.is_none() {
        return None;
    }
    let (at, count) = (FieldPath::ROOT.field("claim_secrets"), request.session_ids.len());
    if given.len() != count {
        check.violation(
            &at,
            format!(
                "must have one for each of the {count} sessions, has {}",
                given.len()
            ),
        );
    }
    for (i, secret) in given.iter().enumerate() {
        check_claim_secret(check, &FieldPath::ROOT.item("claim_secrets", i), secret);
    }
    Some(given.iter().map(|secret| ClaimHash::of(secret)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Error, Limits};

    fn end_user(id: Uuid) -> Caller {
        Caller {
            end_user: Some(id),
            ..Caller::local_service(None)
        }
    }

    /// The bad fields of what a function reads.
    fn faults<T>(read: impl FnOnce(&mut Check<'_>) -> T) -> Vec<String> {
        let limits = Limits::default();
        let mut check = Check::new(&limits, Timestamp::UNIX_EPOCH);
        let value = read(&mut check);
        match check.finish(value) {
            Err(Error::Invalid(violations)) => {
                violations.into_iter().map(|violation| violation.field).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn an_end_user_gives_a_secret_for_each_session() {
        let caller = end_user(Uuid::now_v7());
        let claim = |secrets: &[&str]| pb::ClaimSessionsRequest {
            user_id: Uuid::now_v7().to_string(),
            session_ids: vec![Uuid::now_v7().to_string(), Uuid::now_v7().to_string()],
            claim_secrets: secrets.iter().map(ToString::to_string).collect(),
        };
        let secret = "sixteen bytes or more";
        for (secrets, bad) in [
            (vec![], vec!["claim_secrets"]),
            (vec![secret], vec!["claim_secrets"]),
            (vec![secret; 3], vec!["claim_secrets"]),
            (vec![secret, ""], vec!["claim_secrets[1]"]),
            (vec![secret; 2], vec![]),
        ] {
            assert_eq!(
                faults(|check| super::claim(check, &caller, &claim(&secrets))),
                bad,
                "{secrets:?}"
            );
        }
        let none = faults(|check| super::claim(check, &Caller::local_service(None), &claim(&[])));
        assert_eq!(none, Vec::<String>::new());
    }

    #[test]
    fn what_an_end_user_creates_is_its_own_and_has_no_secret() {
        let request = pb::CreateSessionRequest {
            claim_secret: Some("sixteen bytes or more".to_owned()),
            ..Default::default()
        };
        let caller = end_user(Uuid::now_v7());
        assert_eq!(
            faults(|check| new_session(check, &caller, request.clone())),
            ["claim_secret"]
        );
        let service = Caller::local_service(None);
        let mut check_debug = None;
        let none = faults(|check| check_debug = Some(format!("{:?}", new_session(check, &service, request))));
        assert_eq!(none, Vec::<String>::new());
        assert!(!check_debug.expect("a session").contains("sixteen"));
    }
}
