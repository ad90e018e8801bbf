//! A fair pool: permits, rows or bytes that many holders share, so that none of them can take all.
//!
//! The rule is one line: *after taking, a holder has at most as much as is left free*. One greedy holder
//! alone gets half of the pool, two get a third each, and whoever comes next always finds as much free as each of
//! them has. (Choudhury and Hahne describe it for switches, as dynamic thresholds.) Nothing is set aside for
//! holders that aren't there, and nobody has to say how many there may be.
//!
//! Holders belong to groups, the tenants. A group that is alone may have whatever its holders may. While another one has or
//! wants something, the same rule holds for the whole group, but with three times of what is left free: beside one that asks for
//! little, the others together get three quarters of the pool at most, and two greedy ones three sevenths each. A pool of
//! *turns* knows this rule only: a holder may have all that its group may.
//!
//! Who waits is served by how little its group has, then by how little its holder has, and by age where that is the same. So a
//! large request of one that has nothing isn't starved by small ones of those that have much, and a newcomer gets whatever
//! comes back, until its group has as much as the others, however many holders those have.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state::PoolState;

/// A holder, from whose share something is taken: a connection of a client, or the server itself. It belongs to a group, the
/// tenant for whom the connection asks. Group 0 is nobody's, and needs no room beside it that others would have to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holder {
    group: u64,
    member: u64,
}

impl Holder {
    /// A member of a group.
    #[must_use]
    pub const fn of(group: u64, member: u64) -> Self {
        Holder { group, member }
    }

    /// The group.
    #[must_use]
    pub const fn group(self) -> u64 {
        self.group
    }

    /// The number within the group.
    #[must_use]
    pub const fn member(self) -> u64 {
        self.member
    }
}

/// A pool of amounts in `N` dimensions, such as rows and bytes, which are taken together. A clone is the same
/// pool.
#[derive(Clone, Debug)]
pub struct FairPool<const N: usize> {
    shared: Arc<SharedPool<N>>,
}

#[derive(Debug)]
struct SharedPool<const N: usize> {
    total: [usize; N],
    /// What can be taken at once.
    largest: [usize; N],
    state: Mutex<PoolState<N>>,
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
        Self::with(PoolState::new(total, true), total.map(|all| all / 2))
    }

    /// A pool of so much, of which a holder may have all that its group may: it only says whose turn it is. For what is taken
    /// for a moment.
    #[must_use]
    pub fn of_turns(total: [usize; N]) -> Self {
        Self::with(PoolState::new(total, false), total)
    }

    fn with(state: PoolState<N>, largest: [usize; N]) -> Self {
        FairPool {
            shared: Arc::new(SharedPool {
                total: state.total,
                largest,
                state: Mutex::new(state),
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
        self.lock().is_contended()
    }

    /// Takes an amount for a holder, if its share allows that now. More than half of the pool counts as half of
    /// it, which an otherwise unused pool can give; of a pool of turns all can be taken.
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
        std::array::from_fn(|n| amount[n].min(self.shared.largest[n]))
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
mod tests;
