//! Opens connections: one path for the pool, the migrations and LISTEN.
//!
//! `tokio_postgres::Config::connect` goes through the hosts of a URL by itself, but its
//! `connect_timeout` ends with the TCP handshake, it has no `allow`, and its `prefer` doesn't try
//! again without TLS. So the loop over hosts and addresses is here, and it is handed one address at
//! a time. As in libpq (`PQconnectPoll`, "Specifying Multiple Hosts" in the manual):
//! - hosts, and each host's addresses, are tried in the order given, or shuffled with
//!   `load_balance_hosts=random`; but those that have just given no answer ([`order`]) come last;
//! - the timeout is for each address, and covers TLS and authentication;
//! - a server that refuses for good (a wrong password, no such database) ends the search, any other
//!   failure goes on;
//! - `target_session_attrs` is checked after authentication, and a server that doesn't fit is left
//!   for the next.
//!
//! One difference: `allow` and `prefer` try the other kind of connection only after a refusal that
//! the kind can have caused (no matching line in `pg_hba.conf`, failed authentication, failed TLS
//! handshake); libpq does it after every refusal.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::tls::{self, TlsError, TlsMode};
use crate::url::{self, DatabaseUrl, ServerAddress, SessionAttrs};

mod fail;
mod order;
mod outage;
mod probe;
mod session;

use fail::io_error;
use order::Hosts;
pub use outage::{describe, is_unavailable, may_succeed_later};
pub(crate) use outage::{is_full, is_stale};
use probe::Probe;

/// A connection that somebody has to drive, which whoever listens for notifications does himself.
pub(crate) type RawConnection = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Connects to the database of a URL. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<ConnectorParts>,
}

struct ConnectorParts {
    url: DatabaseUrl,
    /// What the URL says, for others to look at.
    config: Config,
    /// Everything but the host.
    base: Config,
    hosts: Hosts,
    session_attrs: SessionAttrs,
    mode: TlsMode,
    tls: MakeRustlsConnect,
}

impl Connector {
    /// Reads the certificates that the URL names.
    ///
    /// # Errors
    /// [`TlsError`], when they can't be used.
    pub fn new(url: &DatabaseUrl) -> Result<Self, TlsError> {
        let needs_tls =
            url.tls().mode != TlsMode::Disable && url.targets.iter().any(|target| !is_socket(target));
        let tls = if needs_tls {
            tls::client_config(url.tls())?
        } else {
            tls::unused_config()?
        };
        let mut base = url.base.clone();
        // Checked here instead, where all six kinds are known.
        base.target_session_attrs(TargetSessionAttrs::Any);
        let shared = ConnectorParts {
            url: url.clone(),
            config: url.config().clone(),
            base,
            hosts: Hosts::new(&url.targets),
            session_attrs: url.session_attrs,
            mode: url.tls().mode,
            tls: MakeRustlsConnect::new(tls),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The database that it connects to.
    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.shared.url
    }

    /// The whole as [`DatabaseUrl::config`] has it.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Whether an attempt to connect ends by itself. (`connect_timeout=0` means for ever.)
    pub(crate) fn is_bounded(&self) -> bool {
        self.shared.base.get_connect_timeout().is_some()
    }

    /// Connects, and spawns the task that drives the connection. The task ends when the client is
    /// dropped or the connection breaks.
    ///
    /// # Errors
    /// What the last of the servers that were tried answered; [`may_succeed_later`] tells whether
    /// to try again.
    pub async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, connection) = self.open().await?;
        Ok((client, tokio::spawn(drive(connection))))
    }

    /// Connects, and leaves it to the caller to drive the connection: a listener sees its
    /// notifications that way.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn open(&self) -> Result<(Client, RawConnection), Error> {
        match self.shared.session_attrs {
            SessionAttrs::PreferStandby => match self.shared.open(SessionAttrs::Standby).await {
                Err(error) if may_succeed_later(&error) => self.shared.open(SessionAttrs::Any).await,
                result => result,
            },
            wanted => self.shared.open(wanted).await,
        }
    }

    /// Asks the server to cancel what a connection of this connector is doing, over a second
    /// connection to the same address, encrypted like the first.
    ///
    /// # Errors
    /// When that connection fails. Whether there was something to cancel isn't told.
    pub async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        let cancelled = token.cancel_query(self.shared.tls.clone());
        self.shared.within(cancelled, "no answer").await
    }
}

/// The pauses between attempts to connect to a database that is away or waking up; without an end, which
/// is the caller's. Serverless databases take about a second to wake.
#[must_use]
pub fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
}

fn is_socket(target: &ServerAddress) -> bool {
    matches!(target.host, Host::Unix(_))
}

type OpenConnection = (Client, RawConnection);

impl ConnectorParts {
    /// Tries the hosts one after the other.
    async fn open(&self, wanted: SessionAttrs) -> Result<OpenConnection, Error> {
        let mut hosts = self.hosts.all();
        self.maybe_shuffle(&mut hosts);
        order::silent_last(&mut hosts);
        let mut last = None;
        for host in hosts {
            let trial = host.try_it();
            let result = self.open_target(&host.target, wanted).await;
            trial.ends(result.as_ref().err());
            match result {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    tracing::debug!(host = %host.target, error = describe(&error), "couldn't connect to PostgreSQL");
                    let is_final = is_final(&error);
                    last = Some(error);
                    if is_final {
                        break;
                    }
                }
            }
        }
        match last {
            Some(error) => Err(error),
            None => Err(io_error(io::Error::other("no host to connect to")).await),
        }
    }

    /// Tries the addresses of one host one after the other.
    async fn open_target(
        &self,
        target: &ServerAddress,
        wanted: SessionAttrs,
    ) -> Result<OpenConnection, Error> {
        let mut last = None;
        for addr in self.addresses(target).await? {
            let mut target = target.clone();
            target.addr = addr;
            let error = match self.within(self.negotiate(&target, wanted), "no answer").await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            let is_final = is_final(&error);
            last = Some(error);
            if is_final {
                break;
            }
        }
        match last {
            Some(error) => Err(error),
            None => Err(io_error(io::Error::other("the host has no address")).await),
        }
    }

    /// Where to connect to; `None` for what needs no look-up.
    async fn addresses(&self, target: &ServerAddress) -> Result<Vec<Option<IpAddr>>, Error> {
        let Host::Tcp(name) = &target.host else {
            return Ok(vec![None]);
        };
        if target.addr.is_some() {
            return Ok(vec![target.addr]);
        }
        let found = self.within(
            async {
                match tokio::net::lookup_host((name.as_str(), target.port)).await {
                    Ok(found) => Ok(found.map(|addr| Some(addr.ip())).collect::<Vec<_>>()),
                    Err(error) => Err(io_error(error).await),
                }
            },
            "no answer from DNS",
        );
        let mut found = found.await?;
        self.maybe_shuffle(&mut found);
        Ok(found)
    }

    fn maybe_shuffle<T>(&self, list: &mut [T]) {
        if self.base.get_load_balance_hosts() == LoadBalanceHosts::Random {
            // Every RandomState has other keys, which is random enough to spread load.
            list.sort_by_cached_key(|_| RandomState::new().hash_one(0));
        }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>, what: &str) -> Result<T, Error> {
        let Some(&limit) = self.base.get_connect_timeout() else {
            return work.await;
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(limit, what).await),
        }
    }

    /// Connects to one address, encrypted or not as `sslmode` wants it, and checks what kind of
    /// server answered.
    async fn negotiate(&self, target: &ServerAddress, wanted: SessionAttrs) -> Result<OpenConnection, Error> {
        let (client, mut connection) = match self.mode {
            // As in libpq: what passes through a socket never leaves the machine.
            _ if is_socket(target) => {
                self.attempt(target, SslMode::Disable, &Probe::new(&self.tls))
                    .await?
            }
            TlsMode::Disable => {
                self.attempt(target, SslMode::Disable, &Probe::new(&self.tls))
                    .await?
            }
            TlsMode::Allow => self.either(target, SslMode::Disable, SslMode::Require).await?,
            TlsMode::Prefer => self.either(target, SslMode::Prefer, SslMode::Disable).await?,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
                self.attempt(target, SslMode::Require, &Probe::new(&self.tls))
                    .await?
            }
        };
        session::check(wanted, &client, &mut connection).await?;
        Ok((client, connection))
    }

    /// The second kind of connection if the first is refused.
    async fn either(
        &self,
        target: &ServerAddress,
        first: SslMode,
        second: SslMode,
    ) -> Result<OpenConnection, Error> {
        let probe = Probe::new(&self.tls);
        let error = match self.attempt(target, first, &probe).await {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let may_differ = match error.code() {
            // pg_hba.conf decides by encryption, and what it decides on ends in a code of this
            // class.
            Some(code) => code.code().starts_with("28"),
            // Not the server but the handshake failed.
            None => probe.handshake_began(),
        };
        // `prefer` that found a server without TLS has already tried both.
        let was_plain_already = second == SslMode::Disable && !probe.handshake_began();
        if !may_differ || was_plain_already {
            return Err(error);
        }
        tracing::debug!(host = %target, error = describe(&error), "trying the other kind of connection");
        let second = self.attempt(target, second, &Probe::new(&self.tls)).await;
        // "No pg_hba.conf entry" or "no TLS" about the second kind would hide why the first failed.
        second.map_err(|second| match second.code() {
            Some(code) if *code != SqlState::INVALID_AUTHORIZATION_SPECIFICATION => second,
            _ => error,
        })
    }

    async fn attempt(
        &self,
        target: &ServerAddress,
        mode: SslMode,
        probe: &Probe,
    ) -> Result<OpenConnection, Error> {
        let mut config = self.base.clone();
        config.ssl_mode(mode);
        url::add_target(&mut config, target);
        config.connect(probe.clone()).await
    }
}

/// An error that counts as an outage.
pub async fn timed_out(limit: Duration, what: &str) -> Error {
    io_error(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} within {limit:?}"),
    ))
    .await
}

/// A server that was reached and will go on refusing: others of the list have the same users and
/// databases.
fn is_final(error: &Error) -> bool {
    error.code().is_some() && !may_succeed_later(error)
}

/// Reads what the server sends, until the client is dropped or the connection breaks.
async fn drive(mut connection: RawConnection) {
    loop {
        match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(severity = notice.severity(), "PostgreSQL: {}", notice.message());
            }
            // Notifications: nobody listens on such a connection.
            Some(Ok(_)) => {}
            // A serverless database that goes to sleep, or a server that restarts, ends idle
            // connections: nothing to warn of, and who was waiting for an answer has got the error
            // as well.
            Some(Err(error)) if is_unavailable(&error) => {
                tracing::debug!(error = describe(&error), "the connection to PostgreSQL ended");
                return;
            }
            Some(Err(error)) => {
                tracing::warn!(error = describe(&error), "the connection to PostgreSQL failed");
                return;
            }
            None => return,
        }
    }
}
