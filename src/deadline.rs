//! Margins: how much of a request's time is kept back, so that whoever asked still listens when the answer comes.
//!
//! Three modules give up before a deadline, and the innermost first, since it knows most of the reason:
//!
//! - the pool, [`DbOptions::ANSWER_MARGIN`](chatledger_postgres::DbOptions::ANSWER_MARGIN) before: a connection that isn't
//!   to be had is DATABASE_UNAVAILABLE;
//! - the ledger, [`APPEND`] before: a lone append that isn't stored by then is DEADLINE_EXCEEDED or DATABASE_UNAVAILABLE,
//!   as the database was last seen;
//! - the server, [`CLIENT`] before the deadline of its client: whatever goes on is DEADLINE_EXCEEDED.
//!
//! The first two count from the third's deadline, which the server has put into the request. Of a short time only a part
//! is kept back.

use std::time::Duration;

use tokio::time::Instant;

/// A time that is kept back before a deadline.
#[derive(Clone, Copy, Debug)]
pub struct Margin {
    at_most: Duration,
    /// The part of a short time, as a divisor.
    part: u32,
}

/// The margin before a client's own deadline: a status travels to it in less than this on most networks.
pub const CLIENT: Margin = Margin {
    at_most: Duration::from_millis(10),
    part: 20,
};

/// The margin before the deadline of a lone append: its reason has to leave before the server's own.
pub const APPEND: Margin = Margin {
    at_most: Duration::from_millis(20),
    part: 10,
};

impl Margin {
    /// The time that is left of another without the margin.
    #[must_use]
    pub fn within(self, time: Duration) -> Duration {
        time.saturating_sub(self.at_most.min(time / self.part))
    }

    /// The moment that is the margin before a deadline.
    #[must_use]
    pub fn before(self, deadline: Instant) -> Instant {
        let now = Instant::now();
        now + self.within(deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use chatledger_postgres::DbOptions;

    use super::*;

    #[test]
    fn of_a_short_time_only_a_part_is_kept_back() {
        assert_eq!(CLIENT.within(Duration::from_secs(5)), Duration::from_millis(4990));
        assert_eq!(
            CLIENT.within(Duration::from_millis(100)),
            Duration::from_millis(95)
        );
        assert_eq!(APPEND.within(Duration::from_secs(1)), Duration::from_millis(980));
        assert_eq!(
            APPEND.within(Duration::from_millis(100)),
            Duration::from_millis(90)
        );
        assert_eq!(APPEND.within(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn inner_modules_give_up_first() {
        assert!(DbOptions::ANSWER_MARGIN > APPEND.at_most);
        assert!(APPEND.at_most > CLIENT.at_most);
        for millis in [1, 50, 400, 10_000] {
            let time = Duration::from_millis(millis);
            assert!(APPEND.within(time) <= CLIENT.within(time), "{time:?}");
        }
    }
}
