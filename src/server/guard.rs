//! The guard: who calls, and whether that caller may. It is asked before anything is taken or read for a call, so that who may
//! not come in costs nothing and learns nothing.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Request, header::AUTHORIZATION};
use jiff::Timestamp;
use tokio::time;
use tonic::body::Body;
use uuid::Uuid;

use super::link::Link;
use crate::{
    audit::{AuditEvent, AuditRecord},
    auth::{
        Access, Action, CredentialRefusal, Credentials, Principal, PrincipalKind, Reach,
        methods::{self, MethodRule},
    },
    domain::{
        Error, Resource, Result,
        access::{AccessScope, CredentialFault},
    },
    fair::Holder,
};

/// The header by which a service says for which user it calls.
const ACTS_FOR: &str = "x-chatledger-user";
/// How often it is looked whether the caller of an open stream may still have it. With how old what is known of keys and users may
/// be, that makes less than the minute after which the stream of a revoked key has to have ended.
const LOOK_AGAIN: Duration = Duration::from_secs(25);
/// The least time between two looks, also where the credentials have ended and the database, which has to be asked, is away.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
/// The methods of reflection begin with it.
const REFLECTION: &str = "/grpc.reflection.";

/// Says who may call what.
#[derive(Debug)]
pub(super) struct Guard {
    access: Access,
    rules: HashMap<&'static str, &'static MethodRule>,
    local: Arc<Principal>,
    /// Makes a group of a tenant. Nobody knows it, so nobody chooses a tenant that shares another's group.
    groups: RandomState,
}

/// What of a call says who it is from, and what it asks for.
#[derive(Clone, Debug)]
pub(super) struct CallHead {
    path: String,
    credentials: Result<Credentials>,
    acts_for: Result<Option<Uuid>>,
    pub(super) peer: Option<SocketAddr>,
}

impl CallHead {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let link = request.extensions().get::<Arc<Link>>();
        let certificate = link.and_then(|link| link.certificate());
        let certificate = certificate.map(Arc::clone);
        let bearer = bearer(request.headers());
        CallHead {
            path: request.uri().path().to_owned(),
            credentials: bearer.map(|bearer| Credentials { bearer, certificate }),
            acts_for: acts_for(request.headers()),
            peer: link.and_then(|link| link.peer()),
        }
    }
}

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Guard {
            access,
            rules: methods::rules().map(|rule| (rule.path, rule)).collect(),
            local: Arc::new(Principal::local()),
            groups: RandomState::new(),
        }
    }

    /// Who calls, where that caller may call this.
    pub(super) async fn admit(&self, call: &CallHead) -> Result<Arc<Principal>> {
        let caller = self.identify(call).await?;
        let admitted = self.may(call, &caller).await;
        // What a service does for a user is kept, and what it was kept from doing.
        if let (Ok(Some(user)), false) = (&call.acts_for, caller.kind == PrincipalKind::EndUser) {
            let cause = match &admitted {
                Ok(_) => None,
                Err(Error::NotFound(_)) => Some("USER_NOT_FOUND"),
                Err(Error::ScopeRequired(_) | Error::NotForEndUsers) => Some("SCOPE_REQUIRED"),
                // It wasn't for the caller that it wasn't done.
                Err(_) => return admitted,
            };
            let record = AuditRecord::by(AuditEvent::ActedForUser, &caller);
            self.audit(record.to(user), call, cause);
        }
        admitted
    }

    /// The caller, for the user whom the call names, where that may be.
    async fn may(&self, call: &CallHead, caller: &Arc<Principal>) -> Result<Arc<Principal>> {
        let rule = self.rules.get(call.path.as_str()).copied();
        permit_scope(caller, rule)?;
        let principal = self.on_behalf(call, Arc::clone(caller)).await?;
        permit_reach(&principal, rule)?;
        Ok(principal)
    }

    /// On whose account a call takes what there is only so much of: its connection's, in the group of its tenant.
    pub(super) fn holder(&self, principal: &Principal, connection: Holder) -> Holder {
        if principal.kind == PrincipalKind::Local {
            return connection;
        }
        Holder::of(self.groups.hash_one(&principal.tenant), connection.member())
    }

    /// Whether the caller may ask for the contract by reflection.
    pub(super) async fn admit_probe(&self, call: &CallHead) -> Result<()> {
        if self.access.reflection_is_open || !call.path.starts_with(REFLECTION) {
            return Ok(());
        }
        let principal = self.identify(call).await?;
        if principal.scopes.allow(AccessScope::Admin) {
            Ok(())
        } else {
            Err(Error::ScopeRequired(AccessScope::Admin))
        }
    }

    /// Waits until the caller of an open stream may not have it any more, and answers why. For ever, where nobody has to say who
    /// he is.
    pub(super) async fn refused_later(self: Arc<Self>, call: CallHead, principal: Arc<Principal>) -> Error {
        if self.access.authenticator.is_none() {
            return std::future::pending().await;
        }
        loop {
            let left = principal
                .expires_at
                .map(|end| end.duration_since(Timestamp::now()));
            let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
            time::sleep(left.unwrap_or(LOOK_AGAIN).clamp(SHORTEST_LOOK, LOOK_AGAIN)).await;
            match self.look_again(&call).await {
                Ok(()) => {}
                // Without its database the server has nothing to tell to anybody.
                Err(error) if error.is_passing() => {}
                Err(error) => return error,
            }
        }
    }

    async fn look_again(&self, call: &CallHead) -> Result<()> {
        let caller = self.identify(call).await?;
        self.may(call, &caller).await.map(drop)
    }

    /// Who calls. A failure is audited.
    async fn identify(&self, call: &CallHead) -> Result<Arc<Principal>> {
        let Some(authenticator) = &self.access.authenticator else {
            return Ok(Arc::clone(&self.local));
        };
        let found = match &call.credentials {
            Ok(credentials) => authenticator.authenticate(credentials).await,
            Err(error) => Err(error.clone().into()),
        };
        found.map_err(|CredentialRefusal { error, known }| {
            let cause = match &error {
                Error::CredentialsRequired => "NONE",
                Error::CredentialsRefused(fault) => fault.name(),
                // It isn't the credentials.
                _ => return error,
            };
            let record = match known {
                Some(known) => AuditRecord::by(AuditEvent::AuthenticationFailed, &known),
                None => AuditRecord::new(AuditEvent::AuthenticationFailed, "", "unknown"),
            };
            self.audit(record, call, Some(cause));
            error
        })
    }

    fn audit(&self, record: AuditRecord, call: &CallHead, cause: Option<&'static str>) {
        let record = record.through(&call.path, call.peer);
        self.access.audit.record(AuditRecord { cause, ..record });
    }

    /// The caller, acting for the user whom the call names.
    async fn on_behalf(&self, call: &CallHead, principal: Arc<Principal>) -> Result<Arc<Principal>> {
        let Some(user) = call.acts_for.clone()? else {
            return Ok(principal);
        };
        if principal.kind == PrincipalKind::EndUser {
            // It is itself; nobody else exists for it.
            return match principal.end_user {
                Some(own) if own == user => Ok(principal),
                _ => Err(Error::NotFound(Resource::User)),
            };
        }
        let user = self
            .access
            .users
            .find(&principal.tenant, &user.to_string())
            .await?;
        Ok(Arc::new(Principal {
            end_user: Some(user),
            ..Principal::clone(&principal)
        }))
    }
}

/// Refuses what the caller's scopes don't allow. What the contract doesn't have is for the library to refuse.
fn permit_scope(principal: &Principal, rule: Option<&MethodRule>) -> Result<()> {
    match rule.and_then(|rule| rule.scope) {
        Some(needed) if principal.kind != PrincipalKind::EndUser && !principal.scopes.allow(needed) => {
            Err(Error::ScopeRequired(needed))
        }
        _ => Ok(()),
    }
}

/// Refuses what an end user may not do, whoever does it.
fn permit_reach(principal: &Principal, rule: Option<&MethodRule>) -> Result<()> {
    let reach = rule.and_then(|rule| rule.action).map(Action::of_end_user);
    if principal.end_user.is_some() && reach == Some(Reach::Nothing) {
        return Err(Error::NotForEndUsers);
    }
    Ok(())
}

/// The text behind `Bearer`, if there is one. Two would be two callers.
fn bearer(headers: &HeaderMap) -> Result<Option<Arc<str>>> {
    let refused = || Error::CredentialsRefused(CredentialFault::Unknown);
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(refused());
    }
    let text = value.to_str().map_err(|_| refused())?;
    let (scheme, bearer) = text.split_once(' ').ok_or_else(refused)?;
    let bearer = bearer.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !bearer.is_empty() {
        Ok(Some(Arc::from(bearer)))
    } else {
        Err(refused())
    }
}

fn acts_for(headers: &HeaderMap) -> Result<Option<Uuid>> {
    let invalid = || Error::invalid(ACTS_FOR, "must be one user's id, a UUID in its usual form");
    let mut values = headers.get_all(ACTS_FOR).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| invalid())?;
    // As in requests: 36 characters.
    let id = Uuid::try_parse(text)
        .ok()
        .filter(|_| text.len() == 36)
        .ok_or_else(invalid)?;
    if values.next().is_some() {
        return Err(invalid());
    }
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &'static str, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| (of, *value));
        values.fold(HeaderMap::new(), |mut headers, (of, value)| {
            headers.append(of, http::HeaderValue::from_static(value));
            headers
        })
    }

    #[test]
    fn one_bearer_is_read() {
        let read = |values: &[&'static str]| bearer(&headers("authorization", values));
        assert!(matches!(read(&[]), Ok(None)));
        for text in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(read(&[text]).expect("one").as_deref(), Some("abc"), "{text}");
        }
        for values in [
            &["Basic abc"][..],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &["Bearer a", "Bearer a"],
        ] {
            assert!(
                matches!(read(values), Err(Error::CredentialsRefused(_))),
                "{values:?}"
            );
        }
    }

    #[test]
    fn one_user_is_read() {
        const ID: &str = "018f4e9c-7a3b-7c1d-9e2f-0123456789ab";
        let read = |values: &[&'static str]| acts_for(&headers(ACTS_FOR, values));
        assert!(matches!(read(&[]), Ok(None)));
        assert_eq!(
            read(&[ID]).expect("one").map(|id| id.to_string()).as_deref(),
            Some(ID)
        );
        for values in [
            &[""][..],
            &["ada"],
            &["018f4e9c7a3b7c1d9e2f0123456789ab"],
            &[ID, ID],
        ] {
            assert!(matches!(read(values), Err(Error::Invalid(_))), "{values:?}");
        }
    }
}
