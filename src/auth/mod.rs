//! The callers: who they are, what they may do, and how passwords are kept.
//!
//! - [`Authenticator`] makes a [`Principal`] of [`Credentials`]: a key ([`api_key`], [`known_keys`], [`key_file`]), a [`token`]
//!   whose subject is one of [`known_users`], or a [`certificate`]. It answers from memory, which calls keep current.
//! - [`methods`] is the table of what each method takes; [`Action`] says what of it an end user reaches.
//! - [`Caller`] is what of a principal the store binds into every statement.
//! - [`sign_in`] and passwords: how people come in with theirs.

mod access;
pub mod api_key;
mod authenticator;
mod certificate;
pub mod key_file;
pub mod known_keys;
pub mod known_users;
pub mod methods;
mod password;
mod principal;
pub mod sign_in;
pub mod token;

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

pub use access::{Action, Reach};
pub use api_key::NewSecret;
pub use authenticator::{Access, Authenticator, CredentialRefusal, Credentials};
pub use certificate::{CertificateMap, ClientCertificate, MappedService};
pub use password::{PasswordVerdict, Passwords, is_affordable};
pub use principal::{Principal, PrincipalKind};

use crate::{
    domain::{Error, Result},
    fair::Holder,
};

/// The sender of a request. Every statement of the store filters by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The owner of the data: rows of other tenants don't exist for the caller.
    pub tenant: Arc<str>,
    /// The end user, where the caller is one: other users' rows don't exist then either.
    pub end_user: Option<Uuid>,
    /// The moment when the caller stops waiting for an answer.
    pub deadline: Option<Instant>,
    /// The holder whose share gives room and memory: the client's connection, or the server itself.
    pub holder: Holder,
}

/// The tenant of a server that knows of only one; also the columns' default.
pub const DEFAULT_TENANT: &str = "default";

impl Caller {
    /// The service beside which this server runs, of a server that asks for no credentials.
    #[must_use]
    pub fn local_service(deadline: Option<Instant>) -> Self {
        Caller {
            deadline,
            ..Caller::server(&Arc::from(DEFAULT_TENANT))
        }
    }

    /// The server itself, about something of a tenant's.
    #[must_use]
    pub fn server(tenant: &Arc<str>) -> Self {
        Caller {
            tenant: Arc::clone(tenant),
            end_user: None,
            deadline: None,
            holder: Holder::default(),
        }
    }

    /// Refuses what an end user may not do.
    ///
    /// # Errors
    /// [`Error::NotForEndUsers`].
    pub fn permit(&self, action: Action) -> Result<()> {
        if self.end_user.is_some() && action.of_end_user() == Reach::Nothing {
            return Err(Error::NotForEndUsers);
        }
        Ok(())
    }

    /// Whether two requests see the same rows.
    #[must_use]
    pub fn sees_as(&self, other: &Caller) -> bool {
        self.tenant == other.tenant && self.end_user == other.end_user
    }
}
