//! What the comparison has found.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use serde::Serialize;

use super::options::CompareOptions;
use crate::usage::{CpuSeconds, Machine, ProcessMemory};

/// What is measured, once a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Messages a second, over 8 connections.
    #[serde(rename = "direct_8")]
    Direct8,
    /// Over 16.
    #[serde(rename = "direct_16")]
    Direct16,
    /// Over 32.
    #[serde(rename = "direct_32")]
    Direct32,
    /// Messages a second by COPY.
    Copy,
    /// Messages a second by AppendMessage.
    Unary,
    /// Messages a second by StreamAppendMessages.
    Stream,
    /// The same with two citations each.
    StreamWithCitations,
    /// A lone direct append, milliseconds.
    LoneDirectP50,
    /// The same.
    LoneDirectP99,
    /// A lone AppendMessage, milliseconds.
    LoneUnaryP50,
    /// The same.
    LoneUnaryP99,
    /// Pages a second by ListMessages.
    List,
    /// Pages a second by SELECT.
    Select,
    /// A lone append to the large session, milliseconds.
    AppendLargeP50,
    /// A lone append to an empty session, milliseconds.
    AppendEmptyP50,
    /// Messages a second to the large session alone.
    AppendLarge,
    /// Messages a second to an empty session alone.
    AppendEmpty,
}

impl Metric {
    /// The metric for people: what it is, and its unit.
    fn label(self) -> (&'static str, &'static str) {
        match self {
            Metric::Direct8 => ("direct, 8 connections", "messages/s"),
            Metric::Direct16 => ("direct, 16 connections", "messages/s"),
            Metric::Direct32 => ("direct, 32 connections", "messages/s"),
            Metric::Copy => ("COPY, 1 connection", "messages/s"),
            Metric::Unary => ("AppendMessage", "messages/s"),
            Metric::Stream => ("StreamAppendMessages", "messages/s"),
            Metric::StreamWithCitations => ("the same, 2 citations", "messages/s"),
            Metric::LoneDirectP50 => ("lone direct append, p50", "ms"),
            Metric::LoneDirectP99 => ("lone direct append, p99", "ms"),
            Metric::LoneUnaryP50 => ("lone AppendMessage, p50", "ms"),
            Metric::LoneUnaryP99 => ("lone AppendMessage, p99", "ms"),
            Metric::List => ("ListMessages, 50", "pages/s"),
            Metric::Select => ("SELECT, 50", "pages/s"),
            Metric::AppendLargeP50 => ("lone append, large session, p50", "ms"),
            Metric::AppendEmptyP50 => ("lone append, empty session, p50", "ms"),
            Metric::AppendLarge => ("AppendMessage, large session", "messages/s"),
            Metric::AppendEmpty => ("AppendMessage, empty session", "messages/s"),
        }
    }
}

/// One metric over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// The median of the rounds.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// One a round, in their order.
    pub rounds: Vec<f64>,
}

impl Summary {
    /// The summary of at least one round.
    pub(crate) fn of(rounds: Vec<f64>) -> Self {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        };
        Summary {
            median,
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            rounds,
        }
    }
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
    /// What was measured.
    pub(crate) metrics: BTreeMap<Metric, Summary>,
    /// What the parties used, by competitor, one a round, warm-up included.
    pub(crate) cpu_seconds: BTreeMap<&'static str, Vec<CpuSeconds>>,
    /// The server's memory when it had started, where it is ours.
    pub(crate) server_memory_before: Option<ProcessMemory>,
    /// And at the end.
    pub(crate) server_memory_after: Option<ProcessMemory>,
    /// How many sessions have a gap, or another number of messages than their counter says: none.
    pub broken_sessions: i64,
}

/// What the service is measured by.
pub(super) fn ratios(metrics: &BTreeMap<Metric, Summary>) -> BTreeMap<&'static str, Option<f64>> {
    let median = |metric| metrics.get(&metric).map(|summary| summary.median);
    let direct = [Metric::Direct8, Metric::Direct16, Metric::Direct32]
        .into_iter()
        .filter_map(median)
        .max_by(f64::total_cmp);
    let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
    BTreeMap::from([
        ("stream_to_direct", ratio(median(Metric::Stream), direct)),
        (
            "stream_to_copy",
            ratio(median(Metric::Stream), median(Metric::Copy)),
        ),
        (
            "stream_with_citations_to_direct",
            ratio(median(Metric::StreamWithCitations), direct),
        ),
        ("unary_to_direct", ratio(median(Metric::Unary), direct)),
        (
            "lone_p50_to_direct",
            ratio(median(Metric::LoneUnaryP50), median(Metric::LoneDirectP50)),
        ),
        (
            "list_to_select",
            ratio(median(Metric::List), median(Metric::Select)),
        ),
        (
            "append_at_1m_to_empty",
            ratio(median(Metric::AppendLargeP50), median(Metric::AppendEmptyP50)),
        ),
    ])
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
        let _ = writeln!(
            text,
            "{:<32} {:>10} {:>21}  unit        processor: client, server, PostgreSQL",
            "", "median", "min..max"
        );
        for (metric, summary) in &self.metrics {
            let (label, unit) = metric.label();
            let digits = if unit == "ms" { 3 } else { 0 };
            let spread = format!("{:.digits$}..{:.digits$}", summary.min, summary.max);
            let _ = writeln!(
                text,
                "{label:<32} {:>10.digits$} {spread:>21}  {unit:<10}  {}",
                summary.median,
                self.shares(*metric)
            );
        }
        text.push('\n');
        for (name, ratio) in &self.ratios {
            let ratio = ratio.map_or("?".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(text, "{name:<32} {ratio:>10}");
        }
        if let Some(memory) = &self.server_memory_after {
            let _ = writeln!(
                text,
                "\nserver memory {:.0} MiB, at most {:.0} MiB",
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

    /// How the processor time of a metric's competitor is divided.
    fn shares(&self, metric: Metric) -> String {
        let competitor = match metric {
            Metric::Direct8 => "direct, 8 connections",
            Metric::Direct16 => "direct, 16 connections",
            Metric::Direct32 => "direct, 32 connections",
            Metric::Copy => "copy",
            Metric::Unary => "unary",
            Metric::Stream => "stream",
            Metric::StreamWithCitations => "stream with citations",
            Metric::List => "list",
            Metric::Select => "select",
            Metric::AppendLarge => "large session",
            Metric::AppendEmpty => "empty session",
            // Two in turn: not to be told apart.
            _ => return String::new(),
        };
        let Some(rounds) = self.cpu_seconds.get(competitor) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let mut metrics = BTreeMap::from([
            (Metric::Direct8, Summary::of(vec![1.0, 9.0, 2.0])),
            (Metric::Direct16, Summary::of(vec![5.0, 3.0])),
            (Metric::Stream, Summary::of(vec![40.0])),
        ]);
        let median = metrics[&Metric::Direct16].median;
        assert!((median - 4.0).abs() < 1e-9 && (metrics[&Metric::Direct8].median - 2.0).abs() < 1e-9);
        assert_eq!(ratios(&metrics)["stream_to_direct"], Some(10.0));
        assert_eq!(ratios(&metrics)["stream_to_copy"], None);
        metrics.insert(Metric::Copy, Summary::of(vec![80.0]));
        assert_eq!(ratios(&metrics)["stream_to_copy"], Some(0.5));
    }
}
