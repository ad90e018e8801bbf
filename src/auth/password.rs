//! Password hashes: argon2id is written, and other systems' bcrypt hashes are verified as well.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task, time};

use crate::domain::{Error, Result, Shortage};

/// The most passwords that wait for each that is worked on: with 50 ms each, the last waits for some seconds.
const WAITING_FOR_EACH: usize = 64;

/// The most that a stored argon2 hash may ask for, in KiB, passes and lanes; argon2-cffi's default is 65,536, 3 and 4.
/// One that asks for more, whoever wrote it, would take the server's memory or a core for seconds.
const MAX_ARGON2: (u32, u32, u32) = (65_536, 10, 16);
/// The highest cost of a stored bcrypt hash: a second of a core.
const MAX_BCRYPT_COST: u32 = 14;

/// Hashes and verifies, off the runtime's threads, and only a few at a time: each takes tens of
/// milliseconds of a core and 19 MiB.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Permits of those at work. One goes with the work, which goes on when its caller leaves.
    permits: Arc<Semaphore>,
    /// Places of those at work and those that wait.
    places: Arc<Semaphore>,
}

/// The result of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordVerdict {
    /// The password is right.
    Right,
    /// The password is right, and its hash should be rewritten as argon2id.
    RightButOld,
    /// The password is wrong.
    Wrong,
}

impl Default for Passwords {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            permits: Arc::new(Semaphore::new(threads)),
            places: Arc::new(Semaphore::new(threads * (1 + WAITING_FOR_EACH))),
        }
    }
}

impl Passwords {
    /// The argon2id hash of a password, as a PHC string.
    ///
    /// # Errors
    /// [`Error::Internal`] where hashing fails; [`Error::Overloaded`] where too many wait.
    pub async fn hash(&self, password: String) -> Result<String> {
        self.run(move || hash_now(&password)).await?.0
    }

    /// Whether the password is the one of the hash, and when the work on that began. `None` is never right.
    ///
    /// # Errors
    /// [`Error::Internal`] where the work could not be done; [`Error::Overloaded`] where too many wait.
    pub async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<(PasswordVerdict, time::Instant)> {
        self.run(move || match hash {
            Some(hash) => verify_now(&password, &hash),
            None => {
                // Takes as long as a wrong password.
                let _ = hash_now(&password);
                PasswordVerdict::Wrong
            }
        })
        .await
    }

    /// Does the work when its turn has come, and says when that was.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, time::Instant)> {
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| Error::Overloaded(Shortage::Passwords))?;
        // The semaphore is never closed, and the work doesn't panic: both errors are for the log.
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(internal)?;
        let began = time::Instant::now();
        let worked = task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        Ok((worked.await.map_err(internal)?, began))
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

/// Whether a stored hash asks for no more work and memory than this server gives it.
#[must_use]
pub fn is_affordable(hash: &str) -> bool {
    if hash.starts_with("$2") {
        // $2b$12$...
        let cost = hash.split('$').nth(2).and_then(|cost| cost.parse::<u32>().ok());
        return cost.is_none_or(|cost| cost <= MAX_BCRYPT_COST);
    }
    let Ok(hash) = PasswordHash::new(hash) else {
        return true;
    };
    let (memory, passes, lanes) = MAX_ARGON2;
    [("m", memory), ("t", passes), ("p", lanes)]
        .into_iter()
        .all(|(name, most)| hash.params.get_decimal(name).is_none_or(|asked| asked <= most))
}

fn verify_now(password: &str, hash: &str) -> PasswordVerdict {
    if !is_affordable(hash) {
        tracing::warn!("a stored password hash asks for more work than is allowed; it is taken for wrong");
        let _ = hash_now(password);
        return PasswordVerdict::Wrong;
    }
    if hash.starts_with("$2") {
        return match bcrypt::verify(password, hash) {
            Ok(true) => PasswordVerdict::RightButOld,
            _ => PasswordVerdict::Wrong,
        };
    }
    let right = PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    });
    if right {
        PasswordVerdict::Right
    } else {
        PasswordVerdict::Wrong
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn hashes_of_both_kinds_are_verified() {
        let passwords = Passwords::default();
        let argon = passwords.hash("correct horse".into()).await.expect("hash");
        assert!(argon.starts_with("$argon2id$"));
        let bcrypt = bcrypt::hash("correct horse", 4).expect("bcrypt");
        for (password, hash, verdict) in [
            ("correct horse", Some(&argon), PasswordVerdict::Right),
            ("battery staple", Some(&argon), PasswordVerdict::Wrong),
            ("correct horse", Some(&bcrypt), PasswordVerdict::RightButOld),
            ("battery staple", Some(&bcrypt), PasswordVerdict::Wrong),
            ("correct horse", Some(&"plain".to_owned()), PasswordVerdict::Wrong),
            ("correct horse", None, PasswordVerdict::Wrong),
        ] {
            let found = passwords.verify(password.into(), hash.cloned()).await;
            assert_eq!(found.expect("verified").0, verdict, "{password} {hash:?}");
        }
    }

    #[test]
    fn hashes_that_ask_for_too_much_are_not_computed() {
        for (hash, affordable) in [
            (
                "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                true,
            ),
            (
                "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                true,
            ),
            (
                "$argon2id$v=19$m=4194304,t=3,p=4$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                false,
            ),
            (
                "$argon2id$v=19$m=4096,t=4000000,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                false,
            ),
            (
                "$argon2i$v=19$m=4096,t=3,p=255$c29tZXNhbHQ$aGFzaGhhc2hoYXNo",
                false,
            ),
            ("$2b$12$abc", true),
            (
                "$2b$31$abcdefghijklmnopqrstuuxyzabcdefghijklmnopqrstuvwxyzabcdef",
                false,
            ),
        ] {
            assert_eq!(is_affordable(hash), affordable, "{hash}");
        }
        let costly = "$2b$31$abcdefghijklmnopqrstuuxyzabcdefghijklmnopqrstuvwxyzabcdef";
        assert_eq!(verify_now("x", costly), PasswordVerdict::Wrong);
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_leaves_and_so_does_its_permit() {
        let passwords = Passwords::default();
        let all = passwords.permits.available_permits();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let work = passwords.run(move || ended.recv());
        // Polled once, and dropped while it works.
        assert!(time::timeout(Duration::ZERO, work).await.is_err());
        assert_eq!(passwords.permits.available_permits(), all - 1);
        drop(end);
        let back = Arc::clone(&passwords.permits).acquire_many_owned(u32::try_from(all).expect("few"));
        assert!(back.await.is_ok());
    }
}
