//! When files are looked at: now and then, and when somebody says that they have changed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

/// What a look has found that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookOutcome {
    /// What is in use.
    Same,
    /// Something else, which is in use now: the files.
    InUse(String),
    /// Something that can't be used, and why. What was in use stays.
    Refused(String),
}

/// When files are looked at. A clone is the same.
#[derive(Clone, Debug)]
pub struct Looks(Arc<LooksInner>);

#[derive(Debug)]
struct LooksInner {
    interval: Duration,
    watchers: Mutex<Vec<mpsc::UnboundedSender<Answer>>>,
}

/// Where the outcome of a look goes that was asked for.
pub(super) type Answer = oneshot::Sender<LookOutcome>;

impl Looks {
    /// After each `interval`, and when [`now`](Self::now) is called.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Looks(Arc::new(LooksInner {
            interval,
            watchers: Mutex::default(),
        }))
    }

    /// Has all files looked at that are watched by this one. A change is taken at once: whoever asks says that it is complete.
    pub async fn now(&self) -> Vec<LookOutcome> {
        let mut answers = Vec::new();
        {
            let mut watchers = self.watchers();
            watchers.retain(|watcher| !watcher.is_closed());
            for watcher in watchers.iter() {
                let (answer, outcome) = oneshot::channel();
                // One that has ended in this moment answers nothing.
                let _ = watcher.send(answer);
                answers.push(outcome);
            }
        }
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.extend(answer.await);
        }
        outcomes
    }

    pub(super) fn interval(&self) -> Duration {
        self.0.interval
    }

    /// What a watcher of files is asked by.
    pub(super) fn join(&self) -> mpsc::UnboundedReceiver<Answer> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watchers().push(sender);
        receiver
    }

    fn watchers(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::UnboundedSender<Answer>>> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
