//! In which order the hosts of a URL are tried: a host that is silent would use up the time of everybody who can't wait for
//! as long as its `connect_timeout`, and never leave the next one its turn.

use std::{
    error::Error as _,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Duration, Instant};
use tokio_postgres::Error;

use crate::url::ServerAddress;

/// A host that gave no answer is tried last for as long as this. Each time after it somebody's patience may be used up; but
/// where all kinds of servers are welcome, a primary that comes back shouldn't be left for its standby for long.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Whoever gives up earlier says nothing about the host. TCP, TLS and a password take less on any network but between
/// continents.
const EVIDENCE: Duration = Duration::from_millis(500);

/// The hosts of a URL.
pub(super) struct Hosts(Vec<HostOfUrl>);

/// One host, and when it gave no answer.
pub(crate) struct HostOfUrl {
    pub(super) target: ServerAddress,
    silent: Mutex<Option<Instant>>,
}

impl Hosts {
    pub(super) fn new(targets: &[ServerAddress]) -> Self {
        let host = |target: &ServerAddress| HostOfUrl {
            target: target.clone(),
            silent: Mutex::default(),
        };
        Hosts(targets.iter().map(host).collect())
    }

    /// In the order given.
    pub(super) fn all(&self) -> Vec<&HostOfUrl> {
        self.0.iter().collect()
    }
}

/// Puts those behind the others that have just given no answer.
pub(super) fn silent_last(hosts: &mut [&HostOfUrl]) {
    hosts.sort_by_key(|host| host.silent().is_some_and(|at| at.elapsed() < REMEMBERED));
}

impl HostOfUrl {
    /// An attempt begins. Where it is dropped before it ends, after some time, there was no answer.
    pub(super) fn try_it(&self) -> Trial<'_> {
        Trial {
            host: self,
            began: Instant::now(),
            is_over: false,
        }
    }

    fn silent(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt to connect to a host.
pub(crate) struct Trial<'a> {
    host: &'a HostOfUrl,
    began: Instant,
    is_over: bool,
}

impl Trial<'_> {
    pub(super) fn ends(mut self, error: Option<&Error>) {
        self.is_over = true;
        *self.host.silent() = error.is_some_and(is_silence).then(Instant::now);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.began.elapsed() >= EVIDENCE {
            *self.host.silent() = Some(Instant::now());
        }
    }
}

fn is_silence(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}
