//! The keys by which tokens are verified: one secret, or an issuer's set.

use std::{collections::HashMap, fmt, sync::Arc};

use anyhow::{Context, ensure};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

use super::RemoteKeys;
use crate::{domain::Result, watched::Watched};

/// The least bytes of a secret: as many as HS256's hash has.
const LEAST_SECRET: usize = 32;

/// The key for one algorithm.
#[derive(Clone)]
pub struct TokenKey {
    /// The algorithm that it is for.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

/// It may be a secret.
impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The keys of a moment.
#[derive(Debug, Default)]
pub struct TokenKeys {
    /// By the name that tokens give.
    named: HashMap<String, TokenKey>,
    /// Those without a name.
    unnamed: Vec<TokenKey>,
    /// Another number means other keys.
    pub generation: u64,
}

/// Where the keys are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Read from a file, and again when it changes.
    File(Watched<TokenKeys>),
    /// Asked of an issuer.
    Remote(RemoteKeys),
}

impl KeySource {
    /// The keys to verify by.
    pub(super) async fn keys(&self) -> Result<Arc<TokenKeys>> {
        match self {
            KeySource::File(file) => Ok(file.get()),
            KeySource::Remote(remote) => remote.keys().await,
        }
    }

    /// The keys, asked for anew where that may be: a token names one that isn't among `known`.
    pub(super) async fn newer_keys(&self, known: &Arc<TokenKeys>) -> Result<Arc<TokenKeys>> {
        match self {
            KeySource::File(file) => Ok(file.get()),
            KeySource::Remote(remote) => remote.newer_keys(known).await,
        }
    }
}

impl TokenKeys {
    /// The one key of a secret, for HS256. One line's end at the end of a file isn't part of it.
    ///
    /// # Errors
    /// A secret that is too short, or no secret at all, but a public key.
    pub fn of_secret(secret: &[u8]) -> anyhow::Result<Self> {
        let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        ensure!(
            !secret.trim_ascii_start().starts_with(b"-----BEGIN"),
            "is a key in PEM, which others may have as well, and no secret: see --jwt-jwks"
        );
        ensure!(
            secret.len() >= LEAST_SECRET,
            "must have {LEAST_SECRET} bytes at least"
        );
        let key = TokenKey {
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret),
        };
        Ok(TokenKeys {
            unnamed: vec![key],
            generation: generation(),
            ..TokenKeys::default()
        })
    }

    /// The keys of a JSON Web Key Set that are for signatures of algorithms that are taken. Others are passed over.
    ///
    /// # Errors
    /// What is no set, or has no such key.
    pub fn of_set(json: &[u8]) -> anyhow::Result<Self> {
        let set: JwkSet = serde_json::from_slice(json).context("is no JSON Web Key Set")?;
        let mut keys = TokenKeys {
            generation: generation(),
            ..TokenKeys::default()
        };
        for jwk in &set.keys {
            let Some(key) = usable(jwk) else { continue };
            match &jwk.common.key_id {
                Some(name) => drop(keys.named.insert(name.clone(), key)),
                None => keys.unnamed.push(key),
            }
        }
        let is_empty = keys.named.is_empty() && keys.unnamed.is_empty();
        ensure!(!is_empty, "has no key for RS256, ES256 or EdDSA");
        Ok(keys)
    }

    /// The keys that a token with this header may have been signed with.
    pub(super) fn candidates(&self, name: Option<&str>, algorithm: Algorithm) -> Vec<&TokenKey> {
        let named = name.and_then(|name| self.named.get(name));
        let found = match (name, named) {
            (_, Some(key)) => vec![key],
            // A secret has no name, and tokens may have one all the same.
            (Some(_), None) => self.unnamed.iter().collect(),
            (None, _) => self.unnamed.iter().chain(self.named.values()).collect(),
        };
        found
            .into_iter()
            .filter(|key| key.algorithm == algorithm)
            .collect()
    }
}

/// A number that no other set has had.
fn generation() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A key of a set, where it is a public one for an algorithm that is taken.
fn usable(jwk: &Jwk) -> Option<TokenKey> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(of) if of.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(of) if of.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if jwk
        .common
        .key_algorithm
        .as_ref()
        .is_some_and(|given| *given != named)
    {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(TokenKey { algorithm, key })
}
