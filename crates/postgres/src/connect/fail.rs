//! Makes a `tokio_postgres::Error` of an `io::Error`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Error, NoTls};

/// The pool's trait allows no other error type, and `tokio_postgres` has no public constructor for
/// its own. It wraps what a stream fails with, though, so it is given a stream that fails with
/// `error`.
pub(super) async fn io_error(error: io::Error) -> Error {
    let mut config = Config::new();
    config.user("nobody").ssl_mode(SslMode::Disable);
    match config.connect_raw(FailingStream(Some(error)), NoTls).await {
        Err(error) => error,
        Ok(_) => unreachable!(), // FailingStream fails at the first byte, and a connection starts with writing one
    }
}

/// A stream that fails with the error that it holds.
struct FailingStream(Option<io::Error>);

impl FailingStream {
    fn fail<T>(&mut self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(self
            .0
            .take()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }
}

impl AsyncRead for FailingStream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for FailingStream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[tokio::test]
    async fn the_error_given_is_the_source() {
        let error = io_error(io::Error::new(io::ErrorKind::TimedOut, "no answer")).await;
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(
            (source.kind(), source.to_string()),
            (io::ErrorKind::TimedOut, "no answer".to_owned())
        );
    }
}
