//! Whether requests should be sent to this server, and why not.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

/// The readiness of the server. A clone is the same.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Option<NotReady>>>);

/// Why requests should be sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The database is being opened, or its schema brought up to date.
    Starting,
    /// The database can't be used, or what is asked of it gets nowhere.
    NotServing,
    /// The server has been asked to stop.
    Stopping,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotReady::Starting => "starting",
            NotReady::NotServing => "the database can't be used",
            NotReady::Stopping => "stopping",
        })
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Readiness(Arc::new(watch::Sender::new(Some(NotReady::Starting))))
    }
}

impl Readiness {
    /// Says whether requests should be sent here. Who stops stays with that.
    pub fn set(&self, reason: Option<NotReady>) {
        self.0.send_if_modified(|current| {
            let changes = *current != Some(NotReady::Stopping) && *current != reason;
            if changes {
                *current = reason;
            }
            changes
        });
    }

    /// Why requests should be sent elsewhere, if they should.
    #[must_use]
    pub fn reason(&self) -> Option<NotReady> {
        *self.0.borrow()
    }

    /// Whether requests should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reason().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_is_never_ready_again() {
        let readiness = Readiness::default();
        assert_eq!(readiness.reason(), Some(NotReady::Starting));
        readiness.set(None);
        assert!(readiness.is_ready());
        readiness.set(Some(NotReady::Stopping));
        readiness.set(None);
        assert_eq!(readiness.reason(), Some(NotReady::Stopping));
    }
}
