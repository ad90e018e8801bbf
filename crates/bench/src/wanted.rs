//! What a number should be.

use std::fmt;

use serde::Serialize;

/// A bound, which the number is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    /// The more, the better.
    AtLeast(f64),
    /// The less, the better.
    AtMost(f64),
}

impl Wanted {
    /// Whether a number keeps it.
    pub(crate) fn is_met(self, number: f64) -> bool {
        match self {
            Wanted::AtLeast(bound) => number >= bound,
            Wanted::AtMost(bound) => number <= bound,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::AtLeast(bound) => write!(f, "at least {bound}"),
            Wanted::AtMost(bound) => write!(f, "at most {bound}"),
        }
    }
}
