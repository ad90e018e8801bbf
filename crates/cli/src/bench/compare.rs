//! `chatledger bench compare`.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::Args;

use super::{BenchSubject, ServerArgs, both, check_file, rate, write_json};
use crate::output::show;
use chatledger::config::duration;
use chatledger_bench::{CompareOptions, ContentSizes, Halt, compare};

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The target's own database, for the direct competitors: they write to its tables
    #[arg(long, value_name = "URL", requires = "target")]
    database_url: Option<String>,
    /// How often each competitor runs; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each run is measured
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    round_duration: Duration,
    /// How long each runs before that
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    warm_up: Duration,
    /// How many sessions appends go to
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: u32,
    /// How long contents are: a number of bytes, uniform:MIN..MAX, or lognormal:MEDIAN,SIGMA
    #[arg(long, value_name = "SIZES", default_value = "512")]
    content_bytes: ContentSizes,
    /// Unary requests that are unanswered at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,
    /// Streamed messages that are unanswered at a time, over all streams
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    stream_in_flight: u32,
    /// How many streams
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// The most messages of a frame of a stream
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    frame_entries: u16,
    /// How many sessions pages are read of, of 50 messages and of 170 each
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    page_sessions: u32,
    /// How many readers read pages at once, where many do
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    many_readers: u16,
    /// How many sessions there are of which each page is read once; more than shared_buffers hold at 65 KB each
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    uncached_sessions: u32,
    /// How many messages a whole history has
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    history_messages: u32,
    /// Messages a second while others watch
    #[arg(long, value_name = "MESSAGES/S", default_value = "11000", value_parser = rate)]
    watch_rate: f64,
    /// How many messages the large session holds
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    large_session_messages: u32,
    /// Two runs with one seed send the same contents to the same places
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(args: CompareArgs, halt: &Halt) -> anyhow::Result<()> {
    ensure!(
        args.server.target.is_none() || args.database_url.is_some(),
        "--target also needs --database-url, its database, for those that it is compared with"
    );
    check_file("--json", args.json.as_deref())?;
    let options = CompareOptions {
        rounds: args.rounds,
        round: args.round_duration,
        warm_up: args.warm_up,
        sessions: args.sessions as usize,
        content_bytes: args.content_bytes,
        unary_in_flight: args.in_flight.into(),
        stream_in_flight: args.stream_in_flight as usize,
        streams: args.streams.into(),
        frame_entries: args.frame_entries.into(),
        page_sessions: args.page_sessions,
        many_readers: args.many_readers.into(),
        uncached_sessions: args.uncached_sessions,
        history_messages: args.history_messages,
        watch_rate: args.watch_rate,
        large_session_messages: args.large_session_messages.into(),
        seed: args.seed,
    };
    let subject = BenchSubject::open(&args.server, halt).await?;
    let own_url = subject.own.as_ref().map(|own| own.database_url.clone());
    let compared = match own_url.or(args.database_url) {
        Some(url) => compare(&subject.target, &url, subject.parties, options, halt).await,
        None => Err(anyhow::anyhow!("--database-url is missing")),
    };
    let comparison = both(compared, subject.close().await)?;
    show!("{}", comparison.table());
    write_json(args.json.as_deref(), &comparison)?;
    ensure!(
        comparison.broken_sessions == 0,
        "sessions have gaps or wrong counters"
    );
    Ok(())
}
