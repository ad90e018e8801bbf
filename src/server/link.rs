//! The links: what the server knows of each connection while it is served, and who has to leave when something is short.
//!
//! A client that doesn't take its answers holds permits and memory for as long as it likes, and one that doesn't send
//! the rest of a message for as long as reading may take. As long as there is enough, they may. When others wait for
//! what they hold, the *reaper* ends the connections that have been stalled longest.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use super::unread::UnreadBytes;
use crate::{auth::ClientCertificate, fair::Holder};

/// How long an answer may lie there, untaken, or a message may stay incomplete without a byte more of it, while others
/// wait for what it holds: long for a network, and short enough that those who wait are served before they are refused.
const STALLED: Duration = Duration::from_secs(2);
/// How often it is looked whether anybody waits.
const LOOK: Duration = Duration::from_millis(250);
/// The most links that leave at a time: then those who wait are looked at again.
const AT_A_TIME: usize = 16;

/// All connections that are served.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(Arc<Mutex<HashMap<u64, Arc<Link>>>>);

/// The connections that are open, for whoever wants to know how many there are.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(pub(super) Links);

impl OpenConnections {
    /// How many connections are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    number: u64,
    peer: Option<SocketAddr>,
    /// The certificate that the client has shown and TLS has verified.
    certificate: OnceLock<Arc<ClientCertificate>>,
    /// Tells the connection to end.
    leave: Notify,
    /// How many calls are open.
    calls: AtomicUsize,
    unread: Arc<UnreadBytes>,
    state: Mutex<LinkState>,
}

#[derive(Debug)]
struct LinkState {
    /// The moment since which no call is open.
    idle_since: Instant,
    /// The parts of answers that have been handed over and not been taken, and the messages that have begun to come and
    /// aren't there, by number.
    debts: HashMap<u64, Instant>,
}

/// The source of links' numbers: they are never used again.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Links {
    pub(super) fn add(&self, peer: Option<SocketAddr>) -> Arc<Link> {
        let link = Arc::new(Link {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            peer,
            certificate: OnceLock::new(),
            leave: Notify::new(),
            calls: AtomicUsize::new(0),
            unread: Arc::default(),
            state: Mutex::new(LinkState {
                idle_since: Instant::now(),
                debts: HashMap::new(),
            }),
        });
        self.lock().insert(link.number, Arc::clone(&link));
        link
    }

    pub(super) fn remove(&self, link: &Link) {
        self.lock().remove(&link.number);
    }

    /// Asks the connection to leave that has had no call open for longest, if there is one.
    pub(super) fn evict_idle(&self) -> bool {
        let links = self.lock();
        let idle = links
            .values()
            .filter(|link| link.calls.load(Ordering::Relaxed) == 0);
        let Some(idlest) = idle.min_by_key(|link| link.state().idle_since) else {
            return false;
        };
        idlest.leave.notify_one();
        true
    }

    /// Ends stalled connections while somebody waits for what they hold. For ever.
    pub(super) async fn reap(self, is_short: impl Fn() -> bool) {
        loop {
            time::sleep(LOOK).await;
            if is_short() {
                self.end_stalled();
            }
        }
    }

    fn end_stalled(&self) {
        let links = self.lock();
        let now = Instant::now();
        let mut stalled: Vec<_> = links
            .values()
            .filter_map(|link| Some((link.stalled_since()?, link)))
            .filter(|(since, _)| now.duration_since(*since) > STALLED)
            .collect();
        stalled.sort_by_key(|(since, _)| *since);
        for (since, link) in stalled.into_iter().take(AT_A_TIME) {
            tracing::warn!(peer = ?link.peer, stalled_for = ?now - since, "ending a connection whose client takes no answers, or doesn't send the rest of a message");
            link.leave.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// The holder from whose share its calls take.
    pub(super) fn holder(&self) -> Holder {
        Holder::of(0, self.number)
    }

    /// The bytes that it has received and no call has read.
    pub(super) fn unread(&self) -> &Arc<UnreadBytes> {
        &self.unread
    }

    /// The address at its other end.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Notes who the client is, by its certificate, before the first call.
    pub(super) fn set_certificate(&self, certificate: ClientCertificate) {
        // A connection has one handshake.
        let _ = self.certificate.set(Arc::new(certificate));
    }

    /// The certificate that the client has shown, which has been verified.
    pub(super) fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.get()
    }

    /// Waits until it has to leave.
    pub(super) async fn leaves(&self) {
        self.leave.notified().await;
    }

    /// Notes that its client has to do something, until the result is dropped: take a part of an answer, or send the
    /// rest of a message.
    pub(super) fn debt(self: &Arc<Self>) -> ClientDebt {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.state().debts.insert(number, Instant::now());
        ClientDebt {
            link: Arc::clone(self),
            number,
        }
    }

    fn stalled_since(&self) -> Option<Instant> {
        self.state().debts.values().min().copied()
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is open, until this is dropped.
#[derive(Debug)]
pub(super) struct OpenCall(Arc<Link>);

impl OpenCall {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        link.calls.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(link))
    }

    /// Something of its answer has been handed over, and is untaken until the result is dropped.
    pub(super) fn handed_over(&self) -> ClientDebt {
        self.0.debt()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.state().idle_since = Instant::now();
            self.0.unread.forget();
        }
    }
}

/// A thing that a client has to do and hasn't done yet.
#[derive(Debug)]
pub(super) struct ClientDebt {
    link: Arc<Link>,
    number: u64,
}

impl Drop for ClientDebt {
    fn drop(&mut self) {
        self.link.state().debts.remove(&self.number);
    }
}
