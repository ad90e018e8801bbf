//! The connections: how many there may be, how they come, and what happens when the process has no file descriptor left
//! for another. What becomes of each is [`connection`](super::connection)'s.

use std::{io, sync::Arc, time::Duration};

use nix::errno::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{self, Instant},
};

use super::{
    ServerSetup,
    connection::{CallService, ConnectionTimes, ServedConnection},
    link::{Link, Links},
    tls::ServerTls,
};
use crate::memory::MemoryBudget;

/// How long nothing is accepted after there was no file descriptor or no memory for it: trying again at once would take a
/// core, and whoever waits is in the listener's backlog.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the same trouble is logged.
const WARN_AGAIN: Duration = Duration::from_secs(10);

/// The connections of a listener, at most so many at a time; others wait in its backlog.
pub(super) struct Connections {
    listener: TcpListener,
    places: Arc<Semaphore>,
    links: Links,
    times: ConnectionTimes,
    memory: MemoryBudget,
    tls: Option<ServerTls>,
    warned_at: Option<Instant>,
}

/// A connection that has its place among those that there may be, until this is dropped.
struct PlacedConnection {
    stream: TcpStream,
    link: Arc<Link>,
    links: Links,
    _place: OwnedSemaphorePermit,
}

impl Drop for PlacedConnection {
    fn drop(&mut self) {
        self.links.remove(&self.link);
    }
}

impl Connections {
    pub(super) fn new(
        listener: TcpListener,
        setup: &ServerSetup,
        links: Links,
        times: ConnectionTimes,
    ) -> Self {
        let most = setup.max_connections.min(Semaphore::MAX_PERMITS);
        Connections {
            listener,
            places: Arc::new(Semaphore::new(most)),
            memory: setup.memory.clone(),
            tls: setup.tls.clone(),
            links,
            times,
            warned_at: None,
        }
    }

    /// Serves them until `stopping` becomes true and those that there are have ended. Dropped before, it ends them.
    pub(super) async fn serve(mut self, calls: CallService, mut stopping: watch::Receiver<bool>) {
        let mut serving = JoinSet::new();
        let stops = stopping.clone();
        loop {
            let mut placed = tokio::select! {
                placed = self.next() => placed,
                // An error is the sender's end, which is the server's.
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            // Those that have ended meanwhile. (Not waited for above: whoever waits for a place would be dropped.)
            while serving.try_join_next().is_some() {}
            let served = ServedConnection {
                link: Arc::clone(&placed.link),
                calls: calls.clone(),
                times: self.times,
                memory: self.memory.clone(),
                tls: self.tls.clone(),
            };
            let stops = stops.clone();
            serving.spawn(async move { served.serve(&mut placed.stream, stops).await });
        }
        // Nobody waits in a backlog that isn't looked at any more.
        drop(self);
        while serving.join_next().await.is_some() {}
    }

    async fn next(&mut self) -> PlacedConnection {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // The place first: until it has one, it isn't among those that make room.
                    let place = self.place().await;
                    let placed = PlacedConnection {
                        stream,
                        link: self.links.add(Some(peer)),
                        links: self.links.clone(),
                        _place: place,
                    };
                    // Without Nagle's algorithm, which would hold back small answers. A failure is that it is gone.
                    let _ = placed.stream.set_nodelay(true);
                    return placed;
                }
                Err(error) if is_exhausted(&error) => {
                    self.warn(&format!("can't accept a connection: {error}"));
                    self.links.evict_idle();
                    time::sleep(PAUSE).await;
                }
                // It was gone before it was accepted.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// A place for a connection. Where there is none, the connection that has been idle longest makes room: gRPC's
    /// clients connect again when they have something to ask.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            self.warn(
                "as many connections as --max-connections allows: idle ones make room, or new ones wait",
            );
            self.links.evict_idle();
            let places = Arc::clone(&self.places);
            if let Ok(Ok(place)) = time::timeout(PAUSE, places.acquire_owned()).await {
                return place;
            }
        }
    }

    fn warn(&mut self, what: &str) {
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_AGAIN) {
            self.warned_at = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }
}

/// Whether there was nothing to make a connection of: that doesn't pass by itself as fast as it can be tried.
fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exhaustion_pauses() {
        for (errno, pauses) in [
            (Errno::EMFILE, true),
            (Errno::ENFILE, true),
            (Errno::ENOBUFS, true),
            (Errno::ENOMEM, true),
            (Errno::ECONNABORTED, false),
            (Errno::ECONNRESET, false),
            (Errno::EPERM, false),
        ] {
            assert_eq!(is_exhausted(&io::Error::from(errno)), pauses, "{errno}");
        }
    }
}
