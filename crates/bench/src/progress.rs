//! What is shown while it runs: a line on stderr, where that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::schedule::RunClock;

/// The template of work that is counted.
const COUNTED: &str = "{msg:<28} [{bar:30}] {human_pos}/{human_len} ({eta} left)";
/// The template of work that takes a given time.
const TIMED: &str = "{prefix:<28} [{bar:30}] {msg}";
/// Often enough to look alive.
const SPIN: Duration = Duration::from_millis(100);

/// A progress bar; cheap to clone.
#[derive(Clone, Debug)]
pub struct BenchProgress(ProgressBar);

impl BenchProgress {
    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        BenchProgress(ProgressBar::hidden())
    }

    /// A spinner for something that takes a moment.
    #[must_use]
    pub fn waiting(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.into());
        bar.enable_steady_tick(SPIN);
        BenchProgress(bar)
    }

    /// A bar over so many things.
    #[must_use]
    pub fn counted(what: impl Into<String>, many: u64) -> Self {
        let bar = ProgressBar::new(many).with_message(what.into());
        bar.set_style(style(COUNTED));
        BenchProgress(bar)
    }

    /// A bar over the time of a measurement.
    #[must_use]
    pub fn timed(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new(0).with_prefix(what.into());
        bar.set_style(style(TIMED));
        BenchProgress(bar)
    }

    /// So many more are done.
    pub fn add(&self, many: u64) {
        self.0.inc(many);
    }

    /// Shows how much of the run is over, and a line about it.
    pub(crate) fn show(&self, clock: &RunClock, line: Option<String>) {
        let now = Instant::now();
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.0.set_length(millis(clock.end - clock.start));
        self.0
            .set_position(millis(now.min(clock.end).saturating_duration_since(clock.start)));
        if let Some(line) = line {
            self.0.set_message(line);
        }
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
