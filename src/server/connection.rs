//! One connection: its handshake, how fast it must begin, what it is told if it isn't HTTP/2, how its calls are served,
//! and how old it may become.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{self, Instant},
};
use tonic::{body::Body, service::Routes};
use tower::Service;

use super::{
    front::Front,
    link::Link,
    tls::ServerTls,
    unread::{self, FRAME_HEADER, ReceiveGate},
};
use crate::memory::MemoryBudget;

/// The preface with which HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest frame that may be sent before settings say otherwise (RFC 9113, section 4.2).
const LONGEST_FRAME: usize = 16 << 10;
/// The answer to an HTTP/1 client, which wouldn't read a frame.
const NOT_HTTP_2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain\r\ncontent-length: 46\r\nconnection: close\r\n\r\n\
    This is a gRPC server, which speaks HTTP/2.\r\n\n";
/// The most bytes that are read away of a client that was refused: closing with something unread would take the answer
/// from it.
const MOST_READ_AWAY: u64 = 64 << 10;
/// The time for which they are read away.
const READ_AWAY: Duration = Duration::from_secs(1);

/// A client that is gone without a word is noticed after this and [`KEEPALIVE_TIMEOUT`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);
/// How long a client may take to answer a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How many bytes of a stream may be on their way before the server has read any: what a stream can send in
/// a round trip.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same window for all streams of a connection. h2 ends a connection (ENHANCE_YOUR_CALM, too_many_data_frames)
/// whose unread small frames add up to half of this, counting each as 256 bytes or so: entries of an append
/// stream are small, and a fast client is to be slowed down, not cut off. So this is larger by far than what
/// several streams can send without being read.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The most calls at a time on a connection, open streams included: the load tester has 10,000 on four.
const MOST_STREAMS: u32 = 8192;
/// The most calls of a connection that are cancelled before the server has looked at them: a burst of short deadlines has
/// some hundreds; h2 ends the connection beyond (the attack is known as rapid reset).
const MOST_RESETS: usize = 512;

/// A connection's age is spread by so much to either side, so that connections that began together don't end together.
const JITTER: f64 = 0.1;

/// The limits on the parts of a connection's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionTimes {
    /// The time from its start until it has begun, with its handshake: clients send the preface and their settings at
    /// once.
    pub(super) beginning: Duration,
    /// The age at which it takes no more calls, and its client is told to open another.
    pub(super) age: Duration,
    /// The time for which its open calls may go on after that.
    pub(super) grace: Duration,
}

impl ConnectionTimes {
    fn jittered_age(self) -> Duration {
        self.age.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
    }
}

/// The service that answers the calls of all connections.
pub(super) type CallService = Front<Routes>;

/// A connection, and what it is served with.
pub(super) struct ServedConnection {
    pub(super) link: Arc<Link>,
    pub(super) calls: CallService,
    pub(super) times: ConnectionTimes,
    pub(super) memory: MemoryBudget,
    /// How it is encrypted, if it is.
    pub(super) tls: Option<ServerTls>,
}

impl ServedConnection {
    /// Serves the connection to its end: the client's, or that of its age or of the server with the calls that are
    /// under way then; or at once when it has to leave.
    pub(super) async fn serve(&self, stream: &mut TcpStream, stopping: watch::Receiver<bool>) {
        let begins_until = Instant::now() + self.times.beginning;
        let served = async {
            match &self.tls {
                Some(tls) => self.serve_encrypted(tls, stream, begins_until, stopping).await,
                None => self.serve_clear(stream, begins_until, stopping).await,
            }
        };
        tokio::select! {
            () = served => {}
            () = self.link.leaves() => {}
        }
    }

    /// Serves what is in the clear after a handshake.
    async fn serve_encrypted(
        &self,
        tls: &ServerTls,
        stream: &mut TcpStream,
        begins_until: Instant,
        mut stopping: watch::Receiver<bool>,
    ) {
        let accepted = tokio::select! {
            accepted = time::timeout_at(begins_until, tls.accept(&mut *stream)) => accepted,
            // An error is the sender's end, which is the server's.
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let error = match accepted {
            Ok(Ok((mut clear, certificate))) => {
                if let Some(certificate) = certificate {
                    self.link.set_certificate(certificate);
                }
                let has_certificate = self.link.certificate().is_some();
                tracing::debug!(peer = ?self.link.peer(), has_certificate, "a TLS handshake is done");
                return self.serve_clear(&mut clear, begins_until, stopping).await;
            }
            Ok(Err(error)) => error,
            Err(_) => return self.is_late(),
        };
        tracing::debug!(peer = ?self.link.peer(), %error, "a TLS handshake has failed");
        // rustls has told the client why.
        let _ = time::timeout(READ_AWAY, end_orderly(stream)).await;
    }

    /// Serves what is in the clear by itself.
    async fn serve_clear<S>(&self, stream: &mut S, begins_until: Instant, mut stopping: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let begun = tokio::select! {
            begun = time::timeout_at(begins_until, begin(stream)) => begun,
            // An error is the sender's end, which is the server's.
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match begun {
            Ok(Ok(Beginning::Http2(read))) => self.serve_http2(read, stream, stopping).await,
            Ok(Ok(Beginning::Http1)) => refuse(stream).await,
            Ok(Ok(Beginning::Other) | Err(_)) => {}
            Err(_) => self.is_late(),
        }
    }

    fn is_late(&self) {
        tracing::debug!(peer = ?self.link.peer(), "a connection didn't begin in time");
    }

    async fn serve_http2<S>(&self, read: Vec<u8>, stream: &mut S, mut stopping: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let charge = self.memory.nothing(self.link.holder());
        let gate = ReceiveGate::new(Arc::clone(self.link.unread()), self.memory.clone(), charge);
        let service = service_fn(|request: Request<Incoming>| {
            let (link, mut calls) = (Arc::clone(&self.link), self.calls.clone());
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(link);
                poll_fn(|cx| calls.poll_ready(cx)).await?;
                calls.call(request).await
            }
        });
        let io = TokioIo::new(BegunStream { read, stream, gate });
        let mut connection = pin!(builder().serve_connection(io, service));
        let is_old = time::sleep(self.times.jittered_age());
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = is_old => None,
            // An error is the sender's end, which is the server's.
            _ = stopping.wait_for(|stopping| *stopping) => None,
        };
        let peer = self.link.peer();
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                // A server that stops ends this by itself, which may be sooner.
                match time::timeout(self.times.grace, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::debug!(?peer, "an old connection has been ended"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(?peer, %error, "a connection has failed");
        }
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .max_pending_accept_reset_streams(MOST_RESETS);
    builder
}

/// The protocol that a connection begins with.
enum Beginning {
    /// The preface and the client's settings, which have been read.
    Http2(Vec<u8>),
    /// A request of an older version, or what looks like one.
    Http1,
    Other,
}

/// Reads until it is known what the connection begins as. What isn't as it should be after the preface is left for HTTP/2
/// to refuse.
async fn begin<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Beginning> {
    let mut read = vec![0; PREFACE.len() + FRAME_HEADER];
    let mut count = 0;
    while count < read.len() {
        let more = stream.read(&mut read[count..]).await?;
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count += more;
        let expected = count.min(PREFACE.len());
        if read[..expected] != PREFACE[..expected] {
            let is_method = read[0].is_ascii_uppercase();
            return Ok(if is_method {
                Beginning::Http1
            } else {
                Beginning::Other
            });
        }
    }
    let header = read.last_chunk().map_or(0, unread::payload);
    let begun = read.len();
    read.resize(begun + header.min(LONGEST_FRAME), 0);
    stream.read_exact(&mut read[begun..]).await?;
    Ok(Beginning::Http2(read))
}

/// Tells an HTTP/1 client that this isn't its kind of server. That it is gone meanwhile is no harm.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let refused = async {
        stream.write_all(NOT_HTTP_2).await?;
        end_orderly(stream).await
    };
    let _ = time::timeout(READ_AWAY, refused).await;
}

/// Ends a connection so that what it was told arrives.
async fn end_orderly<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MOST_READ_AWAY), &mut tokio::io::sink()).await
}

/// A connection of which the beginning has been read.
struct BegunStream<'a, S> {
    /// The bytes of the beginning that haven't been handed on.
    read: Vec<u8>,
    stream: &'a mut S,
    gate: ReceiveGate,
}

impl<S: AsyncRead + Unpin> AsyncRead for BegunStream<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            ready!(self.gate.poll_open(cx));
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            self.gate.received(&buffer.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        let count = buffer.remaining().min(self.read.len());
        buffer.put_slice(&self.read[..count]);
        self.read.drain(..count);
        if self.read.is_empty() {
            self.read = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BegunStream<'_, S> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread() {
        let times = ConnectionTimes {
            beginning: Duration::ZERO,
            age: Duration::from_secs(1000),
            grace: Duration::ZERO,
        };
        let spread: Vec<u64> = (0..100).map(|_| times.jittered_age().as_secs()).collect();
        assert!(spread.iter().all(|age| (900..=1100).contains(age)), "{spread:?}");
        assert!(spread.iter().any(|age| *age != spread[0]));
    }

    #[test]
    fn the_refusal_s_length_is_right() {
        let text = std::str::from_utf8(NOT_HTTP_2).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
    }
}
