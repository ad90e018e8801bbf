//! The stored keys as this server knows them: in memory, so that a call needs nothing of the database.
//!
//! They are asked for when calls come, all together, and later those that have changed. Of an idle server the database hears
//! nothing. What is known may be [`STALE`] old, then a call waits for what is new: that bounds how long a key that was revoked
//! elsewhere is still taken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, ToSpan};
use moka::future::Cache;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{self, Instant},
};

use super::{
    Principal,
    api_key::{PresentedKey, SecretHash},
};
use crate::{
    domain::{Error, Result, access::CredentialFault},
    store::{KnownKey, Store},
};

/// The age at which what is known is asked for again, behind the call that finds it.
const OLD: Duration = Duration::from_secs(10);
/// The age at which a call waits for it. The contract's promise is 30 s, of which an answer may take some.
pub(super) const STALE: Duration = Duration::from_secs(22);
/// The least time between two questions for keys that aren't known, which may be new. Whoever makes keys up waits for it, and
/// doesn't become the database's trouble.
const PAUSE: Duration = Duration::from_secs(1);
/// How long, and of how many, it is remembered that they aren't keys: ids are random, so none of them becomes one.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
const MOST_UNKNOWN: u64 = 16_384;
/// How far back it is asked for changes: by so much a row may become visible later than its time says.
const OVERLAP_SECONDS: i64 = 60;
/// How long it isn't told that a key is in use which was told to be.
const TELL_AGAIN: Duration = Duration::from_hours(1);

/// The stored keys. A clone is the same.
#[derive(Clone, Debug)]
pub struct KnownKeys(Arc<KeysState>);

#[derive(Debug)]
struct KeysState {
    store: Store,
    snapshot: Mutex<KeySnapshot>,
    /// The ids that were asked for, and are no key's.
    unknown: Cache<String, ()>,
    /// Whoever asks the database holds it: one question serves all who wait.
    asking: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct KeySnapshot {
    keys: HashMap<String, KnownPrincipal>,
    /// The moment before which it was asked, by this machine's clock.
    asked_at: Option<Instant>,
    /// The same by the database's.
    as_of: Option<Timestamp>,
}

#[derive(Debug)]
struct KnownPrincipal {
    hash: SecretHash,
    principal: Arc<Principal>,
    is_revoked: bool,
    told_at: Option<Instant>,
}

/// A key whose secret was right.
#[derive(Debug)]
pub struct FoundKey {
    /// Whose it is.
    pub principal: Arc<Principal>,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

impl KnownKeys {
    /// The keys of a store, of which nothing is known yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        KnownKeys(Arc::new(KeysState {
            store,
            snapshot: Mutex::default(),
            unknown: Cache::builder()
                .max_capacity(MOST_UNKNOWN)
                .time_to_live(UNKNOWN_FOR)
                .build(),
            asking: AsyncMutex::default(),
        }))
    }

    /// Whose a key is, and whether it was revoked.
    ///
    /// # Errors
    /// [`Error::CredentialsRefused`]; those of the database, where it has to be asked.
    pub async fn find(&self, key: &PresentedKey<'_>) -> Result<FoundKey> {
        self.be_current(STALE).await?;
        if !self.snapshot().keys.contains_key(key.id) {
            self.look_for(key.id).await?;
        }
        let mut snapshot = self.snapshot();
        if snapshot.age().is_none_or(|age| age > OLD) {
            self.ask_behind();
        }
        let unknown = Error::CredentialsRefused(CredentialFault::Unknown);
        let known = snapshot.keys.get_mut(key.id).ok_or_else(|| unknown.clone())?;
        if !known.hash.is(&key.hash) {
            return Err(unknown);
        }
        let found = FoundKey {
            principal: Arc::clone(&known.principal),
            is_revoked: known.is_revoked,
        };
        if !known.is_revoked && known.told_at.is_none_or(|at| at.elapsed() > TELL_AGAIN) {
            known.told_at = Some(Instant::now());
            self.tell_use(key.id.to_owned());
        }
        Ok(found)
    }

    /// Asks for a key that isn't known, together with whoever else does.
    async fn look_for(&self, id: &str) -> Result<()> {
        if self.0.unknown.contains_key(id) {
            return Ok(());
        }
        let began = Instant::now();
        let pause = self.snapshot().age().map(|age| PAUSE.saturating_sub(age));
        time::sleep(pause.unwrap_or_default()).await;
        self.be_current(began.elapsed()).await?;
        if !self.snapshot().keys.contains_key(id) {
            self.0.unknown.insert(id.to_owned(), ()).await;
        }
        Ok(())
    }

    /// Makes the next call ask the database: a key was made or revoked here.
    pub fn forget(&self) {
        self.snapshot().asked_at = None;
    }

    /// Asks the database, unless what is known is younger than that.
    async fn be_current(&self, most: Duration) -> Result<()> {
        if self.snapshot().age().is_some_and(|age| age <= most) {
            return Ok(());
        }
        let _asking = self.0.asking.lock().await;
        // Others may have asked meanwhile.
        if self.snapshot().age().is_some_and(|age| age <= most) {
            return Ok(());
        }
        let (asked_at, since) = (Instant::now(), self.snapshot().as_of);
        let since = since.and_then(|as_of| as_of.checked_sub(OVERLAP_SECONDS.seconds()).ok());
        let changed = self.0.store.known_keys(since).await?;
        self.snapshot().add(changed, asked_at);
        Ok(())
    }

    /// The same behind a call, once at a time.
    fn ask_behind(&self) {
        if self.0.asking.try_lock().is_err() {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.be_current(OLD).await {
                tracing::debug!(%error, "the stored keys could not be asked for");
            }
        });
    }

    fn tell_use(&self, id: String) {
        let store = self.0.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.note_key_use(&id).await {
                tracing::debug!(%error, key = id, "a key's last use could not be noted");
            }
        });
    }

    fn snapshot(&self) -> MutexGuard<'_, KeySnapshot> {
        self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySnapshot {
    fn age(&self) -> Option<Duration> {
        self.asked_at.map(|at| at.elapsed())
    }

    fn add(&mut self, changed: Vec<KnownKey>, asked_at: Instant) {
        for key in changed {
            self.as_of = self.as_of.max(Some(key.as_of));
            let Some(hash) = SecretHash::from_bytes(&key.secret_hash) else {
                continue;
            };
            let principal = Principal {
                name: Arc::from(format!("key:{}", key.id)),
                key_id: Some(Arc::from(key.id.as_str())),
                expires_at: key.expires_at,
                ..Principal::service(&key.tenant, key.scopes)
            };
            let told_at = self.keys.get(&key.id).and_then(|known| known.told_at);
            let known = KnownPrincipal {
                hash,
                principal: Arc::new(principal),
                is_revoked: key.is_revoked,
                told_at,
            };
            self.keys.insert(key.id, known);
        }
        self.asked_at = Some(asked_at);
    }
}
