//! API keys: `cl_<id>_<secret>`, the id 64 bits and the secret 256, both random and in hexadecimal digits.

use std::{fmt, fmt::Write as _};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, so that a secret that has got somewhere is recognized.
const PREFIX: &str = "cl_";
/// The digits of an id: 64 bits, so that no two are alike.
pub const ID_DIGITS: usize = 16;
/// The digits of a secret.
const SECRET_DIGITS: usize = 64;

/// The SHA-256 of a secret, which is what is kept of it.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// That of a text.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        SecretHash(Sha256::digest(secret.as_bytes()).into())
    }

    /// A hash as it is stored; `None` for what is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(SecretHash)
    }

    /// The hash itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is that of the same secret, in a time that doesn't tell how much of it is alike.
    #[must_use]
    pub fn is(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

/// The key that a caller has sent.
#[derive(Debug)]
pub struct PresentedKey<'a> {
    /// The part of it that is no secret.
    pub id: &'a str,
    /// The hash of its secret.
    pub hash: SecretHash,
}

impl<'a> PresentedKey<'a> {
    /// Reads one; `None` for what can't be one of ours.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let are_digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        (are_digits(id, ID_DIGITS) && are_digits(secret, SECRET_DIGITS)).then(|| PresentedKey {
            id,
            hash: SecretHash::of(secret),
        })
    }
}

/// A key that was just made.
pub struct NewSecret {
    /// The part of it that is no secret.
    pub id: String,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The whole key, which is shown once.
    pub key: String,
}

impl NewSecret {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; ID_DIGITS / 2 + SECRET_DIGITS / 2];
        getrandom::fill(&mut random)?;
        let digits = hexadecimal(&random);
        let (id, secret) = digits.split_at(ID_DIGITS);
        Ok(NewSecret {
            key: format!("{PREFIX}{id}_{secret}"),
            hash: SecretHash::of(secret),
            id: id.to_owned(),
        })
    }
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_read_and_no_two_are_alike() {
        let new = || NewSecret::generate().expect("random numbers");
        let (new, other) = (new(), new());
        let read = PresentedKey::read(&new.key).expect("a key");
        assert_eq!(read.id, new.id);
        assert!(read.hash.is(&new.hash));
        assert!(!read.hash.is(&other.hash));
        assert_ne!(new.id, other.id);
        assert!(!format!("{new:?} {read:?}").contains(new.key.rsplit('_').next().expect("a secret")));
    }

    #[test]
    fn what_is_no_key_is_not_read() {
        let key = NewSecret::generate().expect("random numbers").key;
        for text in [
            "",
            "cl_",
            "cl__",
            &key[1..],
            &key[..key.len() - 1],
            &format!("{key}0"),
            &key.to_uppercase(),
            &key.replacen('_', "-", 2),
        ] {
            assert!(PresentedKey::read(text).is_none(), "{text}");
        }
    }
}
