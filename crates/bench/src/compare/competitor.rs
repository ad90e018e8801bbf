//! Who is compared, in one place: the runs of a round.

use super::direct::{DIRECT_CONNECTIONS, DirectForm};

/// A run of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Competitor {
    Direct(DirectForm, usize),
    Copy,
    Unary,
    Stream,
    StreamWithCitations,
    LoneAppends,
    List,
    Select,
    SelectTwoStatements,
    ListOf170,
    SelectJsonAgg,
    ListMany,
    SelectMany,
    UncachedPages,
    Histories,
    HistoriesWithCitations,
    Watch,
    LargeSessionLone,
    LargeSession,
    EmptySession,
}

impl Competitor {
    pub(super) fn all() -> Vec<Self> {
        let forms = [DirectForm::Transaction, DirectForm::SingleStatement];
        let mut all: Vec<Self> = forms
            .into_iter()
            .flat_map(|form| DIRECT_CONNECTIONS.map(|connections| Self::Direct(form, connections)))
            .collect();
        all.extend([
            Self::Copy,
            Self::Unary,
            Self::Stream,
            Self::StreamWithCitations,
            Self::LoneAppends,
            Self::List,
            Self::Select,
            Self::SelectTwoStatements,
            Self::ListOf170,
            Self::SelectJsonAgg,
            Self::ListMany,
            Self::SelectMany,
            Self::UncachedPages,
            Self::Histories,
            Self::HistoriesWithCitations,
            Self::Watch,
            Self::LargeSessionLone,
            Self::LargeSession,
            Self::EmptySession,
        ]);
        all
    }

    /// The name in the report and on the progress bar.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct(DirectForm::Transaction, 8) => "direct, 8 connections",
            Self::Direct(DirectForm::Transaction, 16) => "direct, 16 connections",
            Self::Direct(DirectForm::Transaction, _) => "direct, 32 connections",
            Self::Direct(DirectForm::SingleStatement, 8) => "single statement, 8 connections",
            Self::Direct(DirectForm::SingleStatement, 16) => "single statement, 16 connections",
            Self::Direct(DirectForm::SingleStatement, _) => "single statement, 32 connections",
            Self::Copy => "copy",
            Self::Unary => "unary",
            Self::Stream => "stream",
            Self::StreamWithCitations => "stream with citations",
            Self::LoneAppends => "lone appends",
            Self::List => "list",
            Self::Select => "select",
            Self::SelectTwoStatements => "select, two statements",
            Self::ListOf170 => "list of 170",
            Self::SelectJsonAgg => "select, json_agg",
            Self::ListMany => "list, many readers",
            Self::SelectMany => "select, many readers",
            Self::UncachedPages => "uncached pages",
            Self::Histories => "histories",
            Self::HistoriesWithCitations => "histories with citations",
            Self::Watch => "watch",
            Self::LargeSessionLone => "large session, lone",
            Self::LargeSession => "large session",
            Self::EmptySession => "empty session",
        }
    }
}
