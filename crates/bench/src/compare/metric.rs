//! What is measured, once a round.

use serde::Serialize;

use super::{
    competitor::Competitor,
    direct::DirectForm::{SingleStatement, Transaction},
};
use crate::wanted::Wanted;

/// A number of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Messages a second by transactions over 8 connections.
    #[serde(rename = "direct_8")]
    Direct8,
    /// Over 16.
    #[serde(rename = "direct_16")]
    Direct16,
    /// Over 32.
    #[serde(rename = "direct_32")]
    Direct32,
    /// Messages a second by single statements over 8 connections.
    #[serde(rename = "single_statement_8")]
    Single8,
    /// Over 16.
    #[serde(rename = "single_statement_16")]
    Single16,
    /// Over 32.
    #[serde(rename = "single_statement_32")]
    Single32,
    /// Messages a second by COPY.
    Copy,
    /// Messages a second by AppendMessage.
    Unary,
    /// Messages a second by StreamAppendMessages.
    Stream,
    /// The same with two citations each.
    StreamWithCitations,
    /// A lone transaction, milliseconds.
    LoneDirectP50,
    /// The same.
    LoneDirectP99,
    /// A lone single statement, milliseconds.
    #[serde(rename = "lone_single_statement_p50")]
    LoneSingleP50,
    /// The same.
    #[serde(rename = "lone_single_statement_p99")]
    LoneSingleP99,
    /// A lone AppendMessage, milliseconds.
    LoneUnaryP50,
    /// The same.
    LoneUnaryP99,
    /// Pages a second by ListMessages.
    List,
    /// Pages a second by the lateral SELECT.
    Select,
    /// Pages a second of the same by two SELECTs.
    SelectTwoStatements,
    /// Pages a second by ListMessages, of sessions of 170.
    #[serde(rename = "list_of_170")]
    ListOf170,
    /// Pages a second of the same by json_agg.
    SelectJsonAgg,
    /// Pages a second by ListMessages, with many readers.
    ListMany,
    /// What 99 in a hundred of these waited at most, milliseconds.
    ListManyP99,
    /// Pages a second by the lateral SELECT, with many readers.
    SelectMany,
    /// The same as for ListMessages.
    SelectManyP99,
    /// A lone page by ListMessages that nobody has read before, milliseconds.
    UncachedListP50,
    /// Such a page by the lateral SELECT, milliseconds.
    UncachedSelectP50,
    /// A whole history by ReadMessages, milliseconds.
    ReadP50,
    /// The same rows by SELECT, milliseconds.
    HistorySelectP50,
    /// A whole history with citations by ReadMessages, milliseconds.
    ReadWithCitationsP50,
    /// The same rows by SELECT, milliseconds.
    HistorySelectWithCitationsP50,
    /// From when a message was due until a watcher had it, milliseconds.
    WatchP50,
    /// The same.
    WatchP99,
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
    pub(super) fn label(self) -> (&'static str, &'static str) {
        match self {
            Metric::Direct8 => ("direct, 8 connections", "messages/s"),
            Metric::Direct16 => ("direct, 16 connections", "messages/s"),
            Metric::Direct32 => ("direct, 32 connections", "messages/s"),
            Metric::Single8 => ("single statement, 8 connections", "messages/s"),
            Metric::Single16 => ("single statement, 16 connections", "messages/s"),
            Metric::Single32 => ("single statement, 32 connections", "messages/s"),
            Metric::Copy => ("COPY, 1 connection", "messages/s"),
            Metric::Unary => ("AppendMessage", "messages/s"),
            Metric::Stream => ("StreamAppendMessages", "messages/s"),
            Metric::StreamWithCitations => ("the same, 2 citations", "messages/s"),
            Metric::LoneDirectP50 => ("lone direct append, p50", "ms"),
            Metric::LoneDirectP99 => ("lone direct append, p99", "ms"),
            Metric::LoneSingleP50 => ("lone single statement, p50", "ms"),
            Metric::LoneSingleP99 => ("lone single statement, p99", "ms"),
            Metric::LoneUnaryP50 => ("lone AppendMessage, p50", "ms"),
            Metric::LoneUnaryP99 => ("lone AppendMessage, p99", "ms"),
            Metric::List => ("ListMessages, 50", "pages/s"),
            Metric::Select => ("SELECT, 50", "pages/s"),
            Metric::SelectTwoStatements => ("two SELECTs, 50", "pages/s"),
            Metric::ListOf170 => ("ListMessages, 50 of 170", "pages/s"),
            Metric::SelectJsonAgg => ("SELECT json_agg, 50 of 170", "pages/s"),
            Metric::ListMany => ("ListMessages, many readers", "pages/s"),
            Metric::ListManyP99 => ("ListMessages, many readers, p99", "ms"),
            Metric::SelectMany => ("SELECT, many readers", "pages/s"),
            Metric::SelectManyP99 => ("SELECT, many readers, p99", "ms"),
            Metric::UncachedListP50 => ("ListMessages, uncached, p50", "ms"),
            Metric::UncachedSelectP50 => ("SELECT, uncached, p50", "ms"),
            Metric::ReadP50 => ("ReadMessages, p50", "ms"),
            Metric::HistorySelectP50 => ("SELECT of the same, p50", "ms"),
            Metric::ReadWithCitationsP50 => ("ReadMessages, 2 citations, p50", "ms"),
            Metric::HistorySelectWithCitationsP50 => ("SELECTs of the same, p50", "ms"),
            Metric::WatchP50 => ("WatchMessages, delivery, p50", "ms"),
            Metric::WatchP99 => ("WatchMessages, delivery, p99", "ms"),
            Metric::AppendLargeP50 => ("lone append, large session, p50", "ms"),
            Metric::AppendEmptyP50 => ("lone append, empty session, p50", "ms"),
            Metric::AppendLarge => ("AppendMessage, large session", "messages/s"),
            Metric::AppendEmpty => ("AppendMessage, empty session", "messages/s"),
        }
    }

    /// Whose processor time belongs to it. None where two take turns, whose shares can't be told apart.
    pub(super) fn competitor(self) -> Option<Competitor> {
        Some(match self {
            Metric::Direct8 => Competitor::Direct(Transaction, 8),
            Metric::Direct16 => Competitor::Direct(Transaction, 16),
            Metric::Direct32 => Competitor::Direct(Transaction, 32),
            Metric::Single8 => Competitor::Direct(SingleStatement, 8),
            Metric::Single16 => Competitor::Direct(SingleStatement, 16),
            Metric::Single32 => Competitor::Direct(SingleStatement, 32),
            Metric::Copy => Competitor::Copy,
            Metric::Unary => Competitor::Unary,
            Metric::Stream => Competitor::Stream,
            Metric::StreamWithCitations => Competitor::StreamWithCitations,
            Metric::List => Competitor::List,
            Metric::Select => Competitor::Select,
            Metric::SelectTwoStatements => Competitor::SelectTwoStatements,
            Metric::ListOf170 => Competitor::ListOf170,
            Metric::SelectJsonAgg => Competitor::SelectJsonAgg,
            Metric::ListMany => Competitor::ListMany,
            Metric::SelectMany => Competitor::SelectMany,
            Metric::WatchP50 => Competitor::Watch,
            Metric::AppendLarge => Competitor::LargeSession,
            Metric::AppendEmpty => Competitor::EmptySession,
            _ => return None,
        })
    }

    /// What it should be by itself, whatever the others reach.
    pub(super) fn wanted(self) -> Option<Wanted> {
        match self {
            // What people don't notice while others write.
            Metric::WatchP99 => Some(Wanted::AtMost(50.0)),
            _ => None,
        }
    }
}
