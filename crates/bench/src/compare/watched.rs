//! How soon a message reaches those who watch, at a rate that leaves room: what `bench watch` measures, beside the rest.

use std::sync::Arc;

use anyhow::ensure;
use uuid::Uuid;

use super::{metric::Metric, parts::ComparisonParts};
use crate::{
    progress::BenchProgress,
    target,
    watch::{WatchLoad, watch},
};

/// How many watch: each a session of its own, of those that there are.
const WATCHERS: usize = 100;

impl ComparisonParts {
    /// Deliveries of messages to new sessions, from when each was due.
    pub(super) async fn watched(&mut self, progress: &BenchProgress) -> anyhow::Result<Vec<(Metric, f64)>> {
        let sessions: Vec<Uuid> = (0..self.options.sessions).map(|_| Uuid::now_v7()).collect();
        let workload = Arc::new(self.workload.over(sessions.clone()));
        target::create_sessions(&self.channels[0], &workload).await?;
        self.made.extend(sessions);
        let load = WatchLoad {
            watchers: WATCHERS.min(self.options.sessions),
            rate: self.options.watch_rate,
            warm_up: self.options.warm_up,
            duration: self.options.round,
        };
        let watched = watch(&self.server, &workload, &load, &self.halt, progress.clone()).await?;
        ensure!(
            watched.verified.ok,
            "watchers didn't see what was appended: {:?}",
            watched.verified.problems
        );
        Ok(vec![
            (Metric::WatchP50, watched.deliveries.millis(50.0)),
            (Metric::WatchP99, watched.deliveries.millis(99.0)),
        ])
    }
}
