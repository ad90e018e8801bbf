//! What reads bytes that anybody may send, as functions that a fuzzer calls: `fuzz/` has a target for each, with the corpora that
//! it begins with. A short run is a test here, on stable Rust: every seed, and what is near it. `--cfg fuzzing`, which cargo-fuzz
//! sets, lets the targets in.
#![allow(clippy::missing_panics_doc)] // a panic is what they are for

use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    auth::token::{
        TokenRules, TokenVerifier,
        keys::{KeySource, TokenKeys},
    },
    domain::{
        Limits, json,
        page::{self, Fingerprint},
    },
    server::fuzzed_frame,
    watched::Watched,
};
use chatledger_postgres::url::DatabaseUrl;

/// The secret that signs the seeds of [`token`].
const SECRET: &[u8] = b"the secret by which fuzzed tokens are signed";

/// Reads bytes, and panics where what is promised of them doesn't hold.
pub type FuzzTarget = fn(&[u8]);

/// The targets, by the names of their corpora.
pub const TARGETS: [(&str, FuzzTarget); 5] = [
    ("page_token", page_token),
    ("json_field", json_field),
    ("database_url", database_url),
    ("token", token),
    ("frame", frame),
];

/// A page token: one that is taken has a key, which makes the same token.
pub fn page_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let list = Fingerprint::of(&[b"fuzzed"]);
    let decoded = page::decode::<(i64, Uuid)>(list, text);
    if let Ok(Some(key)) = decoded {
        let again = page::decode::<(i64, Uuid)>(list, &page::encode(list, &key));
        assert_eq!(again, Ok(Some(key)));
    }
}

/// A JSON field: what is taken is an object that any reader of JSON takes, within the limits.
pub fn json_field(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let limits = Limits::default();
    if let Ok(object) = json::parse(text.to_owned(), &limits) {
        assert!(object.as_str().len() <= limits.max_json_bytes);
        let value = serde_json::from_str::<Value>(object.as_str());
        assert!(value.is_ok_and(|value| value.is_object()), "{text}");
    }
}

/// A database's URL: whatever is wrong with it, the password isn't told.
pub fn database_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match DatabaseUrl::parse(text) {
        Ok(url) => drop(url.display()),
        Err(error) => {
            // The seeds' password, where it is still one.
            if text.contains(":hunter2hunter2@") {
                assert!(!format!("{error:#}").contains("hunter2hunter2"), "{error:#}");
            }
        }
    }
}

/// A token: what isn't signed with the secret says nothing.
pub fn token(bytes: &[u8]) {
    static VERIFIER: LazyLock<Option<TokenVerifier>> = LazyLock::new(|| {
        let keys = TokenKeys::of_secret(SECRET).ok()?;
        Some(TokenVerifier::new(
            KeySource::File(Watched::fixed(keys)),
            TokenRules::default(),
        ))
    });
    let (Some(verifier), Ok(text)) = (VERIFIER.as_ref(), std::str::from_utf8(bytes)) else {
        return;
    };
    let said = verifier.verify(text, Timestamp::UNIX_EPOCH).now_or_never();
    if let Some(Ok(token)) = said {
        assert_eq!(Arc::unwrap_or_clone(token).subject, "ada");
    }
}

/// A frame of a stream of entries, as it comes: what the intake lets through, the library decodes.
pub fn frame(bytes: &[u8]) {
    fuzzed_frame(bytes);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// How many variants of each seed are tried.
    const VARIANTS: usize = 500;

    /// Bytes like these, but for some that were changed, doubled, cut out or put in.
    fn variant(random: &mut fastrand::Rng, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..=bytes.len());
            let end = (at + random.usize(..8)).min(bytes.len());
            match random.u8(..4) {
                0 => bytes.insert(at, random.u8(..)),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let doubled = bytes[at..end].to_vec();
                    bytes.splice(at..at, doubled);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << random.u8(..8);
                    }
                }
            }
        }
        bytes
    }

    #[test]
    fn every_target_takes_its_corpus_and_what_is_near_it() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut random = fastrand::Rng::with_seed(7);
        for (name, target) in TARGETS {
            let seeds = fs::read_dir(corpora.join(name)).expect("a corpus");
            let mut paths: Vec<_> = seeds.map(|seed| seed.expect("a seed").path()).collect();
            paths.sort_unstable();
            assert!(paths.len() >= 3, "{name}");
            for path in paths {
                let seed = fs::read(path).expect("a seed");
                target(&seed);
                for _ in 0..VARIANTS {
                    target(&variant(&mut random, &seed));
                }
            }
        }
    }
}
