//! What is shown while it runs: how much is done, how fast, and how long it will take. On stderr, where that
//! is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use super::source::Source;

const MESSAGES: &str = "{msg} [{bar:30}] {human_pos}/{human_len} messages, {per_sec}, {eta} left";
const BYTES: &str = "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
const UNKNOWN: &str = "{msg} {human_pos} messages, {per_sec}";

/// A progress bar.
pub struct TransferProgress {
    bar: ProgressBar,
    in_bytes: bool,
}

impl TransferProgress {
    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> TransferProgress {
        TransferProgress {
            bar: ProgressBar::hidden(),
            in_bytes: false,
        }
    }

    /// The progress over a source: by messages, or by bytes of a file.
    ///
    /// # Errors
    /// The source can't be read.
    pub async fn of(source: &Source, what: &'static str) -> anyhow::Result<TransferProgress> {
        let (length, template, in_bytes) = match source {
            Source::Tables(tables) => (Some(tables.count().await?), MESSAGES, false),
            Source::Lines(lines) => match lines.length {
                Some(length) => (Some(length), BYTES, true),
                None => (None, UNKNOWN, false),
            },
        };
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_style(ProgressStyle::with_template(template)?.progress_chars("=> "));
        Ok(TransferProgress {
            bar: bar.with_message(what),
            in_bytes,
        })
    }

    pub(super) fn add(&self, messages: u64) {
        if !self.in_bytes {
            self.bar.inc(messages);
        }
    }

    pub(super) fn at(&self, source: &Source) {
        if let (true, Source::Lines(lines)) = (self.in_bytes, source) {
            self.bar.set_position(lines.position);
        }
    }

    pub(super) fn comparing(&self) {
        self.bar.set_message("comparing");
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
