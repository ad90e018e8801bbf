//! Watching sessions: every message of a session, in order, each once, as soon as it is committed, on
//! whatever server it was appended.
//!
//! A [`SessionWatcher`] first reads the table from its seq on, and is live then. For those who are live the
//! [`Hub`] reads: it hears that sessions have changed, from this server's lanes ([`Hub::changed`]), from
//! other servers by NOTIFY, and by polling where notifications may be lost ([`neighbours`]); reads the news
//! of all of them with one statement ([`reader`]), and hands each page to the session's watchers
//! ([`sessions`]). A watcher that is too slow for that misses pages, and reads the table by itself again
//! ([`watcher`]). So a hint is only ever a reason to look, a lost one costs time and no message, and the
//! table alone says what is sent.
//!
//! While nobody watches, nothing is read, and nobody listens.

mod neighbours;
mod reader;
mod sessions;
mod watcher;

use std::{fmt, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    auth::Caller,
    domain::Result,
    memory::{self, MemoryBudget},
    store::Store,
    supervise::supervise,
};
use chatledger_postgres::connect::Connector;
use neighbours::{Announcer, NotificationListener};
use reader::NewsReader;
use sessions::WatchedSessions;
pub use watcher::{SessionWatcher, WatchEvent};

/// The settings of watches.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// A watch without news says that it is alive after this long.
    pub heartbeat: Duration,
    /// How often sessions are polled where notifications are heard: what a lost one, or people's own SQL,
    /// may cost.
    pub safety_poll: Duration,
    /// The budget from which watches take what they hold.
    pub memory: MemoryBudget,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions {
            // Well within the 60 seconds after which proxies take a silent connection for dead.
            heartbeat: Duration::from_secs(15),
            // Short enough for people, and a statement that reads a row a session.
            safety_poll: Duration::from_secs(1),
            memory: MemoryBudget::new(memory::DEFAULT_BYTES),
        }
    }
}

/// The reader's and the announcer's connection.
const CONNECTIONS: usize = 2;

/// The hub, which all watches of this server share. It ends when the last clone is gone.
#[derive(Clone)]
pub struct Hub {
    store: Store,
    sessions: Arc<WatchedSessions>,
    announcer: Arc<Announcer>,
    options: WatchOptions,
    _tasks: Arc<HubTasks>,
    /// The reader's and the announcer's.
    own_store: Store,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Starts to watch. `listener` makes the connection that hears other servers' notifications; without
    /// one, where there is a transaction pooler between, the sessions are polled.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn start(store: &Store, listener: Option<Connector>, options: WatchOptions) -> anyhow::Result<Hub> {
        let own_store = store.over(store.db().another("watch", CONNECTIONS)?);
        let sessions = Arc::new(WatchedSessions::new(options.memory.cache_bytes()));
        let announcer = Arc::new(Announcer::default());
        let reader = NewsReader::new(
            own_store.clone(),
            Arc::clone(&sessions),
            options.memory.read_bytes(),
        );
        let ears = NotificationListener::new(
            listener,
            Arc::clone(&sessions),
            announcer.name(),
            options.safety_poll,
            store.db().attempt_limit(),
        );
        let tasks = HubTasks([
            tokio::spawn(async move { supervise("watch reader", || reader.run()).await }),
            tokio::spawn(async move { supervise("watch listener", || ears.run()).await }),
            tokio::spawn({
                let (announcer, store) = (Arc::clone(&announcer), own_store.clone());
                async move { supervise("watch announcer", || Arc::clone(&announcer).run(store.clone())).await }
            }),
        ]);
        Ok(Hub {
            // No caller's deadline ends a watch's reads.
            store: store.limited(),
            sessions,
            announcer,
            options,
            _tasks: Arc::new(tasks),
            own_store,
        })
    }

    /// Watches a session from the message after `after_seq` on.
    ///
    /// # Errors
    /// [`NotFound`](crate::domain::Error::NotFound), and the store's.
    pub async fn watch(&self, caller: Caller, session_id: Uuid, after_seq: i64) -> Result<SessionWatcher> {
        SessionWatcher::begin(self, caller, session_id, after_seq).await
    }

    /// Notes that sessions have new messages, or are gone: whoever watches them should look, here and elsewhere, and reports have
    /// something to count.
    pub fn changed(&self, session_ids: &[Uuid]) {
        self.sessions.wake(session_ids.iter().copied());
        self.announcer.announce(session_ids);
        self.store.wake_folding();
    }

    /// How many watches are open.
    #[must_use]
    pub fn watches(&self) -> usize {
        *self.sessions.watches().borrow()
    }

    /// Closes the hub's connections that have been unused for long, or are old.
    pub fn prune(&self) {
        self.own_store.db().prune();
    }
}

/// The hub's tasks, which would otherwise run for ever.
struct HubTasks([JoinHandle<()>; 3]);

impl Drop for HubTasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
