//! Sessions: conversations.

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Check, FieldPath, JsonMode, JsonObject, page::Page};

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The key.
    pub id: Uuid,
    /// The user whose it is; `None`: nobody's.
    pub user_id: Option<Uuid>,
    /// The title; may be empty.
    pub title: String,
    /// A JSON object.
    pub metadata: String,
    /// The seq of the last message.
    pub last_seq: i64,
    /// The moment when it was created.
    pub created_at: Timestamp,
    /// The moment when it was last changed or appended to.
    pub updated_at: Timestamp,
    /// The time of the last message.
    pub last_message_at: Option<Timestamp>,
}

impl Session {
    /// The time that the order of last activity goes by.
    #[must_use]
    pub fn last_active_at(&self) -> Timestamp {
        self.last_message_at.unwrap_or(self.created_at)
    }
}

/// A session to create.
#[derive(Debug)]
pub struct NewSession {
    /// The key: the client's, or a new UUIDv7.
    pub id: Uuid,
    /// The user whose it is.
    pub user_id: Option<Uuid>,
    /// The title.
    pub title: Option<String>,
    /// A JSON object.
    pub metadata: JsonObject,
    /// What an end user who claims it has to know; only of an anonymous one.
    pub claim_hash: Option<ClaimHash>,
}

/// The SHA-256 of a claim secret. The secret goes no further than to where it is read. Without a salt, and quick: it is no
/// password, which somebody has to remember, so nobody can guess it. Its `Debug` doesn't show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClaimHash([u8; 32]);

impl ClaimHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        ClaimHash(Sha256::digest(secret).into())
    }

    /// The bytes, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClaimHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The sessions that a user claims.
#[derive(Debug)]
pub struct SessionClaim {
    /// The user who gets them.
    pub user_id: Uuid,
    /// The sessions, none twice.
    pub ids: Vec<Uuid>,
    /// The hash of each one's secret; `None`: a service that needs none.
    pub hashes: Option<Vec<ClaimHash>>,
}

/// The owner of sessions that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOwner {
    /// The sessions of a user.
    User(Uuid),
    /// The sessions of nobody.
    Anonymous,
}

/// The order of a list of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOrder {
    /// The order by last activity, newest first; a user's only.
    LastActive,
    /// The order by creation, newest first.
    Created,
}

impl SessionOrder {
    /// The time that the order goes by.
    #[must_use]
    pub fn time(self, session: &Session) -> Timestamp {
        match self {
            SessionOrder::LastActive => session.last_active_at(),
            SessionOrder::Created => session.created_at,
        }
    }
}

/// Which sessions to list.
#[derive(Debug)]
pub struct SessionFilter {
    /// Which page, by time (in microseconds since 1970) and id.
    pub page: Page<(i64, Uuid)>,
    /// The owner.
    pub owner: SessionOwner,
    /// The order.
    pub order: SessionOrder,
    /// An object that the metadata must contain.
    pub metadata_contains: Option<JsonObject>,
    /// A text that the title must contain, whatever its case.
    pub title_contains: Option<String>,
}

/// The changes of an update; `None` leaves a field as it is.
#[derive(Debug)]
pub struct SessionChange {
    /// Which session.
    pub id: Uuid,
    /// The new title.
    pub title: Option<String>,
    /// The new metadata, or what is merged into it.
    pub metadata: Option<JsonObject>,
    /// The way in which the metadata is changed.
    pub metadata_mode: JsonMode,
}

/// The most sessions that are claimed at once: a person has a few.
pub const MAX_CLAIMS: usize = 500;
/// The shortest claim secret, in bytes: 128 bits as they are, which nobody guesses.
pub const MIN_CLAIM_SECRET: usize = 16;
/// The longest claim secret, in bytes: a token of any usual kind.
pub const MAX_CLAIM_SECRET: usize = 512;
/// The longest title, in characters.
pub const MAX_TITLE: usize = 500;

/// A title.
pub fn check_title(check: &mut Check<'_>, at: &FieldPath<'_>, title: &str) {
    check.text_chars(at, title, MAX_TITLE);
}

/// A claim secret. What is said of a bad one doesn't quote it.
pub fn check_claim_secret(check: &mut Check<'_>, at: &FieldPath<'_>, secret: &str) {
    let bytes = secret.len();
    if !(MIN_CLAIM_SECRET..=MAX_CLAIM_SECRET).contains(&bytes) {
        let allowed = format!("{MIN_CLAIM_SECRET} to {MAX_CLAIM_SECRET}");
        check.violation(at, format!("must have {allowed} bytes, has {bytes}"));
    }
}
