//! Does a long session cost more? Appends to one with a million messages, and to an empty one.

use std::{sync::Arc, time::Instant};

use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    CompareOptions, ComparisonParts, copy,
    database::BenchDatabase,
    report::Metric,
    service::{finish, lone_unary},
};
use crate::{
    measure::Collector,
    progress::BenchProgress,
    target,
    workload::{MessageKey, Workload},
};

/// Makes the large session, by COPY.
pub(super) async fn prepare(
    channel: &Channel,
    database: &BenchDatabase,
    workload: &Workload,
    options: &CompareOptions,
) -> anyhow::Result<Uuid> {
    let session = Uuid::now_v7();
    let workload = workload.over(vec![session]);
    target::create_sessions(channel, &workload).await?;
    let mut client = database.client().await?;
    let progress = BenchProgress::counted("filling the large session", options.large_session_messages);
    let (mut left, mut number) = (options.large_session_messages, 0);
    while left > 0 {
        let rows = copy::ROWS.min(u32::try_from(left).unwrap_or(u32::MAX));
        copy::transaction(&mut client, &workload, &mut number, rows).await?;
        left -= u64::from(rows);
        progress.add(rows.into());
    }
    progress.clear();
    Ok(session)
}

impl ComparisonParts {
    /// Lone appends, to the one and to the other in turn.
    pub(super) async fn large_session_lone(&mut self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let empty = self.new_session().await?;
        let clock = self.clock();
        let sides = [self.large, empty].map(|session| {
            let collector = Collector::new(clock);
            let recorder = collector.recorder();
            (Arc::new(self.workload.over(vec![session])), collector, recorder)
        });
        let [mut large, mut small] = sides;
        let mut number = 0;
        while Instant::now() < clock.end && !self.halt.is_asked() {
            for (sender, (workload, _, recorder)) in (0..).zip([&mut large, &mut small]) {
                lone_unary(
                    &self.channels[0],
                    workload,
                    MessageKey { sender, number },
                    recorder,
                )
                .await?;
            }
            number += 1;
        }
        let [large, small] = [finish(large.1, large.2).await, finish(small.1, small.2).await];
        Ok(vec![
            (Metric::AppendLargeP50, large.millis(50.0)),
            (Metric::AppendEmptyP50, small.millis(50.0)),
        ])
    }
}
