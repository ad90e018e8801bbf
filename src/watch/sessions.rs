//! The sessions that are watched, which of them may have news, and the channels to their watchers.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::{auth::Caller, domain::message::Message, metrics::metrics, store::News};

/// How many pages a watcher may be behind before it reads for itself: what gathers while a client on a good
/// network is served.
const PAGES_BEHIND: usize = 8;

/// A notice to a session's watchers.
#[derive(Clone)]
pub(super) enum WatchNotice {
    /// News.
    Page(Arc<SharedPage>),
    /// The session has news, too many to keep.
    Look,
    /// The session is gone.
    Gone,
}

/// News of a session, shared by its watchers.
pub(super) struct SharedPage {
    /// The seq above which these are all the messages.
    pub(super) above: i64,
    pub(super) news: News,
    _room: OwnedSemaphorePermit,
}

/// The watched sessions of this server.
pub(super) struct WatchedSessions {
    state: Mutex<WatchedIndex>,
    /// A signal that some session may have news.
    woken: Notify,
    /// How many watches there are.
    watches: watch::Sender<usize>,
    cache: Arc<Semaphore>,
}

#[derive(Default)]
struct WatchedIndex {
    /// The watched sessions by id; more than one of an id where its watchers don't see alike.
    watched: HashMap<Uuid, Vec<Arc<WatchedSession>>>,
    /// The sessions that may have news.
    woken: HashSet<Uuid>,
}

/// A session that is watched, by callers who see alike.
pub(super) struct WatchedSession {
    pub(super) caller: Caller,
    pub(super) session_id: Uuid,
    notices: broadcast::Sender<WatchNotice>,
    /// The moment when its rows were last looked at: as of then, all that is new has been told.
    looked_at: watch::Sender<Instant>,
    progress: Mutex<WatchProgress>,
}

/// The progress of a session's watchers.
#[derive(Default)]
struct WatchProgress {
    /// The seq up to which they have been told, as soon as one of them is live.
    reached: Option<i64>,
    /// Whether there was a hint that nobody has followed, since none was live.
    hinted: bool,
    watches: usize,
}

impl WatchedSessions {
    /// `cache_bytes` is what the pages on their way to watchers may take together. Beyond it watchers read for
    /// themselves, as slow ones do.
    pub(super) fn new(cache_bytes: usize) -> Self {
        WatchedSessions {
            state: Mutex::default(),
            woken: Notify::new(),
            watches: watch::Sender::new(0),
            cache: Arc::new(Semaphore::new(cache_bytes / 1024)),
        }
    }

    /// Adds a watch. Its subscription hears of everything that the hub reads from now on.
    pub(super) fn subscribe(self: &Arc<Self>, caller: Caller, session_id: Uuid) -> Subscription {
        let mut state = self.lock();
        let all = state.watched.entry(session_id).or_default();
        let watched = match all.iter().find(|watched| watched.caller.sees_as(&caller)) {
            Some(watched) => Arc::clone(watched),
            None => {
                let watched = Arc::new(WatchedSession {
                    caller,
                    session_id,
                    notices: broadcast::Sender::new(PAGES_BEHIND),
                    looked_at: watch::Sender::new(Instant::now()),
                    progress: Mutex::default(),
                });
                all.push(Arc::clone(&watched));
                watched
            }
        };
        watched.progress().watches += 1;
        drop(state);
        self.watches.send_modify(|watches| *watches += 1);
        Subscription {
            notices: watched.notices.subscribe(),
            looked_at: watched.looked_at.subscribe(),
            watched,
            sessions: Arc::clone(self),
        }
    }

    /// Follows how many watches there are.
    pub(super) fn watches(&self) -> watch::Receiver<usize> {
        self.watches.subscribe()
    }

    /// Notes that these sessions may have news.
    pub(super) fn wake(&self, session_ids: impl Iterator<Item = Uuid>) {
        if *self.watches.borrow() == 0 {
            return;
        }
        let mut state = self.lock();
        let state = &mut *state;
        let watched = session_ids.filter(|id| state.watched.contains_key(id));
        state.woken.extend(watched);
        if !state.woken.is_empty() {
            self.woken.notify_one();
        }
    }

    /// Notes that all watched sessions may have news.
    pub(super) fn wake_all(&self) {
        let mut state = self.lock();
        state.woken = state.watched.keys().copied().collect();
        if !state.woken.is_empty() {
            self.woken.notify_one();
        }
    }

    /// The sessions that may have news, as soon as there are any, and up to where their watchers have been told.
    pub(super) async fn woken(&self) -> Vec<(Arc<WatchedSession>, i64)> {
        loop {
            self.woken.notified().await;
            let mut state = self.lock();
            let ids = std::mem::take(&mut state.woken);
            let woken: Vec<_> = ids
                .iter()
                .filter_map(|id| state.watched.get(id))
                .flatten()
                .filter_map(|watched| Some((Arc::clone(watched), watched.hint()?)))
                .collect();
            if !woken.is_empty() {
                return woken;
            }
        }
    }

    /// Tells a session's watchers what is new above the seq that they have been told of, as of a moment; `None`: it is
    /// gone.
    pub(super) fn tell(&self, watched: &WatchedSession, above: i64, news: Option<News>, as_of: Instant) {
        self.tell_news(watched, above, news);
        // Last: who hears of this has been told of all there was.
        watched.looked_at.send_replace(as_of);
    }

    fn tell_news(&self, watched: &WatchedSession, above: i64, news: Option<News>) {
        let notice = match news {
            None => WatchNotice::Gone,
            // Another session with the same id.
            Some(news) if news.last_seq < above => WatchNotice::Gone,
            Some(news) if news.reach() == above => return,
            Some(news) => {
                watched.reached(news.reach());
                if news.more {
                    self.wake(std::iter::once(watched.session_id));
                }
                for message in &news.messages {
                    metrics().watch.told(message.created_at);
                }
                let room = Arc::clone(&self.cache).try_acquire_many_owned(kibibytes(&news));
                match room {
                    Ok(room) if !news.messages.is_empty() => WatchNotice::Page(Arc::new(SharedPage {
                        above,
                        news,
                        _room: room,
                    })),
                    // No room for them, or one that is too large to be read for all.
                    _ => WatchNotice::Look,
                }
            }
        };
        // An error is that all have left meanwhile.
        let _ = watched.notices.send(notice);
    }

    fn lock(&self) -> MutexGuard<'_, WatchedIndex> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchedSession {
    fn progress(&self) -> MutexGuard<'_, WatchProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watchers are told up to there, as soon as one is live. Whether there was a hint before that.
    fn reached(&self, seq: i64) -> bool {
        let mut progress = self.progress();
        progress.reached = progress.reached.max(Some(seq));
        std::mem::take(&mut progress.hinted)
    }

    /// The seq up to which the watchers have been told; where none is live, the hint is kept.
    fn hint(&self) -> Option<i64> {
        let mut progress = self.progress();
        progress.hinted |= progress.reached.is_none();
        progress.reached
    }
}

/// One watch. It ends when this is dropped.
pub(super) struct Subscription {
    pub(super) notices: broadcast::Receiver<WatchNotice>,
    pub(super) looked_at: watch::Receiver<Instant>,
    watched: Arc<WatchedSession>,
    sessions: Arc<WatchedSessions>,
}

impl Subscription {
    /// The watch is live from here on: it has read all that the table had up to `reached`.
    pub(super) fn live(&self, reached: i64) {
        if self.watched.reached(reached) {
            self.sessions.wake(std::iter::once(self.watched.session_id));
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        let mut progress = self.watched.progress();
        progress.watches -= 1;
        if progress.watches == 0
            && let Entry::Occupied(mut all) = state.watched.entry(self.watched.session_id)
        {
            all.get_mut()
                .retain(|watched| !Arc::ptr_eq(watched, &self.watched));
            if all.get().is_empty() {
                all.remove();
            }
        }
        drop(progress);
        drop(state);
        self.sessions.watches.send_modify(|watches| *watches -= 1);
    }
}

/// The memory that a page takes, about, in KiB.
fn kibibytes(news: &News) -> u32 {
    let bytes: usize = news.messages.iter().map(Message::weight).sum();
    // More than there ever is: it doesn't fit.
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_one_session_says_nothing_of_another() {
        let sessions = Arc::new(WatchedSessions::new(1 << 20));
        let watch = || sessions.subscribe(Caller::local_service(None), Uuid::now_v7());
        let (one, other) = (watch(), watch());
        let before = *other.looked_at.borrow();
        let as_of = Instant::now();
        sessions.tell(&one.watched, 0, Some(News::default()), as_of);
        assert_eq!(
            (*one.looked_at.borrow(), *other.looked_at.borrow()),
            (as_of, before)
        );
    }
}
