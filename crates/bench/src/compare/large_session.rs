//! Does a long session cost more? Appends to one with a million messages, and to an empty one.

use std::time::Instant;

use super::{metric::Metric, parts::ComparisonParts};
use crate::{target::append_one, turns::TurnTimer, workload::MessageKey};

impl ComparisonParts {
    /// Lone appends, to the one and to the other in turn.
    pub(super) async fn large_session_lone(&mut self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let empty = self.new_session().await?;
        let clock = self.clock();
        let mut sides =
            [self.large, empty].map(|session| (self.workload.over(vec![session]), TurnTimer::new(clock)));
        let mut number = 0;
        while Instant::now() < clock.end && !self.halt.is_asked() {
            for (sender, (workload, timer)) in (0..).zip(&mut sides) {
                let key = MessageKey { sender, number };
                timer.time(append_one(&self.channels[0], workload, key)).await?;
            }
            number += 1;
        }
        let [(_, large), (_, small)] = sides;
        Ok(vec![
            (Metric::AppendLargeP50, large.finish().await.millis(50.0)),
            (Metric::AppendEmptyP50, small.finish().await.millis(50.0)),
        ])
    }
}
