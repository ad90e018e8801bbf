//! One number over several rounds.

use serde::Serialize;

/// One metric over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// The median of the rounds.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// One a round, in their order.
    pub rounds: Vec<f64>,
}

impl Summary {
    /// The summary of at least one round.
    pub(crate) fn of(rounds: Vec<f64>) -> Self {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        };
        Summary {
            median,
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        for (rounds, median) in [(vec![1.0, 9.0, 2.0], 2.0), (vec![5.0, 3.0], 4.0)] {
            let summary = Summary::of(rounds);
            assert!((summary.median - median).abs() < 1e-9, "{summary:?}");
        }
    }
}
