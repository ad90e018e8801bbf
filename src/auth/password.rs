//! Password hashes: argon2id is written, and other systems' bcrypt hashes are verified as well.

use std::{sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task, time};

use crate::domain::{Error, Result};

/// A refusal takes at least this long, whatever its reason: longer than a bcrypt hash of cost 12 takes to
/// verify on a slow machine, so that the time tells neither an unknown email nor the kind of hash.
const REFUSAL_TIME: Duration = Duration::from_millis(500);

/// Hashes and verifies, off the runtime's threads, and only a few at a time: each takes tens of
/// milliseconds of a core and 19 MiB.
#[derive(Clone, Debug)]
pub struct Passwords {
    permits: Arc<Semaphore>,
}

/// What a verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right.
    Right,
    /// It is right, and its hash should be rewritten as argon2id.
    RightButOld,
    /// It is wrong.
    Wrong,
}

impl Default for Passwords {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            permits: Arc::new(Semaphore::new(threads)),
        }
    }
}

impl Passwords {
    /// The argon2id hash of a password, as a PHC string.
    ///
    /// # Errors
    /// [`Error::Internal`] where hashing fails.
    pub async fn hash(&self, password: String) -> Result<String> {
        self.run(move || hash_now(&password)).await?
    }

    /// Whether the password is the one of the hash. `None` is never right.
    ///
    /// # Errors
    /// [`Error::Internal`] where the work could not be done.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<Verdict> {
        self.run(move || match hash {
            Some(hash) => verify_now(&password, &hash),
            None => {
                // Takes as long as a wrong password.
                let _ = hash_now(&password);
                Verdict::Wrong
            }
        })
        .await
    }

    /// Answers `InvalidCredentials` when [`REFUSAL_TIME`] has passed since `began`.
    pub async fn refuse<T>(&self, began: time::Instant) -> Result<T> {
        time::sleep_until(began + REFUSAL_TIME).await;
        Err(Error::InvalidCredentials)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        // The semaphore is never closed, and the work doesn't panic: both errors are for the log.
        let _permit = self.permits.acquire().await.map_err(internal)?;
        task::spawn_blocking(work).await.map_err(internal)
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    tracing::error!(%error, "password hashing failed");
    Error::Internal
}

fn hash_now(password: &str) -> Result<String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(internal)
}

fn verify_now(password: &str, hash: &str) -> Verdict {
    if hash.starts_with("$2") {
        return match bcrypt::verify(password, hash) {
            Ok(true) => Verdict::RightButOld,
            _ => Verdict::Wrong,
        };
    }
    let right = PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    });
    if right { Verdict::Right } else { Verdict::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_of_both_kinds_are_verified() {
        let passwords = Passwords::default();
        let argon = passwords.hash("correct horse".into()).await.expect("hash");
        assert!(argon.starts_with("$argon2id$"));
        let bcrypt = bcrypt::hash("correct horse", 4).expect("bcrypt");
        for (password, hash, verdict) in [
            ("correct horse", Some(&argon), Verdict::Right),
            ("battery staple", Some(&argon), Verdict::Wrong),
            ("correct horse", Some(&bcrypt), Verdict::RightButOld),
            ("battery staple", Some(&bcrypt), Verdict::Wrong),
            ("correct horse", Some(&"plain".to_owned()), Verdict::Wrong),
            ("correct horse", None, Verdict::Wrong),
        ] {
            let found = passwords.verify(password.into(), hash.cloned()).await;
            assert_eq!(found.expect("verified"), verdict, "{password} {hash:?}");
        }
    }
}
