//! The measurements of a step: each of both sides right after the other, whose order changes from round to round.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::ensure;
use uuid::Uuid;

use super::{
    GrowthOptions,
    report::{GrowthMetric, GrowthNumbers},
    side::{Sides, StoredSide},
};
use crate::{
    append::{self, AppendMode, FRAME_ENTRIES, Load},
    halt::Halt,
    progress::BenchProgress,
    rows::{Filling, IdKind},
    schedule::RunClock,
    target::{self, append_one},
    turns::TurnTimer,
    workload::MessageKey,
};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

/// How many messages a list has: what a turn of a chat needs. Each session has as many before anything is measured.
pub const LISTED: u64 = 20;
/// Streams that append.
const STREAMS: usize = 8;
/// How often the appends that nobody measures touch each session on average: so nearly all pages that appends change have
/// been written whole since the checkpoint, which is what the first change of each costs.
const SETTLING: u64 = 4;

/// What was measured of both, round by round.
type Rounds = BTreeMap<GrowthMetric, [Vec<f64>; 2]>;

/// All measurements of a step.
pub(super) async fn measure(
    sides: &Sides<'_>,
    ids: IdKind,
    options: &GrowthOptions,
    halt: &Halt,
) -> anyhow::Result<BTreeMap<GrowthMetric, GrowthNumbers>> {
    let step = Step {
        sides: [sides.empty, sides.full],
        ids,
        options,
        halt,
    };
    let mut rounds = Rounds::new();
    for round in 0..options.rounds {
        step.appends(round, &mut rounds).await?;
    }
    // Last, since it wants messages in the empty one.
    step.lists(&mut rounds).await?;
    Ok(rounds
        .into_iter()
        .filter(|(_, [empty, full])| !empty.is_empty() && !full.is_empty())
        .map(|(metric, [empty, full])| (metric, GrowthNumbers::of(metric, ids, empty, full)))
        .collect())
}

struct Step<'a> {
    /// The empty one, and the full one.
    sides: [&'a StoredSide; 2],
    ids: IdKind,
    options: &'a GrowthOptions,
    halt: &'a Halt,
}

impl Step<'_> {
    /// A round of appends: streamed, unary, and lone ones.
    async fn appends(&self, round: u32, rounds: &mut Rounds) -> anyhow::Result<()> {
        self.settle().await?;
        let order = if round.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for (metric, mode) in [
            (GrowthMetric::Stream, AppendMode::Stream),
            (GrowthMetric::Unary, AppendMode::Unary),
        ] {
            for side in order {
                let load = self.load(mode, self.options.warm_up, self.options.round);
                let label = format!("{}/{} {}", round + 1, self.options.rounds, mode.name());
                let rate = self.append(side, &load, BenchProgress::timed(label)).await?;
                self.keep(rounds, metric, side, rate);
            }
        }
        let [empty, full] = self.lone_appends().await?;
        self.keep(rounds, GrowthMetric::LoneAppendP50, 0, empty);
        self.keep(rounds, GrowthMetric::LoneAppendP50, 1, full);
        Ok(())
    }

    /// What was interrupted is no measurement.
    fn keep(&self, rounds: &mut Rounds, metric: GrowthMetric, side: usize, value: f64) {
        if !self.halt.is_asked() {
            rounds.entry(metric).or_default()[side].push(value);
        }
    }

    /// Empties the empty one, and does what has to be done now and then, so that it falls on nobody.
    async fn settle(&self) -> anyhow::Result<()> {
        let progress = BenchProgress::waiting("VACUUM and CHECKPOINT");
        self.sides[0].clear().await?;
        for side in self.sides {
            side.database.vacuum().await?;
            side.database.checkpoint().await?;
        }
        progress.clear();
        for side in 0..self.sides.len() {
            let until = self.sides[side].stored().await? + SETTLING * self.options.sessions as u64;
            let load = self.load(AppendMode::Stream, Duration::ZERO, self.options.round);
            while self.sides[side].stored().await? < until && !self.halt.is_asked() {
                self.append(side, &load, BenchProgress::hidden()).await?;
            }
        }
        Ok(())
    }

    fn load(&self, mode: AppendMode, warm_up: Duration, duration: Duration) -> Load {
        Load {
            mode,
            in_flight: match mode {
                AppendMode::Stream => self.options.stream_in_flight,
                AppendMode::Unary | AppendMode::Batch => self.options.unary_in_flight,
            },
            streams: STREAMS.min(self.options.stream_in_flight),
            connections: self.sides[0].channels.len(),
            frame_entries: FRAME_ENTRIES,
            batch_messages: 1,
            rate: None,
            warm_up,
            duration,
        }
    }

    /// Messages a second.
    async fn append(&self, side: usize, load: &Load, progress: BenchProgress) -> anyhow::Result<f64> {
        let StoredSide { channels, .. } = self.sides[side];
        let workload = self.sides[side].workload(self.ids);
        let ran = append::run_over(channels, &workload, load, false, self.halt, progress).await?;
        ensure!(
            ran.measured.errors.is_empty(),
            "{} appends failed: {:?}",
            load.mode.name(),
            ran.measured.errors
        );
        Ok(ran.measured.throughput())
    }

    /// The p50 of lone appends to both in turn.
    async fn lone_appends(&self) -> anyhow::Result<[f64; 2]> {
        let workloads = self.sides.map(|side| side.workload(self.ids));
        let mut number = 0;
        self.in_turn(async |side| {
            number += 1;
            let key = MessageKey { sender: 0, number };
            append_one(&self.sides[side].channels[0], &workloads[side], key).await
        })
        .await
    }

    /// The p50 of lists of the last messages of both in turn. The empty one gets as many as such a list has.
    async fn lists(&self, rounds: &mut Rounds) -> anyhow::Result<()> {
        let workloads = self.sides.map(|side| side.workload(self.ids));
        self.sides[0].clear().await?;
        let filling = Filling {
            each: LISTED.cast_signed(),
            content_bytes: self.options.content_bytes,
            ids: self.ids,
        };
        self.sides[0]
            .database
            .fill(workloads[0].sessions(), &filling)
            .await?;
        for side in self.sides {
            side.database.vacuum().await?;
            side.database.checkpoint().await?;
        }
        let mut rng = fastrand::Rng::with_seed(self.options.seed);
        for _ in 0..self.options.rounds {
            let [empty, full] = self
                .in_turn(async |side| {
                    let sessions = workloads[side].sessions();
                    let session = sessions[rng.usize(..sessions.len())];
                    list_last(&self.sides[side].channels[0], session).await
                })
                .await?;
            self.keep(rounds, GrowthMetric::ListP50, 0, empty);
            self.keep(rounds, GrowthMetric::ListP50, 1, full);
        }
        Ok(())
    }

    /// The p50 of what is done with both in turn, in milliseconds.
    async fn in_turn(
        &self,
        mut work: impl AsyncFnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<[f64; 2]> {
        let clock = RunClock::start(self.options.warm_up, self.options.round);
        let mut timers = [0, 1].map(|_| TurnTimer::new(clock));
        while Instant::now() < clock.end && !self.halt.is_asked() {
            for (side, timer) in timers.iter_mut().enumerate() {
                timer.time(work(side)).await?;
            }
        }
        let [empty, full] = timers;
        Ok([
            empty.finish().await.millis(50.0),
            full.finish().await.millis(50.0),
        ])
    }
}

async fn list_last(channel: &ServerChannel, session: Uuid) -> anyhow::Result<()> {
    let request = pb::ListMessagesRequest {
        session_id: session.to_string(),
        page_size: i32::try_from(LISTED)?,
        order: pb::MessageOrder::SeqDesc.into(),
        chronological: true,
        ..Default::default()
    };
    let answer = target::messages(channel).list_messages(request).await;
    let page = black_box(
        answer
            .map_err(|status| chatledger_client::explain(&status))?
            .into_inner(),
    );
    ensure!(
        page.messages.len() as u64 == LISTED,
        "a list of {} messages instead of {LISTED}",
        page.messages.len()
    );
    Ok(())
}
