//! Latencies of those who take turns within one run: what disturbs one disturbs the other.

use std::time::Instant;

use crate::{
    measure::{Collector, Measurement, Recorder},
    progress::BenchProgress,
    schedule::RunClock,
};

/// The latencies of one of them.
pub(crate) struct TurnTimer {
    collector: Collector,
    recorder: Recorder,
}

impl TurnTimer {
    /// A timer for a run with these times.
    pub(crate) fn new(clock: RunClock) -> Self {
        let collector = Collector::new(clock);
        let recorder = collector.recorder();
        TurnTimer { collector, recorder }
    }

    /// Times one turn.
    ///
    /// # Errors
    /// The work's own.
    pub(crate) async fn time<T>(
        &mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let done = work.await?;
        self.recorder.stored(began, Instant::now());
        Ok(done)
    }

    /// What was measured.
    pub(crate) async fn finish(self) -> Measurement {
        let TurnTimer { collector, recorder } = self;
        drop(recorder);
        collector.collect(BenchProgress::hidden()).await
    }
}
