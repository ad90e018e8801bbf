//! Sends appends and takes the answers: one file a mode.
//!
//! The load generator shares the machine with what it measures, so it has to be cheap: contents are made
//! beforehand, a sender is one task, a frame of a stream carries many messages, and measuring takes no locks.

mod batch;
mod stream;
mod unary;

use std::{sync::Arc, time::Duration};

use clap::ValueEnum;
use tokio::task::JoinSet;
use tonic::Code;

use super::{
    delivery::DeliveryTimes,
    halt::Halt,
    measure::{Collector, Measurement, Recorder},
    progress::BenchProgress,
    schedule::{RunClock, SendSchedule},
    verify::AnswerLog,
    workload::{MessageKey, Workload},
};
use chatledger_client::{ServerChannel, ServerTarget};

/// How to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AppendMode {
    /// AppendMessage: a request a message
    Unary,
    /// BatchAppendMessages: several messages to one session in a request
    Batch,
    /// StreamAppendMessages: frames of messages to any sessions
    Stream,
}

impl AppendMode {
    /// The mode's name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AppendMode::Unary => "unary",
            AppendMode::Batch => "batch",
            AppendMode::Stream => "stream",
        }
    }
}

/// How hard to push, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// How to append.
    pub mode: AppendMode,
    /// The most requests (of a stream: messages, over all streams) that are unanswered at a time.
    pub in_flight: usize,
    /// How many streams.
    pub streams: usize,
    /// How many connections.
    pub connections: usize,
    /// The most messages of a frame of a stream.
    pub frame_entries: usize,
    /// How many messages a batch has.
    pub batch_messages: usize,
    /// Messages a second, each due at its own time; `None`: as fast as they are answered.
    pub rate: Option<f64>,
    /// How long to send before measuring.
    pub warm_up: Duration,
    /// How long to measure.
    pub duration: Duration,
}

/// What a run has given.
#[derive(Debug)]
pub struct AppendOutcome {
    /// Times and counts.
    pub measured: Measurement,
    /// What is to be found in the sessions.
    pub answers: AnswerLog,
    /// How many messages were due but never sent.
    pub unsent: u64,
}

/// How long a sender in a closed loop pauses after a failure, so that a server in trouble isn't hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// The most messages of a frame where nothing else is asked for: beyond some hundred a frame costs next to nothing
/// a message.
pub(crate) const FRAME_ENTRIES: usize = 256;

/// What a sender needs.
struct Sender {
    id: u16,
    next: u32,
    workload: Arc<Workload>,
    schedule: SendSchedule,
    recorder: Recorder,
    answers: AnswerLog,
    /// Whether the answers are kept, to verify them.
    keep: bool,
    /// Who else wants to know when receipts come.
    times: Option<Arc<DeliveryTimes>>,
}

impl Sender {
    fn next_key(&mut self) -> MessageKey {
        let key = MessageKey {
            sender: self.id,
            number: self.next,
        };
        // At a million a second, an hour: the ids also have the time.
        self.next = self.next.wrapping_add(1);
        key
    }

    fn failed(&mut self, key: MessageKey, code: Code) {
        self.recorder.failed(code, std::time::Instant::now());
        if self.keep && is_uncertain(code) {
            self.answers.uncertain.insert(key);
        }
    }

    async fn pause(&self) {
        if !self.schedule.is_open() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

/// Whether the message may be stored all the same.
fn is_uncertain(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

/// Runs a load to its end, or until it is halted.
///
/// # Errors
/// The target can't be reached, or a sender can't be started.
pub async fn append(
    target: &ServerTarget,
    workload: &Arc<Workload>,
    load: &Load,
    keep: bool,
    halt: &Halt,
    progress: BenchProgress,
) -> anyhow::Result<AppendOutcome> {
    let mut channels = Vec::new();
    for _ in 0..load.connections {
        channels.push(target.connect().await?);
    }
    run_over(&channels, workload, load, keep, halt, progress).await
}

/// The same over connections that are open.
pub(crate) async fn run_over(
    channels: &[ServerChannel],
    workload: &Arc<Workload>,
    load: &Load,
    keep: bool,
    halt: &Halt,
    progress: BenchProgress,
) -> anyhow::Result<AppendOutcome> {
    let run = AppendRun {
        channels,
        workload,
        load,
        clock: RunClock::start(load.warm_up, load.duration),
        keep,
        times: None,
        halt,
    };
    run.run(progress).await
}

/// The same with a clock that runs already, for those who want to know when receipts come.
pub(crate) async fn run_timed(
    channels: &[ServerChannel],
    workload: &Arc<Workload>,
    load: &Load,
    clock: RunClock,
    times: Option<Arc<DeliveryTimes>>,
    halt: &Halt,
) -> anyhow::Result<AppendOutcome> {
    let run = AppendRun {
        channels,
        workload,
        load,
        clock,
        keep: true,
        times,
        halt,
    };
    run.run(BenchProgress::hidden()).await
}

struct AppendRun<'a> {
    channels: &'a [ServerChannel],
    workload: &'a Arc<Workload>,
    load: &'a Load,
    clock: RunClock,
    keep: bool,
    times: Option<Arc<DeliveryTimes>>,
    halt: &'a Halt,
}

impl AppendRun<'_> {
    async fn run(self, progress: BenchProgress) -> anyhow::Result<AppendOutcome> {
        let load = self.load;
        // A batch is due at a time.
        let batch = if load.mode == AppendMode::Batch {
            load.batch_messages
        } else {
            1
        };
        #[allow(clippy::cast_precision_loss)]
        let rate = load.rate.map(|rate| rate / batch as f64);
        let schedule = SendSchedule::new(self.clock, rate, self.halt.clone())?;
        let collector = Collector::new(self.clock);
        let senders = match load.mode {
            AppendMode::Unary | AppendMode::Batch => load.in_flight,
            AppendMode::Stream => load.streams,
        };
        let mut tasks = JoinSet::new();
        for id in 0..u16::try_from(senders)? {
            let channel = self.channels[usize::from(id) % self.channels.len()].clone();
            let sender = Sender {
                id,
                next: 0,
                workload: Arc::clone(self.workload),
                schedule: schedule.clone(),
                recorder: collector.recorder(),
                answers: AnswerLog::default(),
                keep: self.keep,
                times: self.times.clone(),
            };
            match load.mode {
                AppendMode::Unary => tasks.spawn(unary::send(sender, channel)),
                AppendMode::Batch => tasks.spawn(batch::send(sender, channel, batch)),
                AppendMode::Stream => {
                    let share = stream::StreamShare {
                        window: (load.in_flight / senders).max(1),
                        frame_entries: load.frame_entries,
                    };
                    tasks.spawn(stream::send(sender, channel, share))
                }
            };
        }
        let collecting = tokio::spawn(collector.collect(progress));
        let mut answers = AnswerLog::default();
        while let Some(sender) = tasks.join_next().await {
            answers.add(sender?);
        }
        Ok(AppendOutcome {
            measured: collecting.await?,
            answers,
            unsent: schedule.unsent() * batch as u64,
        })
    }
}
