//! What the comparison has found.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use serde::Serialize;

use super::{metric::Metric, options::CompareOptions, ratio::RATIOS};
use crate::{
    summary::Summary,
    usage::{CpuSeconds, Machine, ProcessMemory},
    wanted::Wanted,
};

/// How little of what is read can have been in a cache.
#[derive(Debug, Serialize)]
pub(crate) struct UncachedData {
    /// The bytes that these sessions take in the database, indexes included. PostgreSQL caches `shared_buffers` of that and of
    /// all else.
    pub(crate) data_bytes: i64,
    /// Whether the kernel was told to forget their files before each run; none where there was none.
    pub(crate) leaves_page_cache: Option<bool>,
}

/// The result of `bench compare`.
#[derive(Debug, Serialize)]
pub struct BenchComparison {
    /// The version of this program.
    pub version: &'static str,
    /// When it ended.
    pub time: Timestamp,
    /// Whether Ctrl-C ended it before its time.
    pub interrupted: bool,
    /// Where it was measured.
    pub(crate) machine: Machine,
    /// PostgreSQL's settings.
    pub database: BTreeMap<String, String>,
    /// The comparison's.
    pub options: CompareOptions,
    /// Medians over medians; none where one of them is missing.
    pub ratios: BTreeMap<&'static str, Option<f64>>,
    /// What is wanted of ratios and metrics, by their names.
    pub(crate) wanted: BTreeMap<String, Wanted>,
    /// What was measured.
    pub(crate) metrics: BTreeMap<Metric, Summary>,
    /// What uncached pages were read of.
    pub(crate) uncached: UncachedData,
    /// What the parties used, by competitor, one a round, warm-up included.
    pub(crate) cpu_seconds: BTreeMap<&'static str, Vec<CpuSeconds>>,
    /// The server's memory when it had started, where it is ours.
    pub(crate) server_memory_before: Option<ProcessMemory>,
    /// And at the end.
    pub(crate) server_memory_after: Option<ProcessMemory>,
    /// How many sessions have a gap, or another number of messages than their counter says: none.
    pub broken_sessions: i64,
}

/// What is wanted, by the name that the number has in the report.
pub(super) fn wanted() -> BTreeMap<String, Wanted> {
    let ratios = RATIOS
        .iter()
        .filter_map(|ratio| Some((ratio.name.to_owned(), ratio.wanted?)));
    let metrics = [Metric::WatchP99].into_iter().filter_map(|metric| {
        let name = serde_json::to_value(metric).ok()?;
        Some((name.as_str()?.to_owned(), metric.wanted()?))
    });
    ratios.chain(metrics).collect()
}

impl BenchComparison {
    /// The comparison as a table, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let setting = |name: &str| self.database.get(name).map_or("?", String::as_str);
        // Writing to a String can't fail; so below.
        let _ = writeln!(
            text,
            "PostgreSQL {}, fsync {}, synchronous_commit {}; {} rounds of {:.1} s{}\n",
            setting("server_version"),
            setting("fsync"),
            setting("synchronous_commit"),
            self.options.rounds,
            self.options.round.as_secs_f64(),
            if self.interrupted { ", interrupted" } else { "" },
        );
        self.write_metrics(&mut text);
        self.write_ratios(&mut text);
        let _ = writeln!(text, "\n{}", self.about_uncached());
        if let Some(memory) = &self.server_memory_after {
            let _ = writeln!(
                text,
                "server memory {:.0} MiB, at most {:.0} MiB",
                memory.resident_mib, memory.peak_mib
            );
        }
        if self.broken_sessions != 0 {
            let _ = writeln!(
                text,
                "\nBROKEN: {} sessions have gaps or wrong counters",
                self.broken_sessions
            );
        }
        text
    }

    fn write_metrics(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<32} {:>10} {:>21}  unit        processor: client, server, PostgreSQL",
            "", "median", "min..max"
        );
        for (metric, summary) in &self.metrics {
            let (label, unit) = metric.label();
            let digits = if unit == "ms" { 3 } else { 0 };
            let spread = format!("{:.digits$}..{:.digits$}", summary.min, summary.max);
            let about = match metric.wanted() {
                Some(wanted) => verdict(wanted, summary.median),
                None => self.shares(*metric),
            };
            let _ = writeln!(
                text,
                "{label:<32} {:>10.digits$} {spread:>21}  {unit:<10}  {about}",
                summary.median,
            );
        }
    }

    fn write_ratios(&self, text: &mut String) {
        text.push('\n');
        for one in &RATIOS {
            let value = self.ratios.get(one.name).copied().flatten();
            let shown = value.map_or("?".to_owned(), |ratio| format!("{ratio:.2}"));
            let about = match (one.wanted, value) {
                (Some(wanted), Some(value)) => verdict(wanted, value),
                _ => String::new(),
            };
            let line = format!("{:<34} {shown:>8}  {about}", one.name);
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }

    fn about_uncached(&self) -> String {
        let forgets = match self.uncached.leaves_page_cache {
            Some(true) => "the kernel was told to forget them",
            Some(false) => "the kernel may have them cached",
            None => "none were read",
        };
        format!(
            "uncached pages: of {} MiB of rows and indexes, with shared_buffers of {}; {forgets}",
            self.uncached.data_bytes / (1 << 20),
            self.database.get("shared_buffers").map_or("?", String::as_str)
        )
    }

    /// How the processor time of a metric's competitor is divided.
    fn shares(&self, metric: Metric) -> String {
        let competitor = metric.competitor();
        let Some(rounds) = competitor.and_then(|competitor| self.cpu_seconds.get(competitor.name())) else {
            return String::new();
        };
        let sum = |party: fn(&CpuSeconds) -> Option<f64>| rounds.iter().filter_map(party).sum::<f64>();
        let parties = [
            sum(|cpu| cpu.client),
            sum(|cpu| cpu.server),
            sum(|cpu| cpu.postgres),
        ];
        let all: f64 = parties.iter().sum();
        if all <= 0.0 {
            return String::new();
        }
        let [client, server, postgres] = parties.map(|party| format!("{:.0} %", 100.0 * party / all));
        format!("{client}, {server}, {postgres}")
    }
}

/// What was wanted, and whether it is reached.
fn verdict(wanted: Wanted, value: f64) -> String {
    let reached = if wanted.is_met(value) { "" } else { ", missed" };
    format!("wanted: {wanted}{reached}")
}
