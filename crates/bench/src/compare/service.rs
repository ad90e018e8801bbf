//! Appends through the service, and lone ones beside an application's own.

use std::{sync::Arc, time::Instant};

use anyhow::ensure;
use uuid::Uuid;

use super::{direct::DirectForm, metric::Metric, parts::ComparisonParts};
use crate::{
    append::{self, AppendMode},
    progress::BenchProgress,
    target::append_one,
    turns::TurnTimer,
    workload::{MessageKey, Workload},
};

/// Requests to one session that are unanswered at a time.
const TO_ONE_SESSION: usize = 64;

impl ComparisonParts {
    /// Messages a second.
    pub(super) async fn appends(
        &self,
        mode: AppendMode,
        workload: &Arc<Workload>,
        progress: &BenchProgress,
    ) -> anyhow::Result<f64> {
        let in_flight = match mode {
            AppendMode::Stream => self.options.stream_in_flight,
            AppendMode::Unary | AppendMode::Batch => self.options.unary_in_flight,
        };
        self.run(mode, in_flight, workload, progress).await
    }

    /// Messages a second to one session.
    pub(super) async fn appends_to_one(
        &self,
        session: Uuid,
        progress: &BenchProgress,
    ) -> anyhow::Result<f64> {
        let workload = Arc::new(self.workload.over(vec![session]));
        self.run(AppendMode::Unary, TO_ONE_SESSION, &workload, progress)
            .await
    }

    async fn run(
        &self,
        mode: AppendMode,
        in_flight: usize,
        workload: &Arc<Workload>,
        progress: &BenchProgress,
    ) -> anyhow::Result<f64> {
        let load = self.load(mode, in_flight);
        let ran = append::run_over(
            &self.channels,
            workload,
            &load,
            false,
            &self.halt,
            progress.clone(),
        )
        .await?;
        // A rate that was reached by failing would be no rate.
        ensure!(
            ran.measured.errors.is_empty(),
            "{} appends failed: {:?}",
            mode.name(),
            ran.measured.errors
        );
        Ok(ran.measured.throughput())
    }

    /// Lone appends: a transaction, a single statement and a request in turn.
    pub(super) async fn lone(&mut self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let clock = self.clock();
        let workload = Arc::clone(&self.workload);
        let [mut direct, mut single, mut unary] = [0, 1, 2].map(|_| TurnTimer::new(clock));
        let mut number = 0;
        while Instant::now() < clock.end && !self.halt.is_asked() {
            let [first, second, third] = [0, 1, 2].map(|sender| MessageKey { sender, number });
            number += 1;
            let appended = self.direct.lone(DirectForm::Transaction, &workload, first);
            direct.time(appended).await?;
            let appended = self.direct.lone(DirectForm::SingleStatement, &workload, second);
            single.time(appended).await?;
            unary
                .time(append_one(&self.channels[0], &workload, third))
                .await?;
        }
        let [direct, single, unary] = [direct.finish().await, single.finish().await, unary.finish().await];
        Ok(vec![
            (Metric::LoneDirectP50, direct.millis(50.0)),
            (Metric::LoneDirectP99, direct.millis(99.0)),
            (Metric::LoneSingleP50, single.millis(50.0)),
            (Metric::LoneSingleP99, single.millis(99.0)),
            (Metric::LoneUnaryP50, unary.millis(50.0)),
            (Metric::LoneUnaryP99, unary.millis(99.0)),
        ])
    }
}
