//! Attempts at passwords: after some that were wrong, the next has to wait, each time twice as long.
//!
//! An attempt counts as wrong from its beginning, until it turns out to be right: many at a time are no more than one after
//! the other, and who goes away without waiting for the answer has tried as well. An account is the email that was given,
//! whether somebody has it or not, so that nothing here tells which emails there are.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::settings::{LoginLimits, RateSettings};
use crate::{
    domain::{Error, Result},
    watched::Watched,
};

/// The most accounts and addresses that are remembered, of each: two MiB or so. Each wrong attempt costs a second and the
/// hash of a password, so that to fill this takes hours; then those with the fewest attempts are forgotten.
const MOST_REMEMBERED: usize = 1 << 15;
/// The most doublings: beyond, the longest delay is reached with any settings.
const MOST_DOUBLINGS: u32 = 32;

/// The attempts of all accounts and addresses. A clone is the same.
#[derive(Clone, Debug)]
pub struct Logins {
    settings: Watched<RateSettings>,
    table: Arc<Mutex<AttemptTable>>,
    /// A hash that nobody else can compute: emails aren't kept.
    hash: RandomState,
}

#[derive(Debug, Default)]
struct AttemptTable {
    accounts: HashMap<u64, Attempts>,
    peers: HashMap<u64, Attempts>,
}

/// The attempts of one account or address that weren't right.
#[derive(Clone, Copy, Debug)]
struct Attempts {
    count: u32,
    last_at: Instant,
    /// The moment before which there is no other.
    wait_until: Instant,
}

/// An attempt that has begun. It counts as wrong, unless it is said that it isn't.
#[derive(Debug)]
pub struct LoginAttempt {
    logins: Option<Logins>,
    account: u64,
    peer: Option<u64>,
}

impl Logins {
    pub(super) fn new(settings: Watched<RateSettings>) -> Self {
        Logins {
            settings,
            table: Arc::default(),
            hash: RandomState::new(),
        }
    }

    /// Lets an attempt begin.
    ///
    /// # Errors
    /// [`Error::RateLimited`]: the account or the address has to wait.
    pub fn begin(&self, tenant: &str, email: &str, peer: Option<IpAddr>) -> Result<LoginAttempt> {
        let settings = self.settings.get();
        let Some(limits) = &settings.logins else {
            return Ok(LoginAttempt {
                logins: None,
                account: 0,
                peer: None,
            });
        };
        let account = self.hash.hash_one((tenant, folded(email)));
        let peer = peer.map(|peer| self.hash.hash_one(network(peer)));
        let peer = peer.filter(|_| limits.free_by_peer.is_some());
        let now = Instant::now();
        let mut table = self.table();
        let AttemptTable { accounts, peers } = &mut *table;
        check(
            accounts,
            account,
            now,
            limits,
            "logins.account",
            limits.free_by_account,
        )?;
        if let (Some(peer), Some(free)) = (peer, limits.free_by_peer) {
            check(peers, peer, now, limits, "logins.peer", free)?;
            note(peers, peer, now, limits, free);
        }
        note(accounts, account, now, limits, limits.free_by_account);
        Ok(LoginAttempt {
            logins: Some(self.clone()),
            account,
            peer,
        })
    }

    fn table(&self) -> MutexGuard<'_, AttemptTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoginAttempt {
    /// Tells what came of it.
    pub fn settle<T>(self, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.succeeded(),
            Err(Error::InvalidCredentials) => {}
            Err(_) => self.undo(),
        }
    }

    /// The password was right: the account begins anew, and nothing is held against the address.
    fn succeeded(self) {
        let Some(logins) = &self.logins else { return };
        let mut table = logins.table();
        table.accounts.remove(&self.account);
        take_back(&mut table.peers, self.peer);
    }

    /// It wasn't found out whether it was right.
    fn undo(self) {
        let Some(logins) = &self.logins else { return };
        let mut table = logins.table();
        take_back(&mut table.accounts, Some(self.account));
        take_back(&mut table.peers, self.peer);
    }
}

/// An email as the database compares it: each letter's first lower-case form, as PostgreSQL's `lower` has at least.
fn folded(email: &str) -> String {
    email.chars().filter_map(|c| c.to_lowercase().next()).collect()
}

/// An address, or the network that one customer of a provider has of IPv6: the first 64 bits.
fn network(peer: IpAddr) -> u128 {
    match peer.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64,
    }
}

/// Refuses an attempt that comes too early.
fn check(
    of: &mut HashMap<u64, Attempts>,
    key: u64,
    now: Instant,
    limits: &LoginLimits,
    limit: &str,
    free: u32,
) -> Result<()> {
    let Some(attempts) = of.get(&key) else {
        return Ok(());
    };
    if now >= attempts.wait_until.max(attempts.last_at + limits.forget_after) {
        of.remove(&key);
        return Ok(());
    }
    if now < attempts.wait_until {
        return Err(Error::RateLimited {
            limit: limit.to_owned(),
            most: u64::from(free),
            retry_after: attempts.wait_until - now,
        });
    }
    Ok(())
}

/// Counts an attempt.
fn note(of: &mut HashMap<u64, Attempts>, key: u64, now: Instant, limits: &LoginLimits, free: u32) {
    if of.len() >= MOST_REMEMBERED && !of.contains_key(&key) {
        forget_half(of);
    }
    let attempts = of.entry(key).or_insert(Attempts {
        count: 0,
        last_at: now,
        wait_until: now,
    });
    attempts.count = attempts.count.saturating_add(1);
    attempts.last_at = now;
    // The last free one has the first delay behind it.
    if let Some(beyond) = attempts.count.checked_sub(free.max(1)) {
        attempts.wait_until = now + delay(limits, beyond);
    }
}

fn delay(limits: &LoginLimits, beyond: u32) -> Duration {
    let doubled = limits
        .first_delay
        .saturating_mul(1 << beyond.min(MOST_DOUBLINGS - 1));
    doubled.min(limits.longest_delay)
}

fn take_back(of: &mut HashMap<u64, Attempts>, key: Option<u64>) {
    let Some(key) = key else { return };
    if let Some(attempts) = of.get_mut(&key) {
        attempts.count = attempts.count.saturating_sub(1);
        attempts.wait_until = attempts.last_at;
        if attempts.count == 0 {
            of.remove(&key);
        }
    }
}

/// Forgets half of them: those with the fewest attempts, and of these the oldest.
fn forget_half(of: &mut HashMap<u64, Attempts>) {
    let mut ranked: Vec<_> = of
        .iter()
        .map(|(key, attempts)| (attempts.count, attempts.last_at, *key))
        .collect();
    let middle = ranked.len() / 2;
    ranked.select_nth_unstable(middle);
    for (_, _, key) in &ranked[..middle] {
        of.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    fn logins(change: impl FnOnce(&mut LoginLimits)) -> Logins {
        let mut limits = LoginLimits::default();
        change(&mut limits);
        Logins::new(Watched::fixed(RateSettings {
            logins: Some(limits),
            ..RateSettings::default()
        }))
    }

    fn wait(refused: Result<LoginAttempt>) -> (String, Duration) {
        match refused {
            Err(Error::RateLimited {
                limit, retry_after, ..
            }) => (limit, retry_after),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delays_grow_and_a_success_ends_them() {
        let logins = logins(|limits| limits.free_by_account = 3);
        let begin = || logins.begin("default", "ada@example.com", None);
        for _ in 0..3 {
            begin().expect("a free one");
        }
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let expected = ("logins.account".to_owned(), Duration::from_secs(seconds));
            assert_eq!(wait(begin()), expected);
            // Other spellings are the same account.
            let other = logins.begin("default", "ADA@example.com", None);
            assert_eq!(wait(other), expected);
            time::advance(Duration::from_secs(seconds)).await;
            begin().expect("its turn");
        }
        logins
            .begin("default", "bob@example.com", None)
            .expect("another account");
        logins
            .begin("acme", "ada@example.com", None)
            .expect("another tenant's");
        time::advance(Duration::from_mins(5)).await;
        begin().expect("its turn").succeeded();
        for _ in 0..3 {
            begin().expect("a free one");
        }
        wait(begin());
        time::advance(Duration::from_hours(24)).await;
        for _ in 0..3 {
            begin().expect("all is forgotten");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_found_out_does_not_count() {
        let logins = logins(|limits| limits.free_by_account = 1);
        for _ in 0..10 {
            logins
                .begin("default", "ada@example.com", None)
                .expect("free")
                .undo();
        }
        let dropped = logins.begin("default", "ada@example.com", None).expect("free");
        drop(dropped);
        wait(logins.begin("default", "ada@example.com", None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_whatever_account_it_tries() {
        let logins = logins(|limits| limits.free_by_peer = Some(2));
        let begin = |number: u32, peer: &str| {
            let peer = peer.parse().expect("an address");
            logins.begin("default", &format!("{number}@example.com"), Some(peer))
        };
        begin(1, "2001:db8::1").expect("free");
        begin(2, "2001:db8::2").expect("free");
        assert_eq!(wait(begin(3, "2001:db8::3")).0, "logins.peer");
        begin(3, "2001:db8:0:1::1").expect("another network");
        begin(3, "192.0.2.1").expect("another network");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_who_tried_most_is_remembered() {
        let logins = logins(|limits| limits.free_by_account = 2);
        let begin = |email: &str| logins.begin("default", email, None);
        begin("ada@example.com").expect("free");
        begin("ada@example.com").expect("free");
        time::advance(Duration::from_secs(1)).await;
        begin("ada@example.com").expect("its turn");
        for number in 0..2 * MOST_REMEMBERED {
            begin(&number.to_string()).expect("free");
        }
        assert!(logins.table().accounts.len() <= MOST_REMEMBERED);
        wait(begin("ada@example.com"));
    }
}
