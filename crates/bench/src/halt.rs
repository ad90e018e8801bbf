//! How a run hears that it is to stop.

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
