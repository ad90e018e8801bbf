//! Tokens (JWT) of end users and workloads: whether one is signed by whom it must be, is for us and now, and what it says.
//!
//! [`keys`] has the keys, [`jwks`] gets them from an issuer. Which algorithm a token may be signed with follows from the key, and
//! never from the token: none at all, or an HMAC with what is a public key, can't be asked for.

mod jwks;
pub mod keys;

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use moka::future::Cache;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use jwks::RemoteKeys;
use keys::{KeySource, TokenKey};

use crate::domain::{
    Error, Result,
    access::{AccessScope, AccessScopes, CredentialFault},
};

/// The longest token: headers together have 16 KiB, and one with dozens of groups has some.
const LONGEST: usize = 8 << 10;
/// The most tokens whose signature is remembered: verifying one takes up to a tenth of a millisecond, which is more than the rest
/// of a call. Each takes some 200 bytes.
const MOST_REMEMBERED: u64 = 65_536;
/// The longest tenant, and the longest external id of a user, in characters.
const LONGEST_NAME: usize = 255;
/// What may stand before a scope in a token that other services' scopes are in as well.
const SCOPE_PREFIX: &str = "chatledger:";

/// What must be true of a token, and where it says what.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// Who must have made it; empty: anybody who has the key.
    pub issuers: Vec<String>,
    /// For whom it must be, one of these; empty: for nobody in particular.
    pub audiences: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that has the tenant.
    pub tenant_claim: Option<String>,
    /// The claim that has scopes: a token with it is a workload's.
    pub scopes_claim: Option<String>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Whom it is about.
    pub subject: String,
    /// The tenant, where it names one.
    pub tenant: Option<String>,
    /// The scopes of a workload; `None`: it is an end user's.
    pub scopes: Option<AccessScopes>,
    /// The moment when it ends, leeway included.
    pub expires_at: Timestamp,
}

/// Verifies tokens. A clone is the same one.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    source: KeySource,
    rules: Arc<TokenRules>,
    remembered: Cache<[u8; 32], Remembered>,
}

/// A token that was verified, and the keys of that moment: with other keys it is verified again.
#[derive(Clone, Debug)]
struct Remembered {
    token: Arc<VerifiedToken>,
    generation: u64,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Value,
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

impl TokenVerifier {
    /// A verifier by some keys and rules.
    #[must_use]
    pub fn new(source: KeySource, rules: TokenRules) -> Self {
        TokenVerifier {
            source,
            rules: Arc::new(rules),
            remembered: Cache::new(MOST_REMEMBERED),
        }
    }

    /// Whether a text has the form of a token.
    #[must_use]
    pub fn is_token(text: &str) -> bool {
        text.len() <= LONGEST && text.split('.').count() == 3
    }

    /// What a token says, where all is as it must be.
    ///
    /// # Errors
    /// [`Error::CredentialsRefused`]; [`Error::KeysUnavailable`].
    pub async fn verify(&self, text: &str, now: Timestamp) -> Result<Arc<VerifiedToken>> {
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let keys = self.source.keys().await?;
        let known = self.remembered.get(&hash).await;
        if let Some(known) = known.filter(|known| known.generation == keys.generation) {
            return if known.token.expires_at > now {
                Ok(known.token)
            } else {
                Err(Error::CredentialsRefused(CredentialFault::Expired))
            };
        }
        let header = decode_header(text).map_err(|_| unknown())?;
        if is_critical(text) {
            return Err(unknown());
        }
        let mut keys = keys;
        let mut candidates = keys.candidates(header.kid.as_deref(), header.alg);
        if candidates.is_empty() {
            // The issuer may have a new key.
            keys = self.source.newer_keys(&keys).await?;
            candidates = keys.candidates(header.kid.as_deref(), header.alg);
        }
        let mut refused = unknown();
        for key in candidates {
            match self.read(text, key) {
                Ok(token) => {
                    let token = Arc::new(token);
                    let remembered = Remembered {
                        token: Arc::clone(&token),
                        generation: keys.generation,
                    };
                    self.remembered.insert(hash, remembered).await;
                    return Ok(token);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn read(&self, text: &str, key: &TokenKey) -> Result<VerifiedToken> {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = self.rules.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if !self.rules.issuers.is_empty() {
            validation.set_issuer(&self.rules.issuers);
            required.push("iss");
        }
        if !self.rules.audiences.is_empty() {
            validation.set_audience(&self.rules.audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        let claims = decode::<Claims>(text, &key.key, &validation).map_err(|error| fault(error.kind()))?;
        self.said(claims.claims).ok_or_else(unknown)
    }

    /// What the claims say; `None` where one has a form that it can't have.
    fn said(&self, claims: Claims) -> Option<VerifiedToken> {
        let expires = claims.exp.as_i64().or_else(|| {
            // Some issuers write fractions of seconds. Whatever doesn't fit isn't a time.
            #[allow(clippy::cast_possible_truncation)]
            claims.exp.as_f64().map(|seconds| seconds as i64)
        })?;
        let leeway = i64::try_from(self.rules.leeway.as_secs()).ok()?;
        let tenant = match self
            .rules
            .tenant_claim
            .as_ref()
            .and_then(|name| claims.others.get(name))
        {
            None | Some(Value::Null) => None,
            Some(Value::String(tenant)) if is_name(tenant) => Some(tenant.clone()),
            Some(_) => return None,
        };
        let scopes = match self
            .rules
            .scopes_claim
            .as_ref()
            .and_then(|name| claims.others.get(name))
        {
            None | Some(Value::Null) => None,
            Some(value) => Some(scopes(value)?),
        };
        Some(VerifiedToken {
            subject: claims.sub.filter(|subject| is_name(subject))?,
            tenant,
            scopes,
            expires_at: Timestamp::from_second(expires.checked_add(leeway)?).unwrap_or(Timestamp::MAX),
        })
    }
}

/// The scopes of ours in a claim: a text with blanks between, as OAuth has them, or a list. Others are other services'.
fn scopes(claim: &Value) -> Option<AccessScopes> {
    let names: Vec<&str> = match claim {
        Value::String(text) => text.split_ascii_whitespace().collect(),
        Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let ours = names.iter().filter_map(|name| {
        name.strip_prefix(SCOPE_PREFIX)
            .unwrap_or(name)
            .parse::<AccessScope>()
            .ok()
    });
    Some(ours.collect())
}

/// Whether a text can be a tenant's name, or a user's external id.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LONGEST_NAME && !text.chars().any(char::is_control)
}

/// Whether a token asks for what isn't understood, in which case it has to be refused (RFC 7515, `crit`).
fn is_critical(text: &str) -> bool {
    let header = text
        .split('.')
        .next()
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|header| serde_json::from_slice::<HashMap<String, Value>>(&header).ok());
    header.is_some_and(|header| header.contains_key("crit"))
}

fn unknown() -> Error {
    Error::CredentialsRefused(CredentialFault::Unknown)
}

/// What is told of a token: the signature is looked at first, so that of what isn't signed nothing is.
fn fault(kind: &ErrorKind) -> Error {
    Error::CredentialsRefused(match kind {
        ErrorKind::ExpiredSignature => CredentialFault::Expired,
        ErrorKind::ImmatureSignature => CredentialFault::NotYetValid,
        ErrorKind::InvalidAudience => CredentialFault::WrongAudience,
        ErrorKind::InvalidIssuer => CredentialFault::WrongIssuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => CredentialFault::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => CredentialFault::WrongIssuer,
        _ => CredentialFault::Unknown,
    })
}

#[cfg(test)]
mod tests;
