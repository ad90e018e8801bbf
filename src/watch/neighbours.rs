//! Other servers that share the database: NOTIFY tells them which sessions have changed, and LISTEN hears
//! it of them. A notification may be lost (a server is killed before it has sent it, a connection breaks),
//! and people's own SQL sends none, so sessions are polled as well, seldom.

use std::{
    collections::HashSet,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::BackoffBuilder;
use tokio::{sync::Notify, time};
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use super::sessions::WatchedSessions;
use crate::{
    metrics::metrics,
    store::{LISTEN, Store},
};
use chatledger_postgres::connect::{self, Connector};

/// A payload has less than 8,000 bytes ("NOTIFY" in the manual): a server's name and this many ids, of 36
/// bytes and a comma.
const MOST_IDS: usize = 200;

/// A payload in place of more ids: any session may have changed.
const ALL: &str = "*";

/// The gap between two notifications, so that lone appends, which come one after the other, share one; too short to
/// be noticed by people who watch.
const GAP: Duration = Duration::from_millis(5);

/// How often sessions are polled where none are heard.
const OFTEN: Duration = Duration::from_millis(250);

/// An announcer, which tells other servers.
pub(super) struct Announcer {
    /// The name of this server, so that it doesn't listen to itself.
    name: Arc<str>,
    changed: Mutex<ChangedSessions>,
    some: Notify,
}

#[derive(Default)]
struct ChangedSessions {
    ids: HashSet<Uuid>,
    all: bool,
}

impl Default for Announcer {
    fn default() -> Self {
        Announcer {
            name: Arc::from(Uuid::now_v7().simple().to_string()),
            changed: Mutex::default(),
            some: Notify::new(),
        }
    }
}

impl Announcer {
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Tells other servers, a moment later, that these sessions have changed.
    pub(super) fn announce(&self, session_ids: &[Uuid]) {
        let mut changed = self.lock();
        for id in session_ids {
            if changed.all {
                break;
            }
            changed.ids.insert(*id);
            changed.all = changed.ids.len() > MOST_IDS;
        }
        if changed.all || !changed.ids.is_empty() {
            self.some.notify_one();
        }
    }

    /// Notifies the other servers whenever there is something to tell. It never ends.
    pub(super) async fn run(self: Arc<Self>, store: Store) {
        loop {
            self.some.notified().await;
            let payload = self.payload();
            match store.notify(&payload).await {
                Ok(()) => metrics().watch.sent.inc(),
                Err(error) => tracing::debug!(%error, "can't notify other servers; they poll"),
            }
            time::sleep(GAP).await;
        }
    }

    fn payload(&self) -> String {
        let changed = std::mem::take(&mut *self.lock());
        let ids = if changed.all {
            ALL.to_owned()
        } else {
            let ids: Vec<String> = changed.ids.iter().map(Uuid::to_string).collect();
            ids.join(",")
        };
        format!("{} {ids}", self.name)
    }

    fn lock(&self) -> MutexGuard<'_, ChangedSessions> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener, which hears of other servers, and polls, while somebody watches.
pub(super) struct NotificationListener {
    /// The way to a connection without a pooler between; `None`: there is no such connection.
    connector: Option<Connector>,
    sessions: Arc<WatchedSessions>,
    own_name: Arc<str>,
    /// How often sessions are polled while notifications are heard.
    safety_poll: Duration,
    /// How long the connection that listens may take to answer, and how often it is asked: a silent one sounds like one
    /// without notifications.
    answer_within: Duration,
    is_listening: AtomicBool,
}

impl NotificationListener {
    pub(super) fn new(
        connector: Option<Connector>,
        sessions: Arc<WatchedSessions>,
        own_name: Arc<str>,
        safety_poll: Duration,
        answer_within: Duration,
    ) -> Self {
        NotificationListener {
            connector,
            sessions,
            own_name,
            safety_poll,
            answer_within,
            is_listening: AtomicBool::new(false),
        }
    }

    /// Listens and polls while somebody watches. It never ends.
    pub(super) async fn run(&self) {
        let mut watches = self.sessions.watches();
        // An error is the sender's end, which is part of self.
        while watches.wait_for(|&watches| watches > 0).await.is_ok() {
            tokio::select! {
                _ = watches.wait_for(|&watches| watches == 0) => {}
                () = self.poll() => {}
                () = self.listen() => {}
            }
            self.is_listening.store(false, Ordering::Relaxed);
        }
    }

    async fn poll(&self) {
        loop {
            let is_listening = self.is_listening.load(Ordering::Relaxed);
            time::sleep(if is_listening { self.safety_poll } else { OFTEN }).await;
            self.sessions.wake_all();
        }
    }

    async fn listen(&self) {
        let Some(connector) = &self.connector else {
            return std::future::pending().await;
        };
        let mut pauses = connect::pauses().build();
        loop {
            if let Err(error) = self.hear(connector).await {
                tracing::debug!(
                    error = connect::describe(&error),
                    "not listening to other servers"
                );
            }
            if self.is_listening.swap(false, Ordering::Relaxed) {
                pauses = connect::pauses().build();
            }
            // They have no end.
            time::sleep(pauses.next().unwrap_or(OFTEN)).await;
        }
    }

    /// Hears notifications until the connection ends, or answers no more.
    async fn hear(&self, connector: &Connector) -> Result<(), tokio_postgres::Error> {
        let (client, mut connection) = connector.open().await?;
        let mut asking = pin!(async {
            self.ask(&client, LISTEN).await?;
            self.is_listening.store(true, Ordering::Relaxed);
            // What was notified before that was heard by nobody.
            self.sessions.wake_all();
            loop {
                time::sleep(self.answer_within).await;
                // As before, which changes nothing.
                self.ask(&client, LISTEN).await?;
            }
        });
        loop {
            tokio::select! {
                ended = &mut asking => return ended,
                message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                    Some(Ok(AsyncMessage::Notification(notification))) => self.heard(notification.payload()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
            }
        }
    }

    async fn ask(&self, client: &Client, text: &str) -> Result<(), tokio_postgres::Error> {
        match time::timeout(self.answer_within, client.batch_execute(text)).await {
            Ok(answered) => answered,
            Err(_) => Err(connect::timed_out(self.answer_within, "no answer").await),
        }
    }

    fn heard(&self, payload: &str) {
        match payload.split_once(' ') {
            Some((name, _)) if name == &*self.own_name => return,
            Some((_, ids)) if ids != ALL => {
                // What isn't an id is another version's, or somebody's joke.
                self.sessions
                    .wake(ids.split(',').filter_map(|id| id.parse().ok()));
            }
            _ => self.sessions.wake_all(),
        }
        metrics().watch.received.inc();
    }
}
