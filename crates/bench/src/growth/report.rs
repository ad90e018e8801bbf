//! What growth has cost.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use serde::Serialize;

use super::GrowthOptions;
use crate::{rows::IdKind, summary::Summary, usage::Machine, wanted::Wanted};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GrowthMetric {
    /// Messages a second by StreamAppendMessages.
    Stream,
    /// Messages a second by AppendMessage.
    Unary,
    /// A lone AppendMessage, milliseconds.
    LoneAppendP50,
    /// ListMessages of the last 20, milliseconds.
    ListP50,
}

impl GrowthMetric {
    /// The metric for people, and its unit.
    fn label(self) -> (&'static str, &'static str) {
        match self {
            GrowthMetric::Stream => ("StreamAppendMessages", "messages/s"),
            GrowthMetric::Unary => ("AppendMessage", "messages/s"),
            GrowthMetric::LoneAppendP50 => ("lone AppendMessage, p50", "ms"),
            GrowthMetric::ListP50 => ("ListMessages, last 20, p50", "ms"),
        }
    }

    fn is_rate(self) -> bool {
        matches!(self, GrowthMetric::Stream | GrowthMetric::Unary)
    }

    /// Of random ids it is only told: that they cost more is why they aren't given.
    fn wanted(self, ids: IdKind) -> Option<Wanted> {
        let is_append = self != GrowthMetric::ListP50;
        (is_append && ids == IdKind::V7).then_some(Wanted::AtMost(1.3))
    }
}

/// A metric of both sides.
#[derive(Debug, Serialize)]
pub(crate) struct GrowthNumbers {
    /// Beside an empty table; of lists: beside 20 messages in each session.
    pub(crate) empty: Summary,
    /// With the messages of the step.
    pub(crate) full: Summary,
    /// How many times as much it costs, by the medians.
    pub(crate) cost: f64,
    /// What is wanted of it.
    pub(crate) wanted: Option<Wanted>,
}

impl GrowthNumbers {
    /// Of at least one round of each.
    pub(super) fn of(metric: GrowthMetric, ids: IdKind, empty: Vec<f64>, full: Vec<f64>) -> Self {
        let [empty, full] = [empty, full].map(Summary::of);
        let cost = if metric.is_rate() {
            empty.median / full.median
        } else {
            full.median / empty.median
        };
        GrowthNumbers {
            empty,
            full,
            cost,
            wanted: metric.wanted(ids),
        }
    }
}

/// What was measured at one number of messages.
#[derive(Debug, Serialize)]
pub(crate) struct GrowthStep {
    /// Their ids.
    pub(crate) ids: IdKind,
    /// How many messages were stored before the first round.
    pub(crate) messages: u64,
    /// Their bytes after the last one, with indexes.
    pub(crate) data_bytes: i64,
    /// By metric.
    pub(crate) metrics: BTreeMap<GrowthMetric, GrowthNumbers>,
}

/// The result of `bench growth`.
#[derive(Debug, Serialize)]
pub struct GrowthReport {
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
    /// What was asked for.
    pub options: GrowthOptions,
    /// One after the other.
    pub(crate) steps: Vec<GrowthStep>,
    /// How many sessions have a gap, or another number of messages than their counter says: none.
    pub broken_sessions: i64,
}

impl GrowthReport {
    /// The report as tables, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let setting = |name: &str| self.database.get(name).map_or("?", String::as_str);
        // Writing to a String can't fail; so below.
        let _ = writeln!(
            text,
            "PostgreSQL {}, shared_buffers {}; {} sessions, contents of {} bytes; {} rounds of {:.1} s{}",
            setting("server_version"),
            setting("shared_buffers"),
            self.options.sessions,
            self.options.content_bytes,
            self.options.rounds,
            self.options.round.as_secs_f64(),
            if self.interrupted { ", interrupted" } else { "" },
        );
        for step in &self.steps {
            step.write(&mut text);
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
}

impl GrowthStep {
    fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{} messages with ids {} ({} MiB with indexes)\n{:<28} {:>10} {:>10}  {:<10} {:>6}",
            self.messages,
            self.ids.name(),
            self.data_bytes / (1 << 20),
            "",
            "empty",
            "full",
            "unit",
            "cost"
        );
        for (metric, numbers) in &self.metrics {
            let (label, unit) = metric.label();
            let digits = if metric.is_rate() { 0 } else { 3 };
            let about = match numbers.wanted {
                Some(wanted) if wanted.is_met(numbers.cost) => format!("  wanted: {wanted}"),
                Some(wanted) => format!("  wanted: {wanted}, missed"),
                None => String::new(),
            };
            let _ = writeln!(
                text,
                "{label:<28} {:>10.digits$} {:>10.digits$}  {unit:<10} {:>6.2}{about}",
                numbers.empty.median, numbers.full.median, numbers.cost
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_rate_and_a_longer_time_cost_more() {
        for (metric, empty, full) in [
            (GrowthMetric::Stream, 300.0, 200.0),
            (GrowthMetric::ListP50, 2.0, 3.0),
        ] {
            let numbers = GrowthNumbers::of(metric, IdKind::V7, vec![empty], vec![full]);
            assert!((numbers.cost - 1.5).abs() < 1e-9, "{metric:?}: {numbers:?}");
        }
    }
}
