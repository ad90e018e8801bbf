//! Who a caller is, as its credentials say.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::DEFAULT_TENANT;
use crate::domain::access::AccessScopes;

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// Anybody, of a server that asks for no credentials.
    Local,
    /// A program.
    Service,
    /// A person.
    EndUser,
}

/// A caller who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What it is.
    pub kind: PrincipalKind,
    /// Its name in the audit, and the account of its limits: `key:…`, `file-key:…`, `certificate:…`, `token:…`, `user:…`,
    /// `local`.
    pub name: Arc<str>,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// What it may do, where it is a service.
    pub scopes: AccessScopes,
    /// The end user that it is, or acts for.
    pub end_user: Option<Uuid>,
    /// The id of its stored key.
    pub key_id: Option<Arc<str>>,
    /// The moment when its credentials end.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// Anybody, of a server that asks for no credentials: the service of the tenant that there is.
    #[must_use]
    pub fn local() -> Self {
        Principal {
            kind: PrincipalKind::Local,
            name: Arc::from("local"),
            ..Principal::service(DEFAULT_TENANT, AccessScopes::ALL)
        }
    }

    /// A program of a tenant.
    #[must_use]
    pub fn service(tenant: &str, scopes: AccessScopes) -> Self {
        Principal {
            kind: PrincipalKind::Service,
            name: Arc::from("service"),
            tenant: Arc::from(tenant),
            scopes,
            end_user: None,
            key_id: None,
            expires_at: None,
        }
    }

    /// Whether it has ended by now.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}
