//! Sign-in by email and password: who may, and what a refusal tells.
//!
//! A refusal has one answer and takes one time, whatever its reason: no such email, no password, a wrong one, or a user
//! who may not sign in. So nobody finds out by it which emails there are. A right password whose hash is another
//! system's is hashed anew, as argon2id.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{PasswordVerdict, Passwords};
use crate::domain::{Error, Result, user::User};

/// A refusal takes at least this long from when its work begins, whatever its reason: several times what a bcrypt
/// hash of cost 12 takes to verify (a quarter of a second), so that also on a busy machine the time tells neither an
/// unknown email nor the kind of hash. The wait before that is the same for all kinds.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// The user who has signed in.
#[derive(Debug)]
pub struct SignIn {
    /// The user.
    pub user: User,
    /// The hash to store from now on, where the stored one is another system's.
    pub renewal: Option<HashRenewal>,
}

/// A stored hash, and one of the same password that replaces it.
#[derive(Debug)]
pub struct HashRenewal {
    /// The stored one.
    pub old: String,
    /// The argon2id hash.
    pub new: String,
}

/// Whether a user can have this email. PostgreSQL takes no NUL, so an email with one is refused like any that is unknown,
/// without being looked up.
#[must_use]
pub fn may_be_stored(email: &str) -> bool {
    !email.contains('\0')
}

impl Passwords {
    /// Signs in the user whom an email has found, with the hash that is stored; `None`: there is none.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], not before [`REFUSAL_TIME`]; [`Error::Internal`] where the work could not be done;
    /// [`Error::Overloaded`] where too many wait.
    pub async fn sign_in(
        &self,
        user: Option<User>,
        hash: Option<String>,
        password: String,
    ) -> Result<SignIn> {
        let (verdict, began) = self.verify(password.clone(), hash.clone()).await?;
        let user = match user {
            Some(user) if verdict != PasswordVerdict::Wrong && user.is_active => user,
            _ => return refuse(began).await,
        };
        let renewal = match (verdict, hash) {
            (PasswordVerdict::RightButOld, Some(old)) => Some(HashRenewal {
                old,
                new: self.hash(password).await?,
            }),
            _ => None,
        };
        Ok(SignIn { user, renewal })
    }
}

/// Answers [`Error::InvalidCredentials`] when [`REFUSAL_TIME`] has passed since `began`.
async fn refuse<T>(began: Instant) -> Result<T> {
    time::sleep_until(began + REFUSAL_TIME).await;
    Err(Error::InvalidCredentials)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn ada(is_active: bool) -> User {
        User {
            id: Uuid::from_u128(1),
            email: "ada@example.com".to_owned(),
            external_id: None,
            name: String::new(),
            is_active,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn every_refusal_has_one_answer_and_takes_one_time() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.expect("a hash");
        for (user, hash, password) in [
            (None, None, "correct horse"),
            (Some(ada(true)), None, "correct horse"),
            (Some(ada(true)), Some(hash.clone()), "battery staple"),
            (Some(ada(false)), Some(hash.clone()), "correct horse"),
        ] {
            let began = Instant::now();
            let refused = passwords.sign_in(user, hash, password.into()).await;
            assert!(matches!(refused, Err(Error::InvalidCredentials)), "{refused:?}");
            assert!(began.elapsed() >= REFUSAL_TIME, "{:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn only_the_hash_of_another_system_is_renewed() {
        let passwords = Passwords::default();
        let own = passwords.hash("correct horse".into()).await.expect("a hash");
        let sign_in = passwords.sign_in(Some(ada(true)), Some(own), "correct horse".into());
        assert!(sign_in.await.expect("the right password").renewal.is_none());
        let foreign = bcrypt::hash("correct horse", 4).expect("bcrypt");
        let sign_in = passwords.sign_in(Some(ada(true)), Some(foreign.clone()), "correct horse".into());
        let renewal = sign_in
            .await
            .expect("the right password")
            .renewal
            .expect("a renewal");
        assert_eq!(renewal.old, foreign);
        assert!(renewal.new.starts_with("$argon2id$"), "{}", renewal.new);
    }
}
