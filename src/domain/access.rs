//! Access: what callers may do, the keys of services, and what may be wrong with credentials.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::{Check, FieldPath, page::Page};

/// A part of what a service may do. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessScope {
    /// Every read.
    Read,
    /// And appends, sessions, citations and documents.
    Write,
    /// And users, profiles and passwords.
    Users,
    /// Everything, keys too.
    Admin,
}

impl AccessScope {
    /// All of them.
    pub const ALL: [AccessScope; 4] = [
        AccessScope::Read,
        AccessScope::Write,
        AccessScope::Users,
        AccessScope::Admin,
    ];

    /// The name in requests, files and columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AccessScope::Read => "read",
            AccessScope::Write => "write",
            AccessScope::Users => "users",
            AccessScope::Admin => "admin",
        }
    }
}

impl fmt::Display for AccessScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AccessScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = AccessScope::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| "must be read, write, users or admin".to_owned())
    }
}

/// The scopes of a caller, as they were given: what they allow is what the largest of them does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessScopes([bool; AccessScope::ALL.len()]);

impl AccessScopes {
    /// Every scope.
    pub const ALL: AccessScopes = AccessScopes([true; AccessScope::ALL.len()]);

    /// Whether they allow what takes this one.
    #[must_use]
    pub fn allow(self, needed: AccessScope) -> bool {
        self.iter().any(|scope| scope >= needed)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Those that were given, the smallest first.
    pub fn iter(self) -> impl Iterator<Item = AccessScope> {
        let given = AccessScope::ALL.into_iter().zip(self.0);
        given.filter_map(|(scope, is_given)| is_given.then_some(scope))
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(AccessScope::name).collect()
    }
}

impl FromIterator<AccessScope> for AccessScopes {
    fn from_iter<I: IntoIterator<Item = AccessScope>>(scopes: I) -> Self {
        let mut given = AccessScopes::default();
        for scope in scopes {
            given.0[scope as usize] = true;
        }
        given
    }
}

/// Why credentials are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialFault {
    /// They are none that the server knows, or can't be read.
    Unknown,
    /// The key is right, and was revoked.
    Revoked,
    /// The key, token or certificate is right, and has ended.
    Expired,
    /// The token begins later.
    NotYetValid,
    /// The token is for another audience.
    WrongAudience,
    /// The token is another issuer's.
    WrongIssuer,
    /// The token names a user who isn't there, or may not sign in.
    NoSuchUser,
}

impl CredentialFault {
    /// The name in an error's metadata and in the audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CredentialFault::Unknown => "UNKNOWN",
            CredentialFault::Revoked => "REVOKED",
            CredentialFault::Expired => "EXPIRED",
            CredentialFault::NotYetValid => "NOT_YET_VALID",
            CredentialFault::WrongAudience => "WRONG_AUDIENCE",
            CredentialFault::WrongIssuer => "WRONG_ISSUER",
            CredentialFault::NoSuchUser => "NO_SUCH_USER",
        }
    }
}

impl fmt::Display for CredentialFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredentialFault::Unknown => "the credentials are not known here",
            CredentialFault::Revoked => "the key was revoked",
            CredentialFault::Expired => "the credentials have expired",
            CredentialFault::NotYetValid => "the token is not valid yet",
            CredentialFault::WrongAudience => "the token is for another audience",
            CredentialFault::WrongIssuer => "the token is from another issuer",
            CredentialFault::NoSuchUser => "the token's subject is no user who may sign in",
        })
    }
}

/// A stored key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The part of it that is no secret.
    pub id: String,
    /// The tenant whose data it reaches.
    pub tenant: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: AccessScopes,
    /// The moment when it was made.
    pub created_at: Timestamp,
    /// The moment when it ends.
    pub expires_at: Option<Timestamp>,
    /// The moment when it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The last hour in which it was used.
    pub last_used_at: Option<Timestamp>,
}

/// A key to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiKey {
    /// The tenant whose data it reaches; `None`: the caller's.
    pub tenant: Option<String>,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: AccessScopes,
    /// The moment when it ends.
    pub expires_at: Option<Timestamp>,
}

/// A page of keys, the newest first.
pub type ApiKeyPage = Page<(i64, String)>;

/// The longest name of a key or a tenant, in characters.
const MAX_NAME: usize = 255;

impl NewApiKey {
    /// Checks the texts and the end.
    pub fn validate(&self, check: &mut Check<'_>, at: &FieldPath<'_>) {
        check_name(check, &at.field("name"), &self.name);
        if let Some(tenant) = &self.tenant {
            check_name(check, &at.field("tenant"), tenant);
        }
        if self.scopes.is_empty() {
            check.violation(&at.field("scopes"), "must have at least one");
        }
        if self.expires_at.is_some_and(|end| end <= check.now) {
            check.violation(&at.field("expire_time"), "must be in the future");
        }
    }
}

fn check_name(check: &mut Check<'_>, at: &FieldPath<'_>, name: &str) {
    if name.is_empty() {
        check.violation(at, "is required");
    }
    // It is shown at terminals.
    if name.chars().any(char::is_control) {
        check.violation(at, "must not have control characters");
    }
    check.text_chars(at, name, MAX_NAME);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_includes_those_before_it() {
        for given in AccessScope::ALL {
            let scopes: AccessScopes = [given].into_iter().collect();
            for needed in AccessScope::ALL {
                assert_eq!(scopes.allow(needed), given >= needed, "{given} for {needed}");
            }
        }
        assert!(!AccessScopes::default().allow(AccessScope::Read));
    }

    #[test]
    fn names_have_no_control_characters() {
        for (name, is_good) in [
            ("rag-worker", true),
            ("Zoë's", true),
            ("a\nb", false),
            ("\u{1b}[2J", false),
        ] {
            let limits = crate::domain::Limits::default();
            let mut check = Check::new(&limits, Timestamp::UNIX_EPOCH);
            check_name(&mut check, &FieldPath::ROOT.field("name"), name);
            assert_eq!(check.finish(()).is_ok(), is_good, "{name:?}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for scope in AccessScope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        for name in ["", "Read", "readwrite", "*"] {
            assert!(name.parse::<AccessScope>().is_err(), "{name}");
        }
    }
}
