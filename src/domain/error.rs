//! The one error enum. `api::status` turns it into a gRPC status, and nothing else does.

use std::{fmt, time::Duration};

use super::{
    access::{AccessScope, CredentialFault},
    shortage::Shortage,
};

/// The result of everything between a handler and the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One field of a request that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `message.citations[2].score`.
    pub field: String,
    /// The reason why it is wrong, in words that go after the field's name.
    pub description: String,
}

/// The things that requests name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A user.
    User,
    /// A user's profile.
    Profile,
    /// A session.
    Session,
    /// A message of a session.
    Message,
    /// A citation of a message.
    Citation,
    /// A document.
    Document,
    /// A service's key.
    ApiKey,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::User => "user",
            Resource::Profile => "profile",
            Resource::Session => "session",
            Resource::Message => "message",
            Resource::Citation => "citation",
            Resource::Document => "document",
            Resource::ApiKey => "API key",
        })
    }
}

/// Why a request can't be answered. The texts are for the caller to read: they hold no SQL, no secret and
/// nothing of somebody else's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request is malformed; all that is wrong with it.
    #[error("{}", violations_text(.0))]
    Invalid(Vec<Violation>),
    /// There is no such row, or it is somebody else's.
    #[error("{0} not found")]
    NotFound(Resource),
    /// Another user has this email.
    #[error("another user has this email")]
    EmailTaken,
    /// Another user has this external id.
    #[error("another user has this external id")]
    ExternalIdTaken,
    /// Another owner's row has this id.
    #[error("this {0} id is taken")]
    IdTaken(Resource),
    /// The message has other content under this citation index.
    #[error("the message has another citation with index {0}")]
    CitationIndexTaken(i32),
    /// The message id is stored with other contents, or only some ids of a batch are stored.
    #[error("{0}")]
    MessageIdReused(&'static str),
    /// The message id is that of a deleted message.
    #[error("a message with this id was deleted; its id can't be used again")]
    MessageDeleted,
    /// The session's last seq is not the expected one.
    #[error("the session's last_seq is {last_seq}, not the expected one")]
    SequenceConflict {
        /// The session's last seq.
        last_seq: i64,
    },
    /// Wrong password, unknown email, no password, or inactive: which one is not told.
    #[error("email or password is wrong")]
    InvalidCredentials,
    /// The server asks for credentials, and the call has none.
    #[error("credentials are required: authorization: Bearer <API key or token>")]
    CredentialsRequired,
    /// The call's credentials are refused.
    #[error("{0}")]
    CredentialsRefused(CredentialFault),
    /// The keys by which tokens are verified have never been had.
    #[error("the keys by which tokens are verified can't be had at the moment")]
    KeysUnavailable,
    /// The caller's scopes don't allow the method.
    #[error("this takes the scope {0}")]
    ScopeRequired(AccessScope),
    /// An end user asks for what only a service may do.
    #[error("end users can't do this; it takes a service")]
    NotForEndUsers,
    /// The service belongs to a migration set that this server doesn't serve.
    #[error("this server doesn't serve this service (see --scope)")]
    ScopeNotServed,
    /// The server has as much to do as it can hold.
    #[error("{0}")]
    Overloaded(Shortage),
    /// The caller, or its tenant, does more than the operator's file of limits allows.
    #[error("the limit {limit} of {most} is reached")]
    RateLimited {
        /// The limit's name, as in the file.
        limit: String,
        /// How many there may be.
        most: u64,
        /// When to come back.
        retry_after: Duration,
    },
    /// The tenant has stored as much as the operator's file of limits allows.
    #[error("the tenant has stored as much as {limit} allows")]
    QuotaExceeded {
        /// The limit's name, as in the file.
        limit: &'static str,
    },
    /// The database can't be reached, or it is waking up for longer than the caller waits.
    #[error("the database can't be reached at the moment")]
    DatabaseUnavailable,
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The caller's deadline, or the server's own limit on a request's time, has passed.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// A trigger or a constraint that isn't ours refuses the row. What it said may quote the row, so only the
    /// constraint's name is told.
    #[error("a trigger or constraint in the database refuses this row")]
    DatabaseRefused {
        /// The constraint, where there is one.
        constraint: Option<String>,
    },
    /// Something that should not happen; the log says what.
    #[error("internal error; the server's log has the details")]
    Internal,
}

impl Error {
    /// An error for a single bad field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Error {
        Error::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// Whether it passes by itself, so that the same request may succeed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Error::Overloaded(_)
                | Error::RateLimited { .. }
                | Error::DatabaseUnavailable
                | Error::KeysUnavailable
                | Error::ShuttingDown
                | Error::DeadlineExceeded
        )
    }

    /// How long a client should wait before it tries again, for errors that pass by themselves.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            // A queue that is full now has moved on in a moment.
            Error::Overloaded(_) => Some(Duration::from_millis(100)),
            Error::RateLimited { retry_after, .. } => Some(*retry_after),
            // A serverless database takes about a second to wake, and a server to start again.
            Error::DatabaseUnavailable | Error::KeysUnavailable | Error::ShuttingDown => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

fn violations_text(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|violation| format!("{} {}", violation.field, violation.description))
        .collect();
    parts.join("; ")
}
