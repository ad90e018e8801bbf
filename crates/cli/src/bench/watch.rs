//! `chatledger bench watch`.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use clap::Args;

use super::{BenchSubject, OutputArgs, ServerArgs, WorkloadArgs, both, rate};
use chatledger::config::duration;
use chatledger_bench::{
    BenchProgress, BenchReport, Circumstances, Halt, Latency, WatchLoad, WatchOutcome, Workload, watch,
};

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How many watchers; they share the sessions evenly
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    watchers: u32,
    #[command(flatten)]
    workload: WorkloadArgs,
    /// Messages a second, over all sessions
    #[arg(long, value_name = "MESSAGES/S", default_value = "1000", value_parser = rate)]
    rate: f64,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// How long to send before measuring
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warm_up: Option<Duration>,
    /// Keep the sessions on the target; they are deleted otherwise
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: WatchArgs, halt: &Halt) -> anyhow::Result<()> {
    args.output.check()?;
    let subject = BenchSubject::open(&args.server, halt).await?;
    let measured = measure(&args, &subject, halt).await;
    let report = both(measured, subject.close().await)?;
    args.output.write(&report)?;
    if report.verify.as_ref().is_some_and(|verified| !verified.ok) {
        bail!("watchers didn't see what was acknowledged, once and in order");
    }
    Ok(())
}

async fn measure(args: &WatchArgs, subject: &BenchSubject, halt: &Halt) -> anyhow::Result<BenchReport> {
    let workload = Arc::new(Workload::new(&args.workload.options()));
    subject
        .with_sessions(&workload, args.keep, halt, async |_| {
            measure_over(args, subject, &workload, halt).await
        })
        .await
}

async fn measure_over(
    args: &WatchArgs,
    subject: &BenchSubject,
    workload: &Arc<Workload>,
    halt: &Halt,
) -> anyhow::Result<BenchReport> {
    let options = WatchLoad {
        watchers: args.watchers as usize,
        rate: args.rate,
        warm_up: args.warm_up.unwrap_or_default(),
        duration: args.duration,
    };
    let before = subject.parties.cpu();
    let watched = watch(
        &subject.target,
        workload,
        &options,
        halt,
        BenchProgress::timed("watch"),
    )
    .await?;
    let cpu_seconds = subject.parties.cpu().since(&before);
    let server_memory = subject.parties.server_memory();
    let WatchOutcome {
        deliveries,
        from_receipt,
        appends,
        verified,
    } = watched;
    let mut settings = args.workload.settings();
    settings.extend([
        ("watchers", args.watchers.into()),
        ("rate", args.rate.into()),
        ("warm_up_seconds", options.warm_up.as_secs_f64().into()),
        ("duration_seconds", args.duration.as_secs_f64().into()),
    ]);
    let around = Circumstances {
        target: subject.name(),
        settings,
        interrupted: halt.is_asked(),
        cpu_seconds,
        server_memory,
    };
    let mut report = BenchReport::of("watch", "delivered", &deliveries, around);
    report.unsent = appends.unsent;
    report.receipt_to_delivery_ms = Some(Latency::of(&from_receipt.latencies));
    report.verify = Some(verified);
    for (code, count) in appends.measured.errors {
        *report.errors.entry(code).or_default() += count;
    }
    Ok(report)
}
