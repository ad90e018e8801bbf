//! The callers: who they are, what they may do ([`Action`] is the table), and how passwords are kept.

mod access;
mod certificate;
mod password;
pub mod sign_in;

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

pub use access::{Action, Reach};
pub use certificate::{CertificateMap, ClientCertificate, MappedService, SCOPES};
pub use password::{PasswordVerdict, Passwords, is_affordable};

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
const DEFAULT_TENANT: &str = "default";

impl Caller {
    /// The service beside which this server runs: until callers are authenticated, every caller is it.
    #[must_use]
    pub fn local_service(deadline: Option<Instant>) -> Self {
        Caller {
            tenant: Arc::from(DEFAULT_TENANT),
            end_user: None,
            deadline,
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
