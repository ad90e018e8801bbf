//! What the service is measured by: its medians over those of its baselines, and what is wanted of them.

use std::collections::BTreeMap;

use super::metric::Metric;
use crate::{
    summary::Summary,
    wanted::Wanted::{self, AtLeast, AtMost},
};

/// One metric over another.
pub(super) struct Ratio {
    pub(super) name: &'static str,
    of: Metric,
    /// The best of them.
    to: &'static [Metric],
    /// None: for information.
    pub(super) wanted: Option<Wanted>,
}

const DIRECT: &[Metric] = &[Metric::Direct8, Metric::Direct16, Metric::Direct32];
const SINGLE: &[Metric] = &[Metric::Single8, Metric::Single16, Metric::Single32];

const fn ratio(name: &'static str, of: Metric, to: &'static [Metric], wanted: Option<Wanted>) -> Ratio {
    Ratio { name, of, to, wanted }
}

/// All of them, in the order of the report.
pub(super) const RATIOS: [Ratio; 16] = [
    ratio("unary_to_direct", Metric::Unary, DIRECT, Some(AtLeast(3.5))),
    ratio(
        "unary_to_single_statement",
        Metric::Unary,
        SINGLE,
        Some(AtLeast(3.0)),
    ),
    ratio("stream_to_direct", Metric::Stream, DIRECT, Some(AtLeast(12.0))),
    ratio(
        "stream_to_single_statement",
        Metric::Stream,
        SINGLE,
        Some(AtLeast(10.0)),
    ),
    ratio(
        "stream_to_copy",
        Metric::Stream,
        &[Metric::Copy],
        Some(AtLeast(1.0)),
    ),
    ratio(
        "stream_with_citations_to_direct",
        Metric::StreamWithCitations,
        DIRECT,
        Some(AtLeast(6.0)),
    ),
    ratio(
        "lone_p50_to_direct",
        Metric::LoneUnaryP50,
        &[Metric::LoneDirectP50],
        Some(AtMost(1.15)),
    ),
    ratio(
        "lone_p50_to_single_statement",
        Metric::LoneUnaryP50,
        &[Metric::LoneSingleP50],
        Some(AtMost(1.3)),
    ),
    ratio(
        "list_to_select",
        Metric::List,
        &[Metric::Select],
        Some(AtLeast(0.65)),
    ),
    ratio(
        "list_to_two_selects",
        Metric::List,
        &[Metric::SelectTwoStatements],
        None,
    ),
    ratio(
        "list_to_json_agg",
        Metric::ListOf170,
        &[Metric::SelectJsonAgg],
        Some(AtLeast(1.5)),
    ),
    ratio(
        "list_many_to_select",
        Metric::ListMany,
        &[Metric::SelectMany],
        None,
    ),
    ratio(
        "uncached_p50_to_select",
        Metric::UncachedListP50,
        &[Metric::UncachedSelectP50],
        None,
    ),
    ratio(
        "read_p50_to_select",
        Metric::ReadP50,
        &[Metric::HistorySelectP50],
        Some(AtMost(1.2)),
    ),
    ratio(
        "read_with_citations_p50_to_select",
        Metric::ReadWithCitationsP50,
        &[Metric::HistorySelectWithCitationsP50],
        Some(AtMost(1.2)),
    ),
    ratio(
        "append_at_1m_to_empty",
        Metric::AppendLargeP50,
        &[Metric::AppendEmptyP50],
        Some(AtMost(1.1)),
    ),
];

/// The ratios by name; none where one of the two is missing.
pub(super) fn ratios(metrics: &BTreeMap<Metric, Summary>) -> BTreeMap<&'static str, Option<f64>> {
    let median = |metric: &Metric| metrics.get(metric).map(|summary| summary.median);
    let one = |ratio: &Ratio| {
        let below = ratio.to.iter().filter_map(median).max_by(f64::total_cmp);
        Some(median(&ratio.of)? / below?)
    };
    RATIOS.iter().map(|ratio| (ratio.name, one(ratio))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_best_baseline_and_missing_where_it_is() {
        let mut metrics = BTreeMap::from([
            (Metric::Direct8, Summary::of(vec![1.0, 9.0, 2.0])),
            (Metric::Direct16, Summary::of(vec![5.0, 3.0])),
            (Metric::Single32, Summary::of(vec![8.0])),
            (Metric::Stream, Summary::of(vec![40.0])),
        ]);
        assert_eq!(ratios(&metrics)["stream_to_direct"], Some(10.0));
        assert_eq!(ratios(&metrics)["stream_to_single_statement"], Some(5.0));
        assert_eq!(ratios(&metrics)["stream_to_copy"], None);
        metrics.insert(Metric::Copy, Summary::of(vec![80.0]));
        assert_eq!(ratios(&metrics)["stream_to_copy"], Some(0.5));
    }
}
