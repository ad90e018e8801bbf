//! The books of a pool: who has what, who waits, and who comes next.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::{Holder, Lease};

/// How many times of what is left free a group may have, while there are others: enough that a neighbour who asks for little
/// costs a busy one only a quarter, and few enough that the third to come finds a tenth free beside two greedy ones.
const GROUP_PART: usize = 3;

#[derive(Debug)]
pub(super) struct PoolState<const N: usize> {
    pub(super) total: [usize; N],
    pub(super) free: [usize; N],
    /// Whether holders have a share each, or only groups.
    has_shares: bool,
    /// The accounts of the holders that have something or wait for something.
    accounts: HashMap<Holder, HolderAccount<N>>,
    /// The groups of these.
    groups: HashMap<u64, GroupAccount<N>>,
    /// How many wait, or have given up and aren't passed over yet.
    pub(super) waiting: usize,
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
struct GroupAccount<const N: usize> {
    held: [usize; N],
    /// How many of its holders have an account.
    accounts: usize,
}

#[derive(Debug)]
pub(super) struct Waiter<const N: usize> {
    pub(super) amount: [usize; N],
    /// The waiter's place among all who have ever waited.
    arrival: u64,
    /// The channel for the lease. Its other end is dropped by who gave up waiting.
    pub(super) granted: oneshot::Sender<Lease<N>>,
}

impl<const N: usize> PoolState<N> {
    /// A pool that nobody has anything of.
    pub(super) fn new(total: [usize; N], has_shares: bool) -> Self {
        PoolState {
            total,
            free: total,
            has_shares,
            accounts: HashMap::new(),
            groups: HashMap::new(),
            waiting: 0,
            arrivals: 0,
        }
    }

    /// Whether somebody waits, and hasn't given up.
    pub(super) fn is_contended(&self) -> bool {
        self.waiting > 0 && self.accounts.values().any(HolderAccount::is_waiting)
    }

    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        self.accounts.is_empty() && self.groups.is_empty()
    }

    pub(super) fn group_held(&self, group: u64) -> [usize; N] {
        self.groups.get(&group).map_or([0; N], |account| account.held)
    }

    /// Whether a tenant's group beside this one has something, or waits.
    fn has_others(&self, group: u64) -> bool {
        let known = [0, group];
        let known = if group == 0 { &known[..1] } else { &known };
        self.groups.len()
            > known
                .iter()
                .filter(|group| self.groups.contains_key(group))
                .count()
    }

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
            left.is_some_and(|left| !self.has_shares || held[n] + amount[n] <= left)
        })
    }

    /// Whether the rule allows a group that much more. One that has nothing may have what is free, however large that is.
    fn is_within_groups_share(&self, group: u64, amount: [usize; N]) -> bool {
        let held = self.group_held(group);
        held == [0; N]
            || !self.has_others(group)
            || (0..N).all(|n| held[n] + amount[n] <= GROUP_PART * self.free[n].saturating_sub(amount[n]))
    }

    /// The order in which holders are served: that of what their groups have, then of what they have.
    fn rank(&self, holder: Holder, held: [usize; N]) -> (usize, usize) {
        (self.share(self.group_held(holder.group())), self.share(held))
    }

    /// Whether a holder may take without waiting: not if somebody waits who comes before it.
    pub(super) fn may_take(&self, holder: Holder, amount: [usize; N]) -> bool {
        let held = self.held(holder);
        self.is_within_share(held, amount)
            && self.is_within_groups_share(holder.group(), amount)
            && (self.waiting == 0 || {
                let rank = self.rank(holder, held);
                self.accounts.iter().all(|(other, account)| {
                    !account.is_waiting() || (*other != holder && self.rank(*other, account.held) >= rank)
                })
            })
    }

    pub(super) fn wait(&mut self, holder: Holder, amount: [usize; N]) -> oneshot::Receiver<Lease<N>> {
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

    /// Takes the waiter out that comes next, if it may have what it waits for: the oldest of the holder that comes first. Where
    /// that has nothing, what is free has to suffice, or a large request might wait for ever.
    pub(super) fn next_waiter(&mut self) -> Option<(Holder, Waiter<N>)> {
        if self.waiting == 0 {
            return None;
        }
        self.forget_who_gave_up();
        let waiting = self.accounts.iter().filter_map(|(holder, account)| {
            let first = account.waiting.front()?;
            Some((account.held, first, *holder))
        });
        let (held, first, holder) = waiting.min_by_key(|&(held, first, holder)| {
            (self.rank(holder, held), self.share(first.amount), first.arrival)
        })?;
        let amount = first.amount;
        let is_free = (0..N).all(|n| amount[n] <= self.free[n]);
        let is_within = self.is_within_share(held, amount) || held == [0; N] && is_free;
        if !(is_within && self.is_within_groups_share(holder.group(), amount)) {
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
        let groups = &mut self.groups;
        self.accounts.retain(|holder, account| {
            let is_used = !account.is_unused();
            if !is_used {
                leave(groups, holder.group());
            }
            is_used
        });
    }

    fn account(&mut self, holder: Holder) -> &mut HolderAccount<N> {
        self.accounts.entry(holder).or_insert_with(|| {
            let group = self.groups.entry(holder.group()).or_insert(GroupAccount {
                held: [0; N],
                accounts: 0,
            });
            group.accounts += 1;
            HolderAccount {
                held: [0; N],
                waiting: VecDeque::new(),
            }
        })
    }

    pub(super) fn add(&mut self, holder: Holder, amount: [usize; N]) {
        let account = self.account(holder);
        account.held = plus(account.held, amount);
        if let Some(group) = self.groups.get_mut(&holder.group()) {
            group.held = plus(group.held, amount);
        }
        self.free = minus(self.free, amount);
    }

    pub(super) fn remove(&mut self, holder: Holder, amount: [usize; N]) {
        let Some(account) = self.accounts.get_mut(&holder) else {
            return;
        };
        account.held = minus(account.held, amount);
        self.free = plus(self.free, amount);
        if let Some(group) = self.groups.get_mut(&holder.group()) {
            group.held = minus(group.held, amount);
        }
        if account.is_unused() {
            self.accounts.remove(&holder);
            leave(&mut self.groups, holder.group());
        }
    }
}

/// One account of a group less.
fn leave<const N: usize>(groups: &mut HashMap<u64, GroupAccount<N>>, group: u64) {
    if let Some(account) = groups.get_mut(&group) {
        account.accounts -= 1;
        if account.accounts == 0 {
            groups.remove(&group);
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
    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiter| !waiter.granted.is_closed())
    }

    fn is_unused(&self) -> bool {
        self.held == [0; N] && self.waiting.is_empty()
    }
}
