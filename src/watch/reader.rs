//! Reads for all who are live: one statement for all sessions that may have news. While it runs, more
//! sessions gather, as appends do in a lane.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::sessions::{Sessions, Watched};
use crate::store::{Asked, PageSize, Store};

/// What is read of a session at a time. Together with [`SESSIONS`], some 16 MiB at most are held.
const PAGE: PageSize = PageSize {
    rows: 64,
    bytes: 64 << 10,
};

/// How many sessions are read at a time.
const SESSIONS: usize = 256;

/// Between two reads, so that a busy server reads a few hundred times a second and not after every commit; too
/// short to be noticed by people who watch. What comes after a pause is read at once.
const GAP: Duration = Duration::from_millis(5);

/// After a failure. Finding a connection is tried for longer than that already, see `Db::connection`.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Reader {
    pub(super) store: Store,
    pub(super) sessions: Arc<Sessions>,
}

impl Reader {
    /// For ever.
    pub(super) async fn run(self) {
        loop {
            let woken = self.sessions.woken().await;
            for some in woken.chunks(SESSIONS) {
                self.read(some).await;
            }
            time::sleep(GAP).await;
        }
    }

    async fn read(&self, woken: &[(Arc<Watched>, i64)]) {
        let asked: Vec<Asked> = woken
            .iter()
            .map(|(watched, known)| Asked {
                caller: watched.caller.clone(),
                session_id: watched.session_id,
                known: *known,
            })
            .collect();
        match self.store.news(&asked, PAGE).await {
            Ok(news) => {
                for ((watched, known), news) in woken.iter().zip(news) {
                    self.sessions.tell(watched, *known, news);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "can't read the news of watched sessions");
                time::sleep(PAUSE).await;
                self.sessions.wake(asked.iter().map(|asked| asked.session_id));
            }
        }
    }
}
