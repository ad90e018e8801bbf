//! What a comparison is told.

use std::time::Duration;

use serde::Serialize;

use crate::workload::ContentSizes;

/// Unary requests on one connection: half of what servers commonly allow (hyper: 200).
const A_CONNECTION: usize = 100;

/// What to compare.
#[derive(Clone, Debug, Serialize)]
pub struct CompareOptions {
    /// How often each competitor runs.
    pub rounds: u32,
    /// How long each run is measured, in seconds.
    #[serde(rename = "round_seconds", serialize_with = "seconds")]
    pub round: Duration,
    /// How long each runs before that.
    #[serde(rename = "warm_up_seconds", serialize_with = "seconds")]
    pub warm_up: Duration,
    /// The number of sessions that appends go to.
    pub sessions: usize,
    /// How long contents are.
    #[serde(serialize_with = "text")]
    pub content_bytes: ContentSizes,
    /// Unary requests that are unanswered at a time.
    pub unary_in_flight: usize,
    /// Streamed messages that are unanswered at a time, over all streams.
    pub stream_in_flight: usize,
    /// How many streams.
    pub streams: usize,
    /// The most messages of a frame.
    pub frame_entries: usize,
    /// How many sessions pages are read of.
    pub page_sessions: u32,
    /// How many readers are many.
    pub many_readers: usize,
    /// How many sessions there are of which each page is read once.
    pub uncached_sessions: u32,
    /// How many messages a history has.
    pub history_messages: u32,
    /// Messages a second while others watch.
    pub watch_rate: f64,
    /// How many messages the large session has.
    pub large_session_messages: u64,
    /// The seed of the workload.
    pub seed: u64,
}

impl CompareOptions {
    /// How many connections to the server unary requests need.
    pub(super) fn connections(&self) -> usize {
        self.unary_in_flight.div_ceil(A_CONNECTION).max(1)
    }
}

pub(crate) fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

fn text<S: serde::Serializer>(sizes: &ContentSizes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(sizes)
}
