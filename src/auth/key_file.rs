//! Preshared keys: a file of secrets, for those who keep them elsewhere.
//!
//! ```toml
//! [[api_keys]]
//! name = "rag-worker"
//! secret = "…"                    # 32 characters at least; or: sha256 = "<64 hexadecimal digits>"
//! scopes = ["read", "write"]
//! tenant = "acme"                 # else "default"
//! expires = "2027-01-01T00:00:00Z"
//! ```

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde::Deserialize;

use super::{DEFAULT_TENANT, Principal, api_key::SecretHash};
use crate::{
    domain::access::{AccessScope, AccessScopes},
    watched::parse_toml,
};

/// The least characters of a secret: nobody tries 32 out.
const LEAST_SECRET: usize = 32;

/// The keys of a file, by the hash of their secrets: so the time that a look-up takes tells nothing of them.
#[derive(Debug, Default)]
pub struct KeyFile(HashMap<[u8; 32], Arc<Principal>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileContents {
    #[serde(default)]
    api_keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    name: String,
    secret: Option<String>,
    sha256: Option<String>,
    scopes: Vec<String>,
    tenant: Option<String>,
    expires: Option<Timestamp>,
}

impl KeyFile {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong, with the key's name, and never with its secret.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let contents: FileContents = parse_toml(text).map_err(anyhow::Error::msg)?;
        let mut keys = HashMap::new();
        for key in contents.api_keys {
            let name = key.name.clone();
            let (hash, principal) = key.read().with_context(|| format!("the key {name:?}"))?;
            let former = keys.insert(hash, Arc::new(principal));
            ensure!(former.is_none(), "the key {name:?}: has the secret of another");
        }
        Ok(KeyFile(keys))
    }

    /// Whose a secret is.
    #[must_use]
    pub fn find(&self, secret: &str) -> Option<&Arc<Principal>> {
        self.0.get(SecretHash::of(secret).bytes())
    }
}

impl FileKey {
    fn read(self) -> anyhow::Result<([u8; 32], Principal)> {
        ensure!(!self.name.is_empty(), "must have a name");
        let hash = match (&self.secret, &self.sha256) {
            (Some(secret), None) => {
                let is_long = secret.chars().count() >= LEAST_SECRET;
                ensure!(is_long, "secret must have {LEAST_SECRET} characters at least");
                let can_be_sent = secret.chars().all(|c| c.is_ascii_graphic());
                ensure!(
                    can_be_sent,
                    "secret must have letters, digits and signs of ASCII only: it is sent in a header"
                );
                *SecretHash::of(secret).bytes()
            }
            (None, Some(digits)) => hash_of(digits).context("sha256 must be 64 hexadecimal digits")?,
            _ => anyhow::bail!("must have either secret or sha256"),
        };
        let scopes: AccessScopes = self
            .scopes
            .iter()
            .map(|scope| scope.parse::<AccessScope>())
            .collect::<Result<_, _>>()
            .map_err(|why| anyhow::anyhow!("scopes {why}"))?;
        ensure!(!scopes.is_empty(), "scopes must have at least one");
        let tenant = self.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        ensure!(!tenant.is_empty(), "tenant must not be empty");
        let principal = Principal {
            name: Arc::from(format!("file-key:{}", self.name)),
            expires_at: self.expires,
            ..Principal::service(tenant, scopes)
        };
        Ok((hash, principal))
    }
}

fn hash_of(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..digits.len()).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_key_is_found_by_its_secret_or_its_hash() {
        let file = format!(
            "[[api_keys]]\nname = 'a'\nsecret = '{SECRET}'\nscopes = ['read']\n\
             [[api_keys]]\nname = 'b'\nsha256 = '{}'\nscopes = ['write', 'read']\ntenant = 'acme'\n\
             expires = '2027-01-01T00:00:00Z'\n",
            // Of `hello`.
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        let file = KeyFile::parse(&file).expect("two keys");
        let a = file.find(SECRET).expect("a");
        assert_eq!((&*a.name, &*a.tenant), ("file-key:a", "default"));
        assert!(!a.scopes.allow(AccessScope::Write));
        let b = file.find("hello").expect("b");
        assert_eq!(
            (&*b.tenant, b.expires_at),
            ("acme", "2027-01-01T00:00:00Z".parse().ok())
        );
        assert!(file.find("other").is_none());
    }

    #[test]
    fn mistakes_are_told_without_the_secret() {
        let secret = format!("secret = '{SECRET}'");
        for (key, expected) in [
            (
                format!("{secret}\nscopes = ['all']"),
                "scopes must be read, write, users or admin",
            ),
            (format!("{secret}\nscopes = []"), "at least one"),
            ("secret = 'short'\nscopes = ['read']".to_owned(), "32 characters"),
            ("scopes = ['read']".to_owned(), "either secret or sha256"),
            (
                "sha256 = 'é'\nscopes = ['read']".to_owned(),
                "64 hexadecimal digits",
            ),
            (format!("{secret}\nscope = ['read']"), "unknown field"),
            (format!("{secret}\nscopes = 'read"), "line 4"),
        ] {
            let text = format!("[[api_keys]]\nname = 'k'\n{key}\n");
            let error = KeyFile::parse(&text).expect_err("a mistake");
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(SECRET) && !error.contains("short"), "{error}");
        }
    }
}
