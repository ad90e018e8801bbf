//! A fair pool: permits, rows or bytes that many holders share, so that none of them can take all.
//!
//! The rule is one line: *after taking, a holder has at most as much as is left free*. One greedy holder
//! alone gets half of the pool, two get a third each, and whoever comes next always finds as much free as each of
//! them has. (Choudhury and Hahne describe it for switches, as dynamic thresholds.) Nothing is set aside for
//! holders that aren't there, and nobody has to say how many there may be.
//!
//! Who waits is served by how little its holder has, and by age where that is the same. So a large request of one that
//! has nothing isn't starved by small ones of those that have much.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A holder, from whose share something is taken: a connection of a client, or the server itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holder(pub u64);

/// A pool of amounts in `N` dimensions, such as rows and bytes, which are taken together. A clone is the same
/// pool.
#[derive(Clone, Debug)]
pub struct FairPool<const N: usize> {
    shared: Arc<SharedPool<N>>,
}

#[derive(Debug)]
struct SharedPool<const N: usize> {
    total: [usize; N],
    state: Mutex<PoolState<N>>,
}

#[derive(Debug)]
struct PoolState<const N: usize> {
    total: [usize; N],
    free: [usize; N],
    /// The accounts of the holders that have something or wait for something.
    accounts: HashMap<Holder, HolderAccount<N>>,
    /// How many wait, or have given up and aren't passed over yet.
    waiting: usize,
    /// How many have ever waited.
    arrivals: u64,
}

#[derive(Debug)]
struct HolderAccount<const N: usize> {
    held: [usize; N],
    /// The holder's waiters, the oldest first.
    waiting: VecDeque<Waiter<N>>,
}

#[derive(Debug)]
struct Waiter<const N: usize> {
    amount: [usize; N],
    /// The waiter's place among all who have ever waited.
    arrival: u64,
    /// The channel for the lease. Its other end is dropped by who gave up waiting.
    granted: oneshot::Sender<Lease<N>>,
}

/// An amount that has been taken; it goes back when this is dropped.
#[derive(Debug)]
pub struct Lease<const N: usize> {
    pool: FairPool<N>,
    holder: Holder,
    amount: [usize; N],
}

impl<const N: usize> FairPool<N> {
    /// A pool of so much.
    #[must_use]
    pub fn new(total: [usize; N]) -> Self {
        FairPool {
            shared: Arc::new(SharedPool {
                total,
                state: Mutex::new(PoolState {
                    total,
                    free: total,
                    accounts: HashMap::new(),
                    waiting: 0,
                    arrivals: 0,
                }),
            }),
        }
    }

    /// The amount that nobody has.
    #[must_use]
    pub fn free(&self) -> [usize; N] {
        self.lock().free
    }

    /// The amount of the whole pool.
    #[must_use]
    pub fn total(&self) -> [usize; N] {
        self.shared.total
    }

    /// Whether somebody waits for what others hold.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        let state = self.lock();
        state.waiting > 0
            && state
                .accounts
                .values()
                .any(|account| account.waiting.iter().any(|waiter| !waiter.granted.is_closed()))
    }

    /// Takes an amount for a holder, if its share allows that now. More than half of the pool counts as half of
    /// it, which an otherwise unused pool can give.
    #[must_use]
    pub fn try_take(&self, holder: Holder, amount: [usize; N]) -> Option<Lease<N>> {
        let amount = self.clamp(amount);
        let mut state = self.lock();
        state.may_take(holder, amount).then(|| {
            state.add(holder, amount);
            self.lease(holder, amount)
        })
    }

    /// Takes an amount for a holder as soon as its share allows that. Who stops waiting has taken nothing.
    pub async fn take(&self, holder: Holder, amount: [usize; N]) -> Lease<N> {
        let amount = self.clamp(amount);
        let granted = {
            let mut state = self.lock();
            if state.may_take(holder, amount) {
                state.add(holder, amount);
                return self.lease(holder, amount);
            }
            let granted = state.wait(holder, amount);
            self.grant(state);
            granted
        };
        // Whoever comes next may have waited for this one only.
        let wait_guard = WaitGuard(self);
        let lease = granted.await;
        std::mem::forget(wait_guard);
        match lease {
            Ok(lease) => lease,
            // A waiter is dropped only with a grant, or together with the pool, which is here.
            Err(_) => std::future::pending().await,
        }
    }

    fn clamp(&self, amount: [usize; N]) -> [usize; N] {
        std::array::from_fn(|n| amount[n].min(self.shared.total[n] / 2))
    }

    fn lease(&self, holder: Holder, amount: [usize; N]) -> Lease<N> {
        Lease {
            pool: self.clone(),
            holder,
            amount,
        }
    }

    /// Grants what waiters may have by now.
    fn grant(&self, mut state: MutexGuard<'_, PoolState<N>>) {
        let mut grants = Vec::new();
        while let Some((holder, waiter)) = state.next_waiter() {
            state.add(holder, waiter.amount);
            grants.push((waiter.granted, self.lease(holder, waiter.amount)));
        }
        // A waiter that gives up at this moment drops its lease, which takes the lock again.
        drop(state);
        for (granted, lease) in grants {
            let _ = granted.send(lease);
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState<N>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A waiter that stops waiting: those behind it are looked at again.
struct WaitGuard<'a, const N: usize>(&'a FairPool<N>);

impl<const N: usize> Drop for WaitGuard<'_, N> {
    fn drop(&mut self) {
        self.0.grant(self.0.lock());
    }
}

impl<const N: usize> PoolState<N> {
    fn held(&self, holder: Holder) -> [usize; N] {
        self.accounts.get(&holder).map_or([0; N], |account| account.held)
    }

    /// The largest part of any dimension, in millionths: by this holders are compared, so that few large rows are as
    /// much as many small ones.
    fn share(&self, amount: [usize; N]) -> usize {
        let parts = (0..N).map(|n| amount[n].saturating_mul(1_000_000) / self.total[n].max(1));
        parts.max().unwrap_or(0)
    }

    /// Whether the rule allows a holder of `held` that much more.
    fn is_within_share(&self, held: [usize; N], amount: [usize; N]) -> bool {
        (0..N).all(|n| {
            let left = self.free[n].checked_sub(amount[n]);
            left.is_some_and(|left| held[n] + amount[n] <= left)
        })
    }

    /// Whether a holder may take without waiting: not if somebody waits who holds less.
    fn may_take(&self, holder: Holder, amount: [usize; N]) -> bool {
        let held = self.held(holder);
        self.is_within_share(held, amount)
            && (self.waiting == 0
                || self.accounts.iter().all(|(other, account)| {
                    let is_waiting = account.waiting.iter().any(|waiter| !waiter.granted.is_closed());
                    !is_waiting || (*other != holder && self.share(account.held) >= self.share(held))
                }))
    }

    fn wait(&mut self, holder: Holder, amount: [usize; N]) -> oneshot::Receiver<Lease<N>> {
        let (grant, granted) = oneshot::channel();
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.account(holder).waiting.push_back(Waiter {
            amount,
            arrival,
            granted: grant,
        });
        self.waiting += 1;
        granted
    }

    /// Takes the waiter out that comes next, if it may have what it waits for: the oldest of the holder that
    /// holds least. Where that is nothing, what is free has to suffice, or a large request might wait for ever.
    fn next_waiter(&mut self) -> Option<(Holder, Waiter<N>)> {
        if self.waiting == 0 {
            return None;
        }
        self.forget_who_gave_up();
        let waiting = self.accounts.iter().filter_map(|(holder, account)| {
            let first = account.waiting.front()?;
            Some((account.held, first, *holder))
        });
        let (held, first, holder) = waiting
            .min_by_key(|&(held, first, _)| (self.share(held), self.share(first.amount), first.arrival))?;
        let amount = first.amount;
        let is_free = (0..N).all(|n| amount[n] <= self.free[n]);
        if !(self.is_within_share(held, amount) || held == [0; N] && is_free) {
            return None;
        }
        let waiter = self.accounts.get_mut(&holder)?.waiting.pop_front()?;
        self.waiting -= 1;
        Some((holder, waiter))
    }

    fn forget_who_gave_up(&mut self) {
        for account in self.accounts.values_mut() {
            while account
                .waiting
                .front()
                .is_some_and(|waiter| waiter.granted.is_closed())
            {
                account.waiting.pop_front();
                self.waiting -= 1;
            }
        }
        self.accounts.retain(|_, account| !account.is_unused());
    }

    fn account(&mut self, holder: Holder) -> &mut HolderAccount<N> {
        self.accounts.entry(holder).or_insert_with(|| HolderAccount {
            held: [0; N],
            waiting: VecDeque::new(),
        })
    }

    fn add(&mut self, holder: Holder, amount: [usize; N]) {
        let account = self.account(holder);
        account.held = plus(account.held, amount);
        self.free = minus(self.free, amount);
    }

    fn remove(&mut self, holder: Holder, amount: [usize; N]) {
        let Some(account) = self.accounts.get_mut(&holder) else {
            return;
        };
        account.held = minus(account.held, amount);
        self.free = plus(self.free, amount);
        if account.is_unused() {
            self.accounts.remove(&holder);
        }
    }
}

fn plus<const N: usize>(a: [usize; N], b: [usize; N]) -> [usize; N] {
    std::array::from_fn(|n| a[n] + b[n])
}

fn minus<const N: usize>(a: [usize; N], b: [usize; N]) -> [usize; N] {
    std::array::from_fn(|n| a[n] - b[n])
}

impl<const N: usize> HolderAccount<N> {
    fn is_unused(&self) -> bool {
        self.held == [0; N] && self.waiting.is_empty()
    }
}

impl<const N: usize> Lease<N> {
    /// The amount of the lease.
    #[must_use]
    pub fn amount(&self) -> [usize; N] {
        self.amount
    }

    /// Gives back all above an amount; less than that stays as it is.
    pub fn shrink_to(&mut self, amount: [usize; N]) {
        let surplus: [usize; N] = std::array::from_fn(|n| self.amount[n].saturating_sub(amount[n]));
        self.amount = std::array::from_fn(|n| self.amount[n] - surplus[n]);
        self.give_back(surplus);
    }

    fn give_back(&self, amount: [usize; N]) {
        if amount == [0; N] {
            return;
        }
        let mut state = self.pool.lock();
        state.remove(self.holder, amount);
        if state.waiting > 0 {
            self.pool.grant(state);
        }
    }
}

impl<const N: usize> Drop for Lease<N> {
    fn drop(&mut self) {
        self.give_back(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const A: Holder = Holder(1);
    const B: Holder = Holder(2);
    const C: Holder = Holder(3);

    fn take_all(pool: &FairPool<1>, holder: Holder) -> Vec<Lease<1>> {
        std::iter::from_fn(|| pool.try_take(holder, [1])).collect()
    }

    #[test]
    fn greedy_holders_leave_as_much_as_each_of_them_has() {
        let pool = FairPool::new([60]);
        let a = take_all(&pool, A);
        assert_eq!(a.len(), 30);
        let b = take_all(&pool, B);
        assert_eq!((b.len(), pool.free()), (15, [15]));
        drop(a);
        assert_eq!(take_all(&pool, C).len(), 22);
    }

    #[test]
    fn more_than_half_counts_as_half() {
        let pool = FairPool::new([10, 100]);
        let lease = pool.try_take(A, [1, 1000]).expect("a lease");
        assert_eq!((lease.amount(), pool.free()), ([1, 50], [9, 50]));
        drop(lease);
        assert_eq!(pool.free(), pool.total());
    }

    #[test]
    fn who_holds_least_is_served_first_and_who_gave_up_is_passed_over() {
        let pool = FairPool::new([8]);
        let mut a = take_all(&pool, A);
        let b = pool.try_take(B, [1]).expect("a lease");
        let mut greedy = Box::pin(pool.take(A, [2]));
        let mut gone = Box::pin(pool.take(C, [4]));
        let mut large = Box::pin(pool.take(C, [4]));
        assert!(greedy.as_mut().now_or_never().is_none());
        assert!(gone.as_mut().now_or_never().is_none());
        assert!(large.as_mut().now_or_never().is_none());
        drop(gone);
        // Who has more doesn't overtake.
        assert!(pool.try_take(B, [1]).is_none());
        a.pop();
        let large = large.as_mut().now_or_never().expect("four are free");
        assert!(greedy.as_mut().now_or_never().is_none());
        drop((large, a));
        assert!(greedy.as_mut().now_or_never().is_some());
        drop(b);
    }

    #[test]
    fn few_large_rows_count_for_as_much_as_many_small_ones() {
        let pool = FairPool::new([100, 100]);
        let large = pool.try_take(A, [1, 40]).expect("a lease");
        let small = pool.try_take(B, [10, 10]).expect("a lease");
        let mut greedy = Box::pin(pool.take(A, [1, 20]));
        assert!(greedy.as_mut().now_or_never().is_none());
        // Who has ten small rows doesn't wait behind who has one large.
        assert!(pool.try_take(B, [1, 1]).is_some());
        drop((large, small));
    }

    #[test]
    fn a_lease_shrinks_and_wakes_who_waits() {
        let pool = FairPool::new([10]);
        let mut lease = pool.try_take(A, [5]).expect("a lease");
        let mut waits = Box::pin(pool.take(B, [4]));
        // It holds nothing, so that what is free is enough.
        assert!(waits.as_mut().now_or_never().is_some());
        lease.shrink_to([1]);
        assert_eq!(pool.free(), [9]);
        lease.shrink_to([3]);
        assert_eq!(lease.amount(), [1]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made(steps in prop::collection::vec((0_u64..4, 1_usize..20, any::<bool>()), 0..200)) {
            let pool = FairPool::new([50]);
            let mut leases = Vec::new();
            for (holder, amount, takes) in steps {
                if takes {
                    leases.extend(pool.try_take(Holder(holder), [amount]));
                } else if !leases.is_empty() {
                    leases.swap_remove(amount % leases.len());
                }
                let held: usize = leases.iter().map(|lease: &Lease<1>| lease.amount()[0]).sum();
                prop_assert_eq!(pool.free()[0] + held, 50);
            }
            leases.clear();
            prop_assert_eq!(pool.free(), [50]);
            prop_assert!(pool.lock().accounts.is_empty());
        }
    }
}
