//! Lists in pages: sizes, and tokens that say where the next page begins.
//!
//! A token is a fingerprint of the request (its RPC, caller and filters) and the key of the last row, so
//! that the next page is found by an index (never by OFFSET) and a token isn't taken for another list. It
//! is not a secret and not signed: the key in it is bound as a parameter behind the caller's own filters.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Check, FieldPath};

/// The page size that 0 means.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// The largest page; a larger size is read as this.
pub const MAX_PAGE_SIZE: usize = 500;
/// A page ends before it is larger than this: clients receive messages of 4 MiB unless told otherwise.
pub const MAX_PAGE_BYTES: usize = 3 << 20;
/// The most citations of a page of messages, or those of one message: as they are stored by the service, 4.5 MiB of them.
pub const MAX_PAGE_CITATIONS: usize = 4096;

/// The length of a fingerprint: enough that two lists of one client don't share a fingerprint by chance.
const FINGERPRINT_BYTES: usize = 8;

/// A list that a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// The fingerprint of everything that tells one list from another.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; FINGERPRINT_BYTES];
        bytes.copy_from_slice(&hash.finalize()[..FINGERPRINT_BYTES]);
        Fingerprint(bytes)
    }
}

/// Which page is asked for: how many rows, after which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// At most this many rows, 1 to [`MAX_PAGE_SIZE`].
    pub size: usize,
    /// The key of the row behind which the page begins; `None`: from the beginning.
    pub after: Option<K>,
}

impl<K> Page<K> {
    /// How many rows to read: one more than is shown tells whether there is a next page.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        // At most MAX_PAGE_SIZE + 1, so nothing is cut off.
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }
}

/// A page size as the contract reads it.
pub fn size(check: &mut Check<'_>, at: &FieldPath<'_>, given: i32) -> usize {
    match usize::try_from(given) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) => size.min(MAX_PAGE_SIZE),
        Err(_) => {
            check.violation(at, "must not be negative");
            DEFAULT_PAGE_SIZE
        }
    }
}

/// The token for the page behind `key`.
#[must_use]
pub fn encode<K: Serialize>(fingerprint: Fingerprint, key: &K) -> String {
    let mut bytes = fingerprint.0.to_vec();
    // Keys are tuples of numbers and strings, which always have a JSON form.
    if serde_json::to_writer(&mut bytes, key).is_err() {
        return String::new();
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The reason against a token that is none, or whose key no row can have. Words to put behind the field's
/// name.
pub const NOT_OURS: &str = "is not a token that this server gave out";

/// The key in a token; `None` for an empty one. The error is words to put behind the field's name.
///
/// # Errors
/// A text that is no token, or one of another list.
pub fn decode<K: DeserializeOwned>(fingerprint: Fingerprint, token: &str) -> Result<Option<K>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| NOT_OURS)?;
    let (given, key) = bytes.split_at_checked(FINGERPRINT_BYTES).ok_or(NOT_OURS)?;
    if given != fingerprint.0 {
        return Err(
            "was given out for a list with other filters; send them unchanged, or start without a token",
        );
    }
    serde_json::from_slice(key).map(Some).map_err(|_| NOT_OURS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn a_token_gives_its_key_back(filters: Vec<u8>, time: i64, id: u128, rank: f32) {
            let list = Fingerprint::of(&[b"ListThings", &filters]);
            let key = (time, Uuid::from_u128(id), rank.to_bits());
            let token = encode(list, &key);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(decode(list, &token), Ok(Some(key)));
        }

        #[test]
        fn a_token_of_another_list_is_refused(one: Vec<u8>, other: Vec<u8>) {
            prop_assume!(one != other);
            let token = encode(Fingerprint::of(&[&one]), &(1_i64,));
            prop_assert!(decode::<(i64,)>(Fingerprint::of(&[&other]), &token).is_err());
        }

        #[test]
        fn any_text_is_answered_without_a_panic(token in ".*", bytes: Vec<u8>) {
            let list = Fingerprint::of(&[]);
            let _ = decode::<(i64, Uuid)>(list, &token);
            let _ = decode::<(i64, Uuid)>(list, &URL_SAFE_NO_PAD.encode(bytes));
        }
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
    }
}
