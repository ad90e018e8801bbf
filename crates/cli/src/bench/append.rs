//! `chatledger bench append`.

use std::{sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use clap::{ArgAction, Args};

use super::{BenchSubject, OutputArgs, ServerArgs, WorkloadArgs, both, rate};
use chatledger::config::duration;
use chatledger_bench::{
    AnswerLog, AppendMode, BenchProgress, BenchReport, Circumstances, Halt, LedgerVerification, Load,
    Workload, append, verify,
};
use chatledger_client::ServerChannel;

/// Requests on one connection: half of what servers commonly allow (hyper: 200).
const A_CONNECTION: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// How to append
    #[arg(long, value_enum, default_value_t = AppendMode::Stream)]
    mode: AppendMode,
    #[command(flatten)]
    server: ServerArgs,
    /// The most that is unanswered at a time: requests, or messages over all streams [default: unary 256, batch 64,
    /// stream 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: Option<u32>,
    /// How many streams (--mode stream)
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// How many connections [default: one for each 100 requests or streams]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: Option<u16>,
    /// The most messages of a frame; what is ready goes in one frame (--mode stream)
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    frame_entries: u16,
    /// How many messages a batch has (--mode batch)
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    batch_messages: u16,
    #[command(flatten)]
    workload: WorkloadArgs,
    /// Messages a second, each due at its own time and timed from then; without a rate, the next is sent whenever one
    /// is answered
    #[arg(long, value_name = "MESSAGES/S", value_parser = rate)]
    rate: Option<f64>,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// How long to send before measuring
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warm_up: Option<Duration>,
    /// Read everything back, and compare it with what was acknowledged
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    verify: bool,
    /// Keep the sessions on the target; they are deleted otherwise
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl AppendArgs {
    fn load(&self) -> anyhow::Result<Load> {
        let in_flight = self.in_flight.unwrap_or(match self.mode {
            AppendMode::Unary => 256,
            // Of 50 messages each: more than the server commits at a time.
            AppendMode::Batch => 64,
            // As many as the server's lanes commit at a time, and as many again that gather meanwhile.
            AppendMode::Stream => 8192,
        });
        let senders = match self.mode {
            AppendMode::Stream => u32::from(self.streams),
            AppendMode::Unary | AppendMode::Batch => in_flight,
        };
        ensure!(
            u16::try_from(senders).is_ok(),
            "--in-flight {in_flight}: at most 65535 with --mode {}",
            self.mode.name()
        );
        ensure!(
            self.mode != AppendMode::Stream || in_flight >= senders,
            "--in-flight {in_flight}: must be one for each of the {senders} --streams at least"
        );
        let connections = self.connections.map(usize::from);
        Ok(Load {
            mode: self.mode,
            in_flight: in_flight as usize,
            streams: self.streams.into(),
            connections: connections.unwrap_or((senders as usize).div_ceil(A_CONNECTION)),
            frame_entries: self.frame_entries.into(),
            batch_messages: self.batch_messages.into(),
            rate: self.rate,
            warm_up: self.warm_up.unwrap_or_default(),
            duration: self.duration,
        })
    }
}

pub(super) async fn run(args: AppendArgs, halt: &Halt) -> anyhow::Result<()> {
    let load = args.load()?;
    args.output.check()?;
    let subject = BenchSubject::open(&args.server, halt).await?;
    let measured = measure(&args, &load, &subject, halt).await;
    let report = both(measured, subject.close().await)?;
    args.output.write(&report)?;
    if report.verify.as_ref().is_some_and(|verified| !verified.ok) {
        bail!("what is stored isn't what was acknowledged");
    }
    ensure!(
        report.messages > 0 || report.errors.is_empty(),
        "no message was stored"
    );
    Ok(())
}

async fn measure(
    args: &AppendArgs,
    load: &Load,
    subject: &BenchSubject,
    halt: &Halt,
) -> anyhow::Result<BenchReport> {
    let workload = Arc::new(Workload::new(&args.workload.options()));
    subject
        .with_sessions(&workload, args.keep, halt, async |channel| {
            measure_over(args, load, subject, &workload, channel, halt).await
        })
        .await
}

async fn measure_over(
    args: &AppendArgs,
    load: &Load,
    subject: &BenchSubject,
    workload: &Arc<Workload>,
    channel: &ServerChannel,
    halt: &Halt,
) -> anyhow::Result<BenchReport> {
    let before = subject.parties.cpu();
    let progress = BenchProgress::timed(format!("append, {}", load.mode.name()));
    let mut ran = append(&subject.target, workload, load, args.verify, halt, progress).await?;
    let cpu_seconds = subject.parties.cpu().since(&before);
    let server_memory = subject.parties.server_memory();
    let verified = if args.verify {
        let answers = std::mem::take(&mut ran.answers);
        Some(read_back(channel, workload, answers).await?)
    } else {
        None
    };
    let mut settings = args.workload.settings();
    settings.extend([
        ("mode", load.mode.name().into()),
        ("in_flight", load.in_flight.into()),
        ("connections", load.connections.into()),
        ("rate", load.rate.into()),
        ("warm_up_seconds", load.warm_up.as_secs_f64().into()),
        ("duration_seconds", load.duration.as_secs_f64().into()),
    ]);
    match load.mode {
        AppendMode::Unary => {}
        AppendMode::Batch => {
            settings.insert("batch_messages", load.batch_messages.into());
        }
        AppendMode::Stream => {
            settings.insert("streams", load.streams.into());
            settings.insert("frame_entries", load.frame_entries.into());
        }
    }
    let around = Circumstances {
        target: subject.name(),
        settings,
        interrupted: halt.is_asked(),
        cpu_seconds,
        server_memory,
    };
    Ok(BenchReport::appended(&ran, verified, around))
}

async fn read_back(
    channel: &ServerChannel,
    workload: &Arc<Workload>,
    answers: AnswerLog,
) -> anyhow::Result<LedgerVerification> {
    let progress = BenchProgress::counted("reading everything back", answers.acknowledged() as u64);
    let verified = verify(channel, workload, answers, &progress).await?;
    progress.clear();
    Ok(verified)
}
