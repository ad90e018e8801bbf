//! Appends through the service.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{CompareOptions, ComparisonParts, report::Metric};
use crate::{
    append::{self, AppendMode, Load},
    measure::{self, Measurement, Recorder},
    progress::BenchProgress,
    target,
    workload::{MessageKey, Workload},
};
use chatledger_protocol as pb;

/// Unary requests on one connection: half of what servers commonly allow (hyper: 200).
const A_CONNECTION: usize = 100;
/// Requests to one session that are unanswered at a time.
const TO_ONE_SESSION: usize = 64;

/// How many connections unary requests need.
pub(super) fn connections(options: &CompareOptions) -> usize {
    options.unary_in_flight.div_ceil(A_CONNECTION).max(1)
}

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

    /// Appends that nobody measures, with citations.
    pub(super) async fn unmeasured(&self, duration: Duration) -> anyhow::Result<()> {
        let load = Load {
            warm_up: Duration::ZERO,
            duration,
            ..self.load(AppendMode::Stream, self.options.stream_in_flight)
        };
        append::run_over(
            &self.channels,
            &self.cited,
            &load,
            false,
            &self.halt,
            BenchProgress::hidden(),
        )
        .await
        .map(drop)
    }

    fn load(&self, mode: AppendMode, in_flight: usize) -> Load {
        Load {
            mode,
            in_flight,
            streams: self.options.streams,
            connections: self.channels.len(),
            frame_entries: self.options.frame_entries,
            batch_messages: 1,
            rate: None,
            warm_up: self.options.warm_up,
            duration: self.options.round,
        }
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

    /// Lone appends, one direct and one unary in turn: what disturbs one disturbs the other.
    pub(super) async fn lone(&mut self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let clock = self.clock();
        let [directs, unaries] = [0, 1].map(|_| measure::Collector::new(clock));
        let [mut direct, mut unary] = [directs.recorder(), unaries.recorder()];
        let mut number = 0;
        while Instant::now() < clock.end && !self.halt.is_asked() {
            let key = MessageKey { sender: 0, number };
            number += 1;
            let workload = Arc::clone(&self.workload);
            let session = workload.session_of(key);
            let began = Instant::now();
            let (id, content) = (workload.id(key), workload.content_of(key));
            self.direct
                .one()
                .append(workload.sessions()[session], id, content)
                .await?;
            direct.stored(began, Instant::now());
            lone_unary(
                &self.channels[0],
                &workload,
                MessageKey { sender: 1, number },
                &mut unary,
            )
            .await?;
        }
        let [direct, unary] = [finish(directs, direct).await, finish(unaries, unary).await];
        Ok(vec![
            (Metric::LoneDirectP50, direct.millis(50.0)),
            (Metric::LoneDirectP99, direct.millis(99.0)),
            (Metric::LoneUnaryP50, unary.millis(50.0)),
            (Metric::LoneUnaryP99, unary.millis(99.0)),
        ])
    }
}

/// What a recorder has taken.
pub(super) async fn finish(collector: measure::Collector, recorder: Recorder) -> Measurement {
    drop(recorder);
    collector.collect(BenchProgress::hidden()).await
}

/// One append.
pub(super) async fn lone_unary(
    channel: &Channel,
    workload: &Workload,
    key: MessageKey,
    recorder: &mut Recorder,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let request = pb::AppendMessageRequest {
        session_id: workload.session_text(workload.session_of(key)).to_owned(),
        message: Some(workload.message(key)),
    };
    target::messages(channel)
        .append_message(request)
        .await
        .map_err(|status| target::told(&status))?;
    recorder.stored(began, Instant::now());
    Ok(())
}
