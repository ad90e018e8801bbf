//! Storage quotas: how much a tenant has, counted now and then, and what this server has let in since.
//!
//! Nothing is counted for its own sake: a tenant that stores nothing is not looked at, so that an idle server asks its
//! database nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::settings::{RateSettings, StorageAmounts};
use crate::{
    auth::Caller,
    domain::{Error, Result, usage::StoredAmounts},
    store::Store,
    watched::Watched,
};

/// How often the same tenant is warned of.
const WARN_AGAIN: Duration = Duration::from_hours(1);
/// A count is good for as many times as long as it took, so that counting takes a hundredth of the time at most.
const SHARE_OF_TIME: u32 = 100;
/// The longest that a count may take: some ten million sessions do.
const COUNT_WITHIN: Duration = Duration::from_mins(1);

/// What tenants have stored, and may. A clone is the same.
#[derive(Clone, Debug)]
pub struct StorageQuotas {
    settings: Watched<RateSettings>,
    tenants: Arc<Mutex<HashMap<Arc<str>, TenantUsage>>>,
}

/// What is known of a tenant.
#[derive(Debug, Default)]
struct TenantUsage {
    /// What the last count has found; `None`: there was none yet.
    counted: Option<StoredAmounts>,
    /// What has been let in and is on its way.
    in_flight: StoredAmounts,
    /// What has been on its way and isn't any more, since before the last count began.
    settled: StoredAmounts,
    /// The end of the time for which the count is good.
    good_until: Option<Instant>,
    warned_at: Option<Instant>,
    /// Held by who counts.
    counting: Arc<tokio::sync::Mutex<()>>,
}

/// What a tenant was let store, and is on its way into the tables until this is dropped.
#[derive(Debug)]
pub struct StorageLease {
    quotas: StorageQuotas,
    tenant: Arc<str>,
    adding: StoredAmounts,
}

impl Drop for StorageLease {
    fn drop(&mut self) {
        let mut tenants = self.quotas.tenants();
        let usage = tenants.entry(Arc::clone(&self.tenant)).or_default();
        usage.in_flight = usage.in_flight - self.adding;
        usage.settled = usage.settled + self.adding;
    }
}

impl StorageQuotas {
    pub(super) fn new(settings: Watched<RateSettings>) -> Self {
        StorageQuotas {
            settings,
            tenants: Arc::default(),
        }
    }

    /// Lets a tenant store something. The first time it is counted what the tenant has; later on that is done beside.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub async fn admit(
        &self,
        store: &Store,
        tenant: &Arc<str>,
        adding: StoredAmounts,
    ) -> Result<Option<StorageLease>> {
        let settings = self.settings.get();
        let (soft, hard) = settings.storage_of(tenant);
        if soft == StorageAmounts::default() && hard == StorageAmounts::default() {
            return Ok(None);
        }
        let (counting, is_known, is_good) = {
            let mut tenants = self.tenants();
            let usage = tenants.entry(Arc::clone(tenant)).or_default();
            let is_good = usage.good_until.is_some_and(|until| Instant::now() < until);
            (Arc::clone(&usage.counting), usage.good_until.is_some(), is_good)
        };
        let every = settings.storage.count_every;
        if !is_known {
            let _turn = counting.lock().await;
            // Somebody else has counted meanwhile.
            if self.good_until(tenant).is_none() {
                self.count(store, tenant, every).await;
            }
        } else if !is_good && let Ok(turn) = counting.try_lock_owned() {
            let (quotas, store, tenant) = (self.clone(), store.clone(), Arc::clone(tenant));
            tokio::spawn(async move {
                quotas.count(&store, &tenant, every).await;
                drop(turn);
            });
        }
        self.add(tenant, adding, soft, hard)?;
        Ok(Some(StorageLease {
            quotas: self.clone(),
            tenant: Arc::clone(tenant),
            adding,
        }))
    }

    /// Adds what is let in, where that isn't too much.
    fn add(
        &self,
        tenant: &Arc<str>,
        adding: StoredAmounts,
        soft: StorageAmounts,
        hard: StorageAmounts,
    ) -> Result<()> {
        let mut tenants = self.tenants();
        let usage = tenants.entry(Arc::clone(tenant)).or_default();
        let then = usage.counted.unwrap_or_default() + usage.settled + usage.in_flight + adding;
        if let Some(limit) = first_beyond(then, adding, hard) {
            return Err(Error::QuotaExceeded { limit });
        }
        usage.in_flight = usage.in_flight + adding;
        if let Some(limit) = first_beyond(then, adding, soft)
            && usage.warned_at.is_none_or(|at| at.elapsed() >= WARN_AGAIN)
        {
            usage.warned_at = Some(Instant::now());
            tracing::warn!(%tenant, limit, "a tenant has stored more than its soft quota");
        }
        Ok(())
    }

    async fn count(&self, store: &Store, tenant: &Arc<str>, every: Duration) {
        let began = Instant::now();
        let before = self.tenants().entry(Arc::clone(tenant)).or_default().settled;
        let caller = Caller {
            deadline: Some(began + COUNT_WITHIN),
            ..Caller::server(tenant)
        };
        let counted = store.stored_amounts(&caller).await;
        let mut tenants = self.tenants();
        let usage = tenants.entry(Arc::clone(tenant)).or_default();
        let took = began.elapsed();
        usage.good_until = Some(Instant::now() + every.max(took.saturating_mul(SHARE_OF_TIME)));
        match counted {
            Ok(counted) => {
                usage.counted = Some(counted);
                // What had settled before it began is in it. What was on its way may be, and counts twice until the next count.
                usage.settled = usage.settled - before;
            }
            // What was known stays; where the database is away, nothing is stored either.
            Err(error) => tracing::warn!(%tenant, %error, "what a tenant has stored could not be counted"),
        }
    }

    fn good_until(&self, tenant: &str) -> Option<Instant> {
        self.tenants().get(tenant).and_then(|usage| usage.good_until)
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Arc<str>, TenantUsage>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first limit that an amount is beyond, of those to which something is added.
fn first_beyond(then: StoredAmounts, adding: StoredAmounts, most: StorageAmounts) -> Option<&'static str> {
    let is_beyond =
        |adding: u64, then: u64, most: Option<u64>| adding > 0 && most.is_some_and(|most| then > most);
    if is_beyond(adding.sessions, then.sessions, most.sessions) {
        Some("storage.sessions")
    } else if is_beyond(adding.messages, then.messages, most.messages) {
        Some("storage.messages")
    } else if is_beyond(adding.bytes, then.bytes, most.bytes) {
        Some("storage.bytes")
    } else {
        None
    }
}
