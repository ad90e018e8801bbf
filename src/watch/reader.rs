//! The reader for all watches that are live: one statement for all sessions that may have news. While it runs, more
//! sessions gather, as appends do in a lane.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{self, Instant};

use super::sessions::{WatchedSession, WatchedSessions};
use crate::store::{NewsRequest, PageSize, Store};

/// How many messages are read of a session at a time.
const ROWS: usize = 64;
/// The bytes of messages that are read of a session at least; where few sessions have news, more. A larger message its
/// watchers read for themselves.
const BYTES: usize = 64 << 10;

/// The gap between two reads, so that a busy server reads a few hundred times a second and not after every commit; too
/// short to be noticed by people who watch. What comes after a pause is read at once.
const GAP: Duration = Duration::from_millis(5);

/// The pause after a failure. Finding a connection is tried for longer than that already, see `Db::connection`.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct NewsReader {
    store: Store,
    sessions: Arc<WatchedSessions>,
    /// The most bytes that a read may answer.
    bytes: usize,
    /// Whether the last read failed.
    fails: AtomicBool,
}

impl NewsReader {
    pub(super) fn new(store: Store, sessions: Arc<WatchedSessions>, bytes: usize) -> Self {
        NewsReader {
            store,
            sessions,
            bytes,
            fails: AtomicBool::new(false),
        }
    }

    /// Reads the news of watched sessions whenever there are hints. It never ends.
    pub(super) async fn run(&self) {
        loop {
            let woken = self.sessions.woken().await;
            for some in woken.chunks((self.bytes / BYTES).max(1)) {
                self.read(some).await;
            }
            time::sleep(GAP).await;
        }
    }

    async fn read(&self, woken: &[(Arc<WatchedSession>, i64)]) {
        let asked: Vec<NewsRequest> = woken
            .iter()
            .map(|(watched, known)| NewsRequest {
                caller: watched.caller.clone(),
                session_id: watched.session_id,
                known: *known,
            })
            .collect();
        let page = PageSize {
            rows: ROWS,
            bytes: self.bytes / asked.len().max(1),
            large: false,
        };
        let as_of = Instant::now();
        match self.store.news(&asked, page).await {
            Ok(news) => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("watched sessions can be read again");
                }
                for ((watched, known), news) in woken.iter().zip(news) {
                    self.sessions.tell(watched, *known, news, as_of);
                }
            }
            Err(error) => {
                // Once an outage: the rest would say the same.
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "can't read the news of watched sessions");
                }
                time::sleep(PAUSE).await;
                self.sessions.wake(asked.iter().map(|asked| asked.session_id));
            }
        }
    }
}
