//! The state of the database that only the database knows: its size, and how far its standbys are.
//!
//! A serverless database sleeps when nobody asks it anything, and looking at metrics must not keep it awake. So it is asked
//! only where somebody looks and the server has a connection anyway, by a task, so that nobody who looks waits for it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::store::Store;

/// How old what is known may be, where somebody looks: as often as Prometheus does by default.
const FRESH: Duration = Duration::from_secs(15);

/// The state of the database.
#[derive(Clone, Debug, Default)]
pub struct DatabaseState {
    /// Its size; `None`: it has never been asked.
    pub size_bytes: Option<i64>,
    /// Its standbys, those that the server's role may see.
    pub replicas: Vec<ReplicaState>,
}

/// How far a standby is.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaState {
    /// Its `application_name`.
    pub name: String,
    /// The time until it has replayed what the primary commits, in seconds.
    pub seconds: f64,
    /// What it hasn't replayed, in bytes.
    pub bytes: f64,
}

/// The last state, and the task that asks for the next. It ends when the last clone is gone.
#[derive(Clone, Debug)]
pub(super) struct DatabaseWatch {
    state: watch::Receiver<Known>,
    look: Arc<Notify>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    state: DatabaseState,
    asked_at: Option<Instant>,
}

impl DatabaseWatch {
    pub(super) fn start(store: Store) -> Self {
        let (sender, state) = watch::channel(Known::default());
        let look = Arc::new(Notify::new());
        tokio::spawn(follow(store, sender, Arc::clone(&look)));
        DatabaseWatch { state, look }
    }

    /// What is known; and where that is old and the server is connected, somebody is asked for the next time.
    pub(super) fn state(&self, is_connected: bool) -> DatabaseState {
        let known = self.state.borrow().clone();
        if is_connected && known.asked_at.is_none_or(|at| at.elapsed() >= FRESH) {
            self.look.notify_one();
        }
        known.state
    }
}

async fn follow(store: Store, sender: watch::Sender<Known>, look: Arc<Notify>) {
    loop {
        tokio::select! {
            () = look.notified() => {}
            () = sender.closed() => return,
        }
        let state = match store.database_state().await {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(%error, "the state of the database can't be had");
                sender.borrow().state.clone()
            }
        };
        sender.send_replace(Known {
            state,
            asked_at: Some(Instant::now()),
        });
    }
}
