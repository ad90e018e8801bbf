//! The rates: what each caller and tenant may do in a time and at a time, by the operator's file (`--limits-file`).
//!
//! The server's own limits ([`memory`](crate::memory), [`fair`](crate::fair)) keep it alive, and share what there is. These
//! are what an operator grants: so many calls a second, so many at a time, so many attempts at a password, so much stored.
//! Everything is counted in memory, by each server for itself.

mod accounts;
mod logins;
mod settings;
mod storage;

use std::sync::Arc;

pub use accounts::RateLease;
pub use logins::{LoginAttempt, Logins};
pub use settings::{CallLimits, LoginLimits, RateSettings, StorageAmounts, StorageSettings, TenantStorage};

pub use storage::{StorageLease, StorageQuotas};

use accounts::{Accounts, Counted, Owner};

use crate::{
    domain::Result,
    watched::{FlagFile, Looks, Watched},
};

/// Who makes a call, and which.
#[derive(Clone, Debug)]
pub struct RateKey<'a> {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The caller within the tenant, by a name that nobody else has, such as `key:ID` or `user:UUID`.
    pub caller: Arc<str>,
    /// The method, such as `AppendMessage`.
    pub method: &'a str,
    /// Whether it is a stream.
    pub is_stream: bool,
}

/// The limits, and what is counted for them. A clone is the same.
#[derive(Clone, Debug)]
pub struct RateLimits {
    settings: Watched<RateSettings>,
    accounts: Arc<Accounts>,
    logins: Logins,
    storage: StorageQuotas,
}

impl Default for RateLimits {
    /// No limits.
    fn default() -> Self {
        RateLimits::new(Watched::fixed(RateSettings::default()))
    }
}

impl RateLimits {
    /// The limits of these settings, as they are at each call.
    #[must_use]
    pub fn new(settings: Watched<RateSettings>) -> Self {
        RateLimits {
            logins: Logins::new(settings.clone()),
            storage: StorageQuotas::new(settings.clone()),
            settings,
            accounts: Arc::default(),
        }
    }

    /// The limits of a file, which is looked at again when `looks` says so.
    ///
    /// # Errors
    /// The file can't be used: the error names its flag.
    pub fn open(file: FlagFile, looks: &Looks) -> anyhow::Result<Self> {
        Watched::open_text(file, looks, RateSettings::parse).map(RateLimits::new)
    }

    /// Lets a call begin; it is counted until the result is dropped.
    ///
    /// # Errors
    /// [`RateLimited`](crate::domain::Error::RateLimited), by the narrowest limit that is reached: what a caller may not do
    /// takes nothing of its tenant's.
    pub fn admit(&self, key: &RateKey<'_>) -> Result<RateLease> {
        let settings = self.settings.get();
        let mut lease = RateLease::default();
        if let Some((method, limits)) = settings.methods.get_key_value(key.method) {
            let owner = Owner::Method(Arc::clone(&key.tenant), Arc::clone(&key.caller), method.clone());
            lease.add(&self.accounts, owner, limits);
        }
        let caller = Owner::Caller(Arc::clone(&key.tenant), Arc::clone(&key.caller));
        lease.add(&self.accounts, caller, &settings.caller);
        let tenant = Owner::Tenant(Arc::clone(&key.tenant));
        lease.add(&self.accounts, tenant, settings.of_tenant(&key.tenant));
        let what = if key.is_stream {
            Counted::Streams
        } else {
            Counted::Requests
        };
        lease.count(what, 1)?;
        lease.take_tokens()?;
        Ok(lease)
    }

    /// How much tenants may store.
    #[must_use]
    pub fn storage(&self) -> &StorageQuotas {
        &self.storage
    }

    /// How often passwords may be tried.
    #[must_use]
    pub fn logins(&self) -> &Logins {
        &self.logins
    }
}
