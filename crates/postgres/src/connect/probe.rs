//! Knows whether TLS was begun.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

type ProbeParts = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;

/// rustls, with a note whether its handshake was begun. That tells a failed handshake from a server
/// that can't be reached, and a server without TLS from one with it, both of which `tokio_postgres`
/// keeps to itself.
#[derive(Clone)]
pub(super) struct Probe {
    tls: MakeRustlsConnect,
    began: Arc<AtomicBool>,
}

impl Probe {
    pub(super) fn new(tls: &MakeRustlsConnect) -> Self {
        Self {
            tls: tls.clone(),
            began: Arc::default(),
        }
    }

    pub(crate) fn handshake_began(&self) -> bool {
        self.began.load(Ordering::Relaxed)
    }
}

impl MakeTlsConnect<Socket> for Probe {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = ProbeConnect;
    type Error = Infallible;

    fn make_tls_connect(&mut self, domain: &str) -> Result<ProbeConnect, Infallible> {
        // The trait is implemented for every kind of stream, so this one is named.
        let inner = <MakeRustlsConnect as MakeTlsConnect<Socket>>::make_tls_connect(&mut self.tls, domain)?;
        Ok(ProbeConnect {
            inner,
            began: Arc::clone(&self.began),
        })
    }
}

pub(crate) struct ProbeConnect {
    inner: ProbeParts,
    began: Arc<AtomicBool>,
}

impl TlsConnect<Socket> for ProbeConnect {
    type Stream = <ProbeParts as TlsConnect<Socket>>::Stream;
    type Error = <ProbeParts as TlsConnect<Socket>>::Error;
    type Future = <ProbeParts as TlsConnect<Socket>>::Future;

    fn connect(self, stream: Socket) -> Self::Future {
        self.began.store(true, Ordering::Relaxed);
        self.inner.connect(stream)
    }
}
