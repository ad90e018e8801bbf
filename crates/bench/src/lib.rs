//! The load tester: `chatledger bench`, for users against their own deployment and for us against ourselves.
//!
//! - [`workload`] decides what is sent, from a seed: to which session, with which content. [`schedule`] decides
//!   when: as soon as there is room (closed loop), or at a rate (open loop).
//! - [`append`] sends, one file a mode; [`watch`] measures how soon a message reaches those who watch.
//! - [`measure`] counts and times the answers, [`verify`] reads everything back, [`report`] shows it.
//! - [`compare`] sets the service beside what an application would do itself, on one database. It is the only
//!   room here that speaks SQL.
//! - [`target`] is the server under test; [`own_server`] is one of our own where none is given. [`usage`] is
//!   what the parties use of the machine, [`progress`] what is shown meanwhile.
//!
//! It is a client: it uses the generated types of the contract as clients do, and nothing of the server's
//! insides.

pub mod append;
pub mod compare;
pub mod measure;
pub mod own_server;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod target;
pub mod usage;
pub mod verify;
pub mod watch;
pub mod workload;

use tokio::sync::watch as signal;

/// Says whether the user has asked to stop (Ctrl-C). Cheap to ask, cheap to clone.
#[derive(Clone, Debug)]
pub struct Halt(signal::Receiver<bool>);

impl Halt {
    /// The receiver's value becomes true once.
    #[must_use]
    pub fn new(receiver: signal::Receiver<bool>) -> Self {
        Halt(receiver)
    }

    /// Whether it is asked for. (The value is never marked as seen, so this is one atomic load.)
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }

    /// Waits until it is.
    pub async fn asked(&self) {
        // An error is the sender's end, and with it the end of the program.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Does something that has no result worth keeping when it is interrupted.
    ///
    /// # Errors
    /// The work's own, or that it was interrupted.
    pub async fn unless_asked<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            () = self.asked() => anyhow::bail!("interrupted"),
        }
    }
}
