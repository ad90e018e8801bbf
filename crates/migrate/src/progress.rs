//! What a migration tells while it runs.

use std::time::Duration;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something began, such as `up chat V2__messages`.
    Began(String),
    /// It goes on.
    Running {
        /// For how long.
        elapsed: Duration,
        /// How far it is, where that is known.
        detail: Option<String>,
    },
    /// A lock wasn't to be had; it is tried again after a pause.
    Retrying {
        /// What PostgreSQL said.
        reason: String,
        /// How long.
        pause: Duration,
    },
    /// Something that people may want to know.
    Note(String),
    /// It is done, after so long.
    Done(Duration),
}

/// Who is told.
pub type Listener = dyn Fn(&Event) + Send + Sync;

/// Tells the log, where servers boot.
pub fn log(event: &Event) {
    match event {
        Event::Began(what) => tracing::info!("migrating: {what}"),
        Event::Running { elapsed, detail } => {
            tracing::debug!(?elapsed, detail, "still migrating");
        }
        Event::Retrying { reason, pause } => {
            tracing::warn!(reason, ?pause, "a migration makes way, and tries again");
        }
        Event::Note(note) => tracing::warn!("{note}"),
        Event::Done(elapsed) => tracing::debug!(?elapsed, "migrated"),
    }
}
