//! The units that wait for a lane's next batch.

use std::collections::{HashMap, VecDeque};

use crate::fair::Holder;

/// The units that wait, in a line for each connection, and those in one for each tenant. Batches take from the tenants in
/// turn, and from a tenant's connections in turn: neither one client's many units, nor a tenant's many clients, stand before
/// another's few.
pub(super) struct Backlog<U>(Lines<Lines<VecDeque<U>>>);

impl<U> Default for Backlog<U> {
    fn default() -> Self {
        Backlog(Lines::default())
    }
}

impl<U> Backlog<U> {
    /// Puts a unit at the end of its line.
    pub(super) fn push(&mut self, holder: Holder, queued: U) {
        self.0
            .line(holder.group())
            .line(holder.member())
            .push_back(queued);
    }

    /// Puts the unit that was taken last back to where it was: it is the next.
    pub(super) fn push_front(&mut self, holder: Holder, queued: U) {
        self.0
            .first_line(holder.group())
            .first_line(holder.member())
            .push_front(queued);
    }

    /// Takes the unit whose turn it is.
    pub(super) fn pop(&mut self) -> Option<U> {
        self.0.pop()
    }
}

/// A line of what waits.
trait Line: Default {
    /// What waits.
    type Unit;
    fn pop(&mut self) -> Option<Self::Unit>;
    fn is_empty(&self) -> bool;
}

impl<U> Line for VecDeque<U> {
    type Unit = U;

    fn pop(&mut self) -> Option<U> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }
}

/// Lines by number, from which units are taken in turn.
struct Lines<L> {
    lines: HashMap<u64, L>,
    /// The lines that are next; each that there is once.
    turns: VecDeque<u64>,
}

impl<L> Default for Lines<L> {
    fn default() -> Self {
        Lines {
            lines: HashMap::new(),
            turns: VecDeque::new(),
        }
    }
}

impl<L: Line> Lines<L> {
    /// A line; a new one has its turn last.
    fn line(&mut self, number: u64) -> &mut L {
        let Lines { lines, turns } = self;
        lines.entry(number).or_insert_with(|| {
            turns.push_back(number);
            L::default()
        })
    }

    /// A line, whose turn is the next.
    fn first_line(&mut self, number: u64) -> &mut L {
        // It mostly is the last, since it has just had its turn.
        if let Some(place) = self.turns.iter().rposition(|turn| *turn == number) {
            self.turns.remove(place);
        }
        self.turns.push_front(number);
        self.lines.entry(number).or_default()
    }
}

impl<L: Line> Line for Lines<L> {
    type Unit = L::Unit;

    fn pop(&mut self) -> Option<L::Unit> {
        let number = self.turns.pop_front()?;
        let line = self.lines.get_mut(&number)?;
        let queued = line.pop();
        if line.is_empty() {
            self.lines.remove(&number);
        } else {
            self.turns.push_back(number);
        }
        queued
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backlog(waiting: &[(u64, u64, u32)]) -> Backlog<(u64, u64, u32)> {
        let mut backlog = Backlog::default();
        for unit in waiting {
            backlog.push(Holder::of(unit.0, unit.1), *unit);
        }
        backlog
    }

    #[test]
    fn tenants_take_turns_and_the_connections_of_a_tenant_among_themselves() {
        // Three connections of one tenant, and one of another, which came last.
        let waiting = [
            (1, 1, 0),
            (1, 1, 1),
            (1, 2, 0),
            (1, 3, 0),
            (2, 9, 0),
            (2, 9, 1),
            (2, 9, 2),
        ];
        let mut backlog = backlog(&waiting);
        let order: Vec<_> = std::iter::from_fn(|| backlog.pop()).collect();
        let expected = [
            (1, 1, 0),
            (2, 9, 0),
            (1, 2, 0),
            (2, 9, 1),
            (1, 3, 0),
            (2, 9, 2),
            (1, 1, 1),
        ];
        assert_eq!(order, expected);
    }

    proptest! {
        #[test]
        fn what_is_put_back_is_the_next_and_each_line_keeps_its_order(
            waiting in prop::collection::vec((0_u64..3, 0_u64..3), 1..40),
            put_back in prop::collection::vec(any::<bool>(), 40),
        ) {
            let waiting: Vec<_> = (0..).zip(waiting).map(|(n, (group, member))| (group, member, n)).collect();
            let mut backlog = backlog(&waiting);
            let mut order = Vec::new();
            for put_back in put_back {
                let Some(unit) = backlog.pop() else { break };
                if put_back {
                    backlog.push_front(Holder::of(unit.0, unit.1), unit);
                    prop_assert_eq!(backlog.pop(), Some(unit));
                }
                order.push(unit);
            }
            prop_assert_eq!(order.len(), waiting.len());
            for group in 0..3 {
                for member in 0..3 {
                    let of = |units: &[(u64, u64, u32)]| -> Vec<_> {
                        units.iter().copied().filter(|unit| (unit.0, unit.1) == (group, member)).collect()
                    };
                    prop_assert_eq!(of(&order), of(&waiting));
                }
            }
        }
    }
}
