//! The accounts: what each caller and tenant is doing, and how many calls it may begin.

use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use super::settings::CallLimits;
use crate::domain::{Error, Result};

/// As many accounts are kept before it is looked for the first time which aren't needed any more: some hundred KiB.
const FIRST_SWEEP: usize = 1024;
/// How long a caller waits that has as much under way as it may: how long its own calls take isn't known.
const WAIT_FOR_OWN: Duration = Duration::from_secs(1);

/// Whose account it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A tenant's.
    Tenant(Arc<str>),
    /// A caller's, who is of a tenant.
    Caller(Arc<str>, Arc<str>),
    /// The same caller's, in one method.
    Method(Arc<str>, Arc<str>, String),
}

impl Owner {
    /// The name of its limits in the file.
    fn name(&self) -> String {
        match self {
            Owner::Tenant(_) => "tenant".to_owned(),
            Owner::Caller(..) => "caller".to_owned(),
            Owner::Method(_, _, method) => format!("methods.{method}"),
        }
    }
}

/// What one owner is doing.
#[derive(Debug, Default)]
pub(super) struct Account {
    requests: AtomicU64,
    streams: AtomicU64,
    bytes: AtomicU64,
    bucket: Mutex<Option<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    quota: Quota,
    limiter: DefaultDirectRateLimiter,
    used_at: Instant,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        Bucket {
            quota,
            limiter: RateLimiter::direct(quota),
            used_at: Instant::now(),
        }
    }

    /// Takes a token, or says when there will be one.
    fn take(&mut self) -> Result<(), Duration> {
        self.used_at = Instant::now();
        let taken = self.limiter.check();
        taken.map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    fn is_full(&self) -> bool {
        self.used_at.elapsed() >= self.quota.burst_size_replenished_in()
    }
}

impl Account {
    fn bucket(&self) -> MutexGuard<'_, Option<Bucket>> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token. A bucket of other settings is replaced by a full one.
    fn take_token(&self, quota: Quota) -> Result<(), Duration> {
        let mut bucket = self.bucket();
        match &mut *bucket {
            Some(bucket) if bucket.quota == quota => bucket.take(),
            other => other.insert(Bucket::new(quota)).take(),
        }
    }

    fn is_idle(&self) -> bool {
        self.bucket().as_ref().is_none_or(Bucket::is_full)
    }

    fn counter(&self, what: Counted) -> &AtomicU64 {
        match what {
            Counted::Requests => &self.requests,
            Counted::Streams => &self.streams,
            Counted::Bytes => &self.bytes,
        }
    }
}

/// What is counted while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Requests,
    Streams,
    Bytes,
}

impl Counted {
    fn name(self) -> &'static str {
        match self {
            Counted::Requests => "concurrent_requests",
            Counted::Streams => "concurrent_streams",
            Counted::Bytes => "in_flight_bytes",
        }
    }

    fn most(self, limits: &CallLimits) -> Option<u64> {
        let calls = match self {
            Counted::Requests => limits.concurrent_requests,
            Counted::Streams => limits.concurrent_streams,
            Counted::Bytes => return limits.in_flight_bytes.map(NonZeroU64::get),
        };
        calls.map(NonZeroU32::get).map(u64::from)
    }
}

/// All accounts. Those of who does nothing, and could begin as many calls as ever, are forgotten.
#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<AccountTable>);

#[derive(Debug, Default)]
struct AccountTable {
    accounts: HashMap<Owner, Arc<Account>>,
    /// How many there are when it is looked again which aren't needed.
    sweep_at: usize,
}

impl Accounts {
    /// The account of an owner.
    pub(super) fn of(&self, owner: &Owner) -> Arc<Account> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = table.accounts.get(owner) {
            return Arc::clone(account);
        }
        if table.accounts.len() >= table.sweep_at.max(FIRST_SWEEP) {
            // Nobody has it but this table, and nobody gets it meanwhile.
            table
                .accounts
                .retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle());
            // So that this is done once for as many as are added.
            table.sweep_at = table.accounts.len() * 2;
        }
        let account = Arc::default();
        table.accounts.insert(owner.clone(), Arc::clone(&account));
        account
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().expect("no panic").accounts.len()
    }
}

/// What is counted of a call on one account, until this is dropped.
#[derive(Debug)]
struct Share {
    account: Arc<Account>,
    what: Counted,
    amount: u64,
}

impl Share {
    /// Counts an amount, where that isn't too much. One that is too much by itself is let pass alone.
    fn take(account: &Arc<Account>, what: Counted, amount: u64, most: u64) -> Option<Share> {
        let before = account.counter(what).fetch_add(amount, Ordering::Relaxed);
        let share = Share {
            account: Arc::clone(account),
            what,
            amount,
        };
        (before == 0 || before + amount <= most).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let counter = self.account.counter(self.what);
        counter.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// A call that may go on, as it is counted until this is dropped.
#[derive(Debug, Default)]
pub struct RateLease {
    owners: Vec<(Owner, Arc<Account>, CallLimits)>,
    shares: Vec<Share>,
}

impl RateLease {
    /// Adds an owner whose limits count for the call.
    pub(super) fn add(&mut self, accounts: &Accounts, owner: Owner, limits: &CallLimits) {
        if limits.has_any() {
            let account = accounts.of(&owner);
            self.owners.push((owner, account, *limits));
        }
    }

    /// Counts an amount for all owners.
    pub(super) fn count(&mut self, what: Counted, amount: u64) -> Result<()> {
        for (owner, account, limits) in &self.owners {
            let Some(most) = what.most(limits) else {
                continue;
            };
            match Share::take(account, what, amount, most) {
                Some(share) => self.shares.push(share),
                None => return Err(refusal(owner, what.name(), most, WAIT_FOR_OWN)),
            }
        }
        Ok(())
    }

    /// Takes a token of each owner, in the order in which they were added.
    pub(super) fn take_tokens(&self) -> Result<()> {
        for (owner, account, limits) in &self.owners {
            let Some(quota) = limits.quota() else {
                continue;
            };
            let taken = account.take_token(quota);
            taken.map_err(|retry_after| {
                let most = u64::from(quota.burst_size().get());
                refusal(owner, "requests_per_second", most, retry_after)
            })?;
        }
        Ok(())
    }

    /// Counts the bytes of memory that the call's request takes.
    ///
    /// # Errors
    /// [`Error::RateLimited`]: too many are under way.
    pub fn hold(&mut self, bytes: usize) -> Result<()> {
        self.count(Counted::Bytes, bytes as u64)
    }
}

fn refusal(owner: &Owner, what: &str, most: u64, retry_after: Duration) -> Error {
    Error::RateLimited {
        limit: format!("{}.{what}", owner.name()),
        most,
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Owner {
        Owner::Caller(Arc::from("default"), Arc::from(name))
    }

    fn limits(change: impl FnOnce(&mut CallLimits)) -> CallLimits {
        let mut limits = CallLimits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn what_is_under_way_is_counted_until_it_ends() {
        let accounts = Accounts::default();
        let limits = limits(|limits| limits.in_flight_bytes = NonZeroU64::new(100));
        let lease = || {
            let mut lease = RateLease::default();
            lease.add(&accounts, caller("a"), &limits);
            lease
        };
        let (mut first, mut second) = (lease(), lease());
        first.hold(60).expect("room");
        second.hold(60).expect_err("no room");
        drop(second);
        lease().hold(40).expect("what was refused isn't counted");
        drop(first);
        lease().hold(400).expect("alone");
    }

    #[test]
    fn tokens_are_taken_and_come_back() {
        let accounts = Accounts::default();
        let limits = limits(|limits| {
            limits.requests_per_second = NonZeroU32::new(100);
            limits.burst = NonZeroU32::new(2);
        });
        let begin = |name: &str| {
            let mut lease = RateLease::default();
            lease.add(&accounts, caller(name), &limits);
            lease.take_tokens()
        };
        begin("a").and_then(|()| begin("a")).expect("tokens");
        let refused = begin("a").expect_err("none left");
        let Error::RateLimited {
            limit,
            most,
            retry_after,
        } = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!((limit.as_str(), most), ("caller.requests_per_second", 2));
        assert!(retry_after <= Duration::from_millis(10), "{retry_after:?}");
        begin("b").expect("another caller has its own");
        std::thread::sleep(retry_after);
        begin("a").expect("there is one again");
    }

    #[test]
    fn accounts_of_who_does_nothing_are_forgotten() {
        let accounts = Accounts::default();
        let held = accounts.of(&caller("held"));
        held.take_token(Quota::per_hour(NonZeroU32::MIN))
            .expect("a token");
        let busy = accounts.of(&caller("busy"));
        for number in 0..10 * FIRST_SWEEP {
            accounts.of(&caller(&number.to_string()));
        }
        drop(held);
        assert!(accounts.len() <= 2 * FIRST_SWEEP, "{}", accounts.len());
        let again = accounts.of(&caller("held"));
        again
            .take_token(Quota::per_hour(NonZeroU32::MIN))
            .expect_err("it wasn't forgotten");
        assert!(Arc::ptr_eq(&busy, &accounts.of(&caller("busy"))));
    }
}
