//! The connections: how many there may be, how fast they must begin, and what happens when the process has no file
//! descriptor left for another.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant, Sleep},
};
use tonic::transport::server::Connected;

use super::link::{Link, Links};

/// How long a connection may take to begin: HTTP/2's preface has 24 bytes, and clients send it at once.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The length of the preface ("HTTP/2 Connection Preface" in RFC 9113).
const PREFACE: usize = 24;
/// How long nothing is accepted after a failure, such as that there is no file descriptor left: trying again at once
/// would take a core, and whoever waits is in the listener's backlog.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the same trouble is logged.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The connections that are accepted, at most so many at a time; others wait in the listener's backlog.
pub(super) fn incoming(
    listener: TcpListener,
    most: usize,
    links: Links,
) -> impl Stream<Item = io::Result<ServedConnection>> {
    let accepting = Accepting {
        listener,
        places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        links,
        told: None,
    };
    stream::unfold(accepting, |mut accepting| async {
        let connection = accepting.next().await;
        Some((Ok(connection), accepting))
    })
}

struct Accepting {
    listener: TcpListener,
    places: Arc<Semaphore>,
    links: Links,
    told: Option<Instant>,
}

impl Accepting {
    async fn next(&mut self) -> ServedConnection {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let place = self.place().await;
                    let link = self.links.add(Some(peer));
                    // Without Nagle's algorithm, which would hold back small answers. A failure is that it is gone.
                    let _ = stream.set_nodelay(true);
                    return ServedConnection {
                        stream,
                        begins: Some((PREFACE, Box::pin(time::sleep(HANDSHAKE)))),
                        leaves: Box::pin({
                            let link = Arc::clone(&link);
                            async move { link.leaves().await }
                        }),
                        link,
                        links: self.links.clone(),
                        _place: place,
                    };
                }
                Err(error) => {
                    self.tell(&format!("can't accept a connection: {error}"));
                    time::sleep(PAUSE).await;
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
            self.tell(
                "as many connections as --max-connections allows: idle ones make room, or new ones wait",
            );
            self.links.evict_idle();
            let places = Arc::clone(&self.places);
            if let Ok(Ok(place)) = time::timeout(PAUSE, places.acquire_owned()).await {
                return place;
            }
        }
    }

    fn tell(&mut self, what: &str) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }
}

/// A connection that has its place among those that there may be, and must begin in time.
pub(super) struct ServedConnection {
    stream: TcpStream,
    /// How many bytes are missing until it has begun, and until when they must come.
    begins: Option<(usize, Pin<Box<Sleep>>)>,
    leaves: Pin<Box<dyn Future<Output = ()> + Send>>,
    link: Arc<Link>,
    links: Links,
    _place: OwnedSemaphorePermit,
}

impl Connected for ServedConnection {
    type ConnectInfo = Arc<Link>;

    fn connect_info(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }
}

impl Drop for ServedConnection {
    fn drop(&mut self) {
        self.links.remove(&self.link);
    }
}

impl AsyncRead for ServedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.leaves.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            let count = buffer.filled().len() - before;
            self.begins = self.begins.take().and_then(|(missing, sleep)| {
                let missing = missing.saturating_sub(count);
                (missing > 0).then_some((missing, sleep))
            });
            return Poll::Ready(read);
        }
        if let Some((_, sleep)) = &mut self.begins {
            ready!(sleep.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for ServedConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
