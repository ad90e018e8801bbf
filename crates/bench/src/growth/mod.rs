//! `bench growth`: do appends, and the list of the last 20, cost more as messages gather? A server over a database that is
//! filled step by step, beside one whose tables are emptied before each round, on one machine.
//!
//! [`side`] is such a server with its database, [`fill`] fills it, [`run`] are the measurements, and [`report`] says what was
//! found.

mod fill;
mod report;
mod run;
mod side;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

pub use report::GrowthReport;
pub use run::LISTED;

use self::{
    report::GrowthStep,
    side::{Sides, StoredSide},
};
use crate::{compare::options::seconds, halt::Halt, progress::BenchProgress, rows::IdKind, usage::Machine};

/// What to measure.
#[derive(Clone, Debug, Serialize)]
pub struct GrowthOptions {
    /// How many messages are stored when it is measured, in growing numbers.
    pub messages: Vec<u64>,
    /// Over how many sessions.
    pub sessions: usize,
    /// With which ids, one after the other.
    pub ids: Vec<IdKind>,
    /// How often each is measured.
    pub rounds: u32,
    /// How long each is measured, in seconds.
    #[serde(rename = "round_seconds", serialize_with = "seconds")]
    pub round: Duration,
    /// How long each runs before that.
    #[serde(rename = "warm_up_seconds", serialize_with = "seconds")]
    pub warm_up: Duration,
    /// How long contents are.
    pub content_bytes: usize,
    /// Unary requests that are unanswered at a time.
    pub unary_in_flight: usize,
    /// Streamed messages that are unanswered at a time, over all streams.
    pub stream_in_flight: usize,
    /// The seed of the workload.
    pub seed: u64,
    /// Where PostgreSQL's programs are, unless they are to be looked for.
    #[serde(skip)]
    pub pg_bin: Option<PathBuf>,
}

/// Runs it to its end, or as many steps of it as there are until it is halted.
///
/// # Errors
/// A server doesn't start, or can't be used; the disk is full.
pub async fn growth(options: GrowthOptions, halt: &Halt) -> anyhow::Result<GrowthReport> {
    let empty = StoredSide::start(&options, halt).await?;
    let measured = measure(&empty, &options, halt).await;
    let settings = empty.database.settings().await;
    empty.stop().await?;
    let (steps, broken_sessions) = measured?;
    Ok(GrowthReport {
        version: env!("CARGO_PKG_VERSION"),
        time: Timestamp::now(),
        interrupted: halt.is_asked(),
        machine: Machine::here(),
        database: settings?,
        options,
        steps,
        broken_sessions,
    })
}

/// All kinds of ids, with a database each.
async fn measure(
    empty: &StoredSide,
    options: &GrowthOptions,
    halt: &Halt,
) -> anyhow::Result<(Vec<GrowthStep>, i64)> {
    let (mut steps, mut broken_sessions) = (Vec::new(), 0);
    for &ids in &options.ids {
        if halt.is_asked() {
            break;
        }
        let full = StoredSide::start(options, halt).await?;
        let measured = steps_of(&Sides { empty, full: &full }, ids, options, halt).await;
        let broken = full.broken_sessions().await;
        full.stop().await?;
        steps.extend(measured?);
        broken_sessions += broken?;
    }
    broken_sessions += empty.broken_sessions().await?;
    Ok((steps, broken_sessions))
}

async fn steps_of(
    sides: &Sides<'_>,
    ids: IdKind,
    options: &GrowthOptions,
    halt: &Halt,
) -> anyhow::Result<Vec<GrowthStep>> {
    let mut steps = Vec::new();
    for &messages in &options.messages {
        if halt.is_asked() {
            break;
        }
        let label = format!("filling, ids {}", ids.name());
        let progress = BenchProgress::counted(label, messages);
        let stored = fill::fill_to(sides.full, messages, ids, options, &progress, halt).await;
        progress.clear();
        let stored = stored?;
        let measured = run::measure(sides, ids, options, halt).await?;
        steps.push(GrowthStep {
            ids,
            messages: stored,
            data_bytes: sides.full.database.read_bytes().await?,
            metrics: measured,
        });
    }
    Ok(steps)
}
