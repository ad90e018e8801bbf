//! `chatledger bench growth`.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::Args;

use super::{check_file, write_json};
use crate::output::show;
use chatledger::config::duration;
use chatledger_bench::{GrowthOptions, Halt, IdKind, LISTED, growth};

#[derive(Debug, Args)]
pub(crate) struct GrowthArgs {
    /// How many messages are stored when it is measured, in growing numbers; 30 million of 512 bytes take 25 GB in TMPDIR
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        default_value = "10000000,30000000"
    )]
    messages: Vec<u64>,
    /// Over how many sessions
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: u32,
    /// With which ids, one after the other
    #[arg(
        long,
        value_enum,
        value_name = "KIND,KIND",
        value_delimiter = ',',
        default_value = "v7,v4"
    )]
    ids: Vec<IdKind>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each is measured
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    round_duration: Duration,
    /// How long each runs before that
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,
    /// How long contents are
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u32).range(..=1_048_576))]
    content_bytes: u32,
    /// Unary requests that are unanswered at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,
    /// Streamed messages that are unanswered at a time, over all streams
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    stream_in_flight: u32,
    /// Two runs with one seed send the same contents to the same places
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where the programs of its servers' PostgreSQL are [default: wherever they are found]
    #[arg(long, env = "CHATLEDGER_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(args: GrowthArgs, halt: &Halt) -> anyhow::Result<()> {
    let (sessions, messages) = (u64::from(args.sessions), &args.messages);
    ensure!(
        messages.is_sorted_by(|one, next| one < next),
        "--messages: each number must be above the one before it"
    );
    ensure!(
        messages.first() >= Some(&(LISTED * sessions)),
        "--messages: must be {LISTED} at least for each of the {sessions} --sessions"
    );
    check_file("--json", args.json.as_deref())?;
    let options = GrowthOptions {
        messages: args.messages,
        sessions: args.sessions as usize,
        ids: args.ids,
        rounds: args.rounds,
        round: args.round_duration,
        warm_up: args.warm_up,
        content_bytes: args.content_bytes as usize,
        unary_in_flight: args.in_flight.into(),
        stream_in_flight: args.stream_in_flight as usize,
        seed: args.seed,
        pg_bin: args.pg_bin,
    };
    let report = growth(options, halt).await?;
    show!("{}", report.table());
    write_json(args.json.as_deref(), &report)?;
    ensure!(
        report.broken_sessions == 0,
        "sessions have gaps or wrong counters"
    );
    Ok(())
}
