//! The rule, tried out.

use std::pin::Pin;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

const A: Holder = Holder::of(0, 1);
const B: Holder = Holder::of(0, 2);
const C: Holder = Holder::of(0, 3);

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

/// A neighbour that has one connection, and takes one at a time.
const NEWCOMER: Holder = Holder::of(2, 1);

/// What those of them get who needn't wait any more.
fn granted<F: Future<Output = Lease<1>>>(waiting: &mut Vec<Pin<Box<F>>>) -> Vec<Lease<1>> {
    let mut leases = Vec::new();
    waiting.retain_mut(|take| match take.as_mut().now_or_never() {
        Some(lease) => {
            leases.push(lease);
            false
        }
        None => true,
    });
    leases
}

/// Everything that a tenant of so many connections can have.
fn crowd(pool: &FairPool<1>, group: u64, members: u64) -> Vec<Lease<1>> {
    (0..members)
        .flat_map(|member| take_all(pool, Holder::of(group, member)))
        .collect()
}

#[test]
fn two_greedy_tenants_share_whatever_the_number_of_their_connections() {
    let pool = FairPool::new([700]);
    // Alone it has all but a little.
    let alone = crowd(&pool, 1, 100);
    assert!(alone.len() > 690, "{}", alone.len());
    drop(alone);
    let small = pool.try_take(NEWCOMER, [1]).expect("a lease");
    let many = crowd(&pool, 1, 100);
    assert_eq!((many.len(), pool.free()), (524, [175]));
    drop((small, many));
    let mut leases = [Vec::new(), Vec::new()];
    for round in 0..1000 {
        leases[0].extend(pool.try_take(Holder::of(1, round % 100), [1]));
        leases[1].extend(pool.try_take(Holder::of(2, round % 10), [1]));
    }
    assert_eq!(leases.map(|leases| leases.len()), [300, 300]);
}

#[test]
fn what_the_server_itself_has_is_no_tenants() {
    let pool = FairPool::new([100]);
    let own = pool.try_take(Holder::default(), [1]).expect("a lease");
    assert!(crowd(&pool, 1, 50).len() > 95);
    drop(own);
}

#[test]
fn a_pool_of_turns_gives_a_lone_tenant_all_and_the_next_turn_to_another() {
    let pool = FairPool::of_turns([4]);
    let mut all = take_all(&pool, Holder::of(1, 1));
    assert_eq!(all.len(), 4);
    let mut greedy: Vec<_> = (1..9)
        .map(|n| Box::pin(pool.take(Holder::of(1, n), [1])))
        .collect();
    assert!(
        greedy
            .iter_mut()
            .all(|take| take.as_mut().now_or_never().is_none())
    );
    let mut newcomer = Box::pin(pool.take(NEWCOMER, [1]));
    assert!(newcomer.as_mut().now_or_never().is_none());
    all.pop();
    assert!(newcomer.as_mut().now_or_never().is_some());
}

proptest! {
    #[test]
    fn nothing_is_lost_or_made(steps in prop::collection::vec((0_u64..4, 0_u64..3, 1_usize..20, any::<bool>()), 0..200)) {
        let pool = FairPool::new([50]);
        let mut leases = Vec::new();
        for (holder, group, amount, takes) in steps {
            if takes {
                leases.extend(pool.try_take(Holder::of(group, holder), [amount]));
            } else if !leases.is_empty() {
                leases.swap_remove(amount % leases.len());
            }
            let held: usize = leases.iter().map(|lease: &Lease<1>| lease.amount()[0]).sum();
            prop_assert_eq!(pool.free()[0] + held, 50);
        }
        leases.clear();
        prop_assert_eq!(pool.free(), [50]);
        prop_assert!(pool.lock().is_unused());
    }

    /// A lone tenant is served by the rule for holders alone, whatever its number is.
    #[test]
    fn a_lone_tenant_has_what_its_holders_may_have(
        group in 1_u64..3,
        steps in prop::collection::vec((0_u64..300, 1_usize..20), 0..400),
    ) {
        let pool = FairPool::new([1000]);
        let mut leases = Vec::new();
        let mut held = std::collections::HashMap::new();
        for (member, amount) in steps {
            let [free] = pool.free();
            let had = held.entry(member).or_insert(0);
            let lease = pool.try_take(Holder::of(group, member), [amount]);
            prop_assert_eq!(lease.is_some(), amount <= free && *had + amount <= free - amount);
            if let Some(lease) = lease {
                *had += amount;
                leases.push(lease);
            }
        }
    }

    /// Beside another tenant nobody has more than three times of what is free, but for what it had while it was alone.
    #[test]
    fn tenants_leave_room_for_the_next(steps in prop::collection::vec((1_u64..5, 0_u64..300, 1_usize..20), 0..400)) {
        let pool = FairPool::new([1000]);
        let first = [1, 2].map(|group| pool.try_take(Holder::of(group, 1000), [1]).expect("a lease"));
        let mut leases = Vec::new();
        for (group, member, amount) in steps {
            let before = pool.lock().group_held(group);
            let Some(lease) = pool.try_take(Holder::of(group, member), [amount]) else { continue };
            leases.push(lease);
            let [held] = pool.lock().group_held(group);
            prop_assert!(before == [0] || held <= 3 * pool.free()[0], "{held} of {:?}", pool.free());
        }
        drop(first);
    }

    /// A tenant that has filled the pool, with hundreds of connections that all wait for more, starves nobody: of all that
    /// comes back it gets nothing, until the newcomer has as much as it wants or may have.
    #[test]
    fn a_newcomer_gets_what_comes_back(
        connections in 1_u64..300,
        wanted in 1_usize..40,
        returned in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let pool = FairPool::new([120]);
        let mut waiting: Vec<_> = (0..240)
            .map(|n| Box::pin(pool.take(Holder::of(1, n % connections), [1])))
            .collect();
        let mut greedy = granted(&mut waiting);
        let [left] = pool.free();
        let mut newcomers: Vec<_> = (0..wanted).map(|_| Box::pin(pool.take(NEWCOMER, [1]))).collect();
        let mut had = granted(&mut newcomers);
        for (count, index) in (1..).zip(returned) {
            greedy.swap_remove(index.index(greedy.len()));
            had.extend(granted(&mut newcomers));
            if had.len() == wanted || had.len() >= greedy.len() {
                break;
            }
            prop_assert_eq!(granted(&mut waiting).len(), 0, "the greedy one took what came back");
            // A lone connection has at most as much as is left free, so every second one that comes back is its own.
            let due: usize = (left + count - 1) / 2;
            prop_assert!(had.len() >= due.min(wanted), "{} of {due}", had.len());
        }
    }

    /// Whoever waits is served in the end, as others give back, whatever was asked for by whom, and whoever gave up.
    #[test]
    fn nobody_waits_for_ever(
        asked in prop::collection::vec((0_u64..4, 0_u64..6, 1_usize..80, any::<bool>()), 1..80),
        has_shares in any::<bool>(),
    ) {
        let pool = if has_shares { FairPool::new([100]) } else { FairPool::of_turns([100]) };
        let (mut waiting, mut gone) = (Vec::new(), Vec::new());
        for (group, member, amount, stays) in asked {
            let take = Box::pin(pool.take(Holder::of(group, member), [amount]));
            if stays { waiting.push(take) } else { gone.push(take) }
        }
        let mut leases = granted(&mut waiting);
        leases.extend(granted(&mut gone));
        drop(gone);
        while !waiting.is_empty() {
            let before = leases.len();
            leases.extend(granted(&mut waiting));
            prop_assert!(before > 0 || !leases.is_empty(), "{} wait for ever", waiting.len());
            leases.clear();
        }
        drop((waiting, leases));
        prop_assert!(pool.lock().is_unused());
    }
}
