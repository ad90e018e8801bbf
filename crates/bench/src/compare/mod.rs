//! `bench compare`: the service beside what an application would do itself, in one run and on one database.
//!
//! - [`direct`]: what an application does for each message, as a transaction and as a single statement; [`copy`]: COPY.
//! - [`service`]: appends through the service, unary and streamed; and lone ones beside the application's.
//! - [`pages`]: pages of messages with their citations, through the service and by the SELECTs in [`select`]: by a few
//!   readers, by many, and where nothing is cached ([`uncached`]). [`history`]: whole histories.
//! - [`watched`]: how soon those who watch have a message.
//! - [`large_session`]: appends to a session that holds a million messages, and to an empty one.
//!
//! [`parts`] is what all of them use, [`run`] runs one of them ([`competitor`]), and [`report`] has the [`metric`]s and their
//! [`ratio`]s.
//!
//! Rounds are interleaved: each competitor runs once a round, in an order that rotates, so that a machine that is
//! slower for a while is slower for all. Before each round, outside of what is measured, there is a VACUUM (ANALYZE)
//! and a CHECKPOINT, so that they don't fall on one of the competitors; and then some appends, so that nobody pays for
//! the full-page writes that follow a checkpoint. The median of the rounds counts.

mod competitor;
mod copy;
mod direct;
mod history;
mod large_session;
mod metric;
pub(crate) mod options;
mod pages;
mod parts;
mod ratio;
pub(crate) mod report;
mod run;
mod select;
mod service;
mod sessions;
mod uncached;
mod watched;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use options::CompareOptions;

use self::{
    competitor::Competitor,
    metric::Metric,
    parts::ComparisonParts,
    report::{BenchComparison, UncachedData},
};
use super::{
    halt::Halt,
    progress::BenchProgress,
    summary::Summary,
    usage::{CpuSeconds, Machine, Parties},
};
use chatledger_client::ServerTarget;

/// How far the order rotates from round to round: a number that has no factor in common with that of the competitors, so
/// five rounds see five far places.
const ROTATION: usize = 7;

/// Runs the comparison, or as many rounds of it as there are until it is halted.
///
/// # Errors
/// The server or the database can't be used.
pub async fn compare(
    server: &ServerTarget,
    database_url: &str,
    parties: Parties,
    options: CompareOptions,
    halt: &Halt,
) -> anyhow::Result<BenchComparison> {
    let memory_before = parties.server_memory();
    let mut parts = halt
        .unless_asked(Box::pin(ComparisonParts::prepare(
            server,
            database_url,
            options,
            halt,
        )))
        .await?;
    let (measured, cpu_seconds) = rounds(&mut parts, parties, halt).await?;
    let metrics = measured
        .into_iter()
        .map(|(metric, values)| (metric, Summary::of(values)))
        .collect();
    let broken_sessions = parts.database.broken_sessions(&parts.made).await?;
    Ok(BenchComparison {
        version: env!("CARGO_PKG_VERSION"),
        time: Timestamp::now(),
        interrupted: halt.is_asked(),
        machine: Machine::here(),
        database: parts.database.settings().await?,
        uncached: UncachedData {
            data_bytes: parts.uncached.bytes,
            leaves_page_cache: parts.leaves_page_cache,
        },
        ratios: ratio::ratios(&metrics),
        wanted: report::wanted(),
        options: parts.options,
        metrics,
        cpu_seconds,
        server_memory_before: memory_before,
        server_memory_after: parties.server_memory(),
        broken_sessions,
    })
}

/// What the rounds have found, and what the parties used in each run.
type Rounds = (
    BTreeMap<Metric, Vec<f64>>,
    BTreeMap<&'static str, Vec<CpuSeconds>>,
);

async fn rounds(parts: &mut ComparisonParts, parties: Parties, halt: &Halt) -> anyhow::Result<Rounds> {
    let (mut measured, mut cpu) = Rounds::default();
    let mut order = Competitor::all();
    let rounds = parts.options.rounds;
    'rounds: for round in 0..rounds {
        parts.settle().await?;
        for &competitor in &order {
            let label = format!("{}/{rounds} {}", round + 1, competitor.name());
            let before = parties.cpu();
            let results = parts.measure(competitor, &BenchProgress::timed(label)).await?;
            // What was interrupted is no measurement.
            if halt.is_asked() {
                break 'rounds;
            }
            cpu.entry(competitor.name())
                .or_default()
                .push(parties.cpu().since(&before));
            for (metric, value) in results {
                measured.entry(metric).or_default().push(value);
            }
        }
        order.rotate_left(ROTATION);
    }
    Ok((measured, cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_another_order() {
        let count = Competitor::all().len();
        let firsts: std::collections::BTreeSet<usize> =
            (0..count).map(|round| round * ROTATION % count).collect();
        assert_eq!(firsts.len(), count);
    }
}
