//! What a migration tells while it runs.

use std::time::Duration;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum MigrationEvent {
    /// Something began, such as `up chat V2__messages`.
    Began(String),
    /// The work goes on.
    Running {
        /// The time that it has taken so far.
        elapsed: Duration,
        /// The state of the work, where that is known.
        detail: Option<String>,
    },
    /// A lock wasn't to be had; it is tried again after a pause.
    Retrying {
        /// What PostgreSQL said.
        reason: String,
        /// The length of the pause.
        pause: Duration,
    },
    /// Something that people may want to know.
    Note(String),
    /// The work is done, after so long.
    Done(Duration),
}

/// The listener: who is told.
pub type MigrationListener = dyn Fn(&MigrationEvent) + Send + Sync;

/// Tells the log, where servers boot.
pub(crate) fn log(event: &MigrationEvent) {
    match event {
        MigrationEvent::Began(what) => tracing::info!("migrating: {what}"),
        MigrationEvent::Running { elapsed, detail } => {
            tracing::debug!(?elapsed, detail, "still migrating");
        }
        MigrationEvent::Retrying { reason, pause } => {
            tracing::warn!(reason, ?pause, "a migration makes way, and tries again");
        }
        MigrationEvent::Note(note) => tracing::warn!("{note}"),
        MigrationEvent::Done(elapsed) => tracing::debug!(?elapsed, "migrated"),
    }
}
