//! A TCP proxy in front of the cluster's socket, which fails when it is told to.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use chatledger_postgres::{connect::Connector, url::DatabaseUrl};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream, UnixStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        unix,
    },
    sync::watch,
    task::JoinHandle,
};
use tokio_postgres::config::Host;

use super::TestDatabase;

/// In the proxy's URLs. The cluster lets everybody in, so it is there only to be looked for in answers.
pub const PASSWORD: &str = "hunter2-of-the-proxy";

/// What becomes of connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProxyMode {
    Forward,
    /// New ones are closed at once.
    Refuse,
    /// Nothing passes, and nobody is told.
    Stall,
}

/// A proxy. It ends when this is dropped, and so do its connections.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
    accepting: JoinHandle<()>,
}

struct ProxyState {
    socket: PathBuf,
    mode: watch::Sender<ProxyMode>,
    /// A change ends all connections.
    broken: watch::Sender<()>,
    /// How many answers pass until one is lost together with its connection.
    lose: Mutex<Option<u32>>,
    /// Bytes from the clients.
    asked: AtomicU64,
    /// Connections so far.
    opened: AtomicU64,
    /// How many of them have ended.
    ended: AtomicU64,
    /// Of the first so many, nothing passes any more, and nobody is told.
    silent: watch::Sender<u64>,
}

impl Proxy {
    /// In front of the test cluster.
    pub async fn start(database: &TestDatabase) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(ProxyState {
            socket: socket_of(&database.connector()),
            mode: watch::Sender::new(ProxyMode::Forward),
            broken: watch::Sender::new(()),
            lose: Mutex::new(None),
            asked: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            silent: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Proxy {
            address,
            state,
            accepting,
        }
    }

    /// The URL of a database behind the proxy.
    pub fn url(&self, database: &TestDatabase) -> String {
        let name = &database.name;
        format!(
            "postgres://postgres:{PASSWORD}@{}/{name}?sslmode=disable",
            self.address
        )
    }

    pub fn connector(&self, database: &TestDatabase) -> Connector {
        Connector::new(&DatabaseUrl::parse(&self.url(database)).expect("a URL")).expect("a connector")
    }

    /// Ends all connections; new ones are let in.
    pub fn break_all(&self) {
        self.state.broken.send_replace(());
    }

    /// Ends all connections, and lets no new ones in.
    pub fn go_away(&self) {
        self.state.mode.send_replace(ProxyMode::Refuse);
        self.break_all();
    }

    /// Lets nothing pass, old connections and new ones alike.
    pub fn stall(&self) {
        self.state.mode.send_replace(ProxyMode::Stall);
    }

    /// Lets nothing pass any more on the connections that there are; new ones work.
    pub fn silence_open(&self) {
        self.state.silent.send_replace(self.opened());
    }

    /// Lets pass what was sent on them, and all that follows.
    pub fn release_open(&self) {
        self.state.silent.send_replace(0);
    }

    /// Works again.
    pub fn come_back(&self) {
        self.state.mode.send_replace(ProxyMode::Forward);
    }

    /// Loses the `nth` answer of the database from now on, counted from 1, and the connection with it.
    pub fn lose_answer(&self, nth: u32) {
        *self.state.lose.lock().expect("no panic") = Some(nth);
    }

    /// Whether that answer came. It isn't waited for any longer.
    pub fn has_lost_answer(&self) -> bool {
        self.state.lose.lock().expect("no panic").take().is_none()
    }

    /// How many bytes clients have sent to the database.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// How many connections have ended.
    pub fn ended(&self) -> u64 {
        self.state.ended.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    pub fn opened(&self) -> u64 {
        self.state.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.break_all();
    }
}

fn socket_of(connector: &Connector) -> PathBuf {
    let config = connector.config();
    match (config.get_hosts(), config.get_ports()) {
        ([Host::Unix(dir)], [port]) => dir.join(format!(".s.PGSQL.{port}")),
        other => panic!("the cluster has one socket, not {other:?}"),
    }
}

async fn accept(listener: TcpListener, state: Arc<ProxyState>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = state.opened.fetch_add(1, Ordering::SeqCst);
        if *state.mode.borrow() == ProxyMode::Refuse {
            continue;
        }
        client.set_nodelay(true).expect("a socket's option");
        let broken = state.broken.subscribe();
        tokio::spawn(carry(client, number, broken, Arc::clone(&state)));
    }
}

/// Until either side ends, or the proxy breaks the connection.
async fn carry(client: TcpStream, number: u64, mut broken: watch::Receiver<()>, state: Arc<ProxyState>) {
    let Ok(server) = UnixStream::connect(&state.socket).await else {
        return;
    };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        _ = broken.changed() => {}
        () = forward(client_reads, server_writes, number, &state) => {}
        () = back(server_reads, client_writes, number, &state) => {}
    }
    state.ended.fetch_add(1, Ordering::SeqCst);
}

async fn forward(mut from: OwnedReadHalf, mut to: unix::OwnedWriteHalf, number: u64, state: &ProxyState) {
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        state.asked.fetch_add(length as u64, Ordering::SeqCst);
        state.unless_stalled(number).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn back(mut from: unix::OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, state: &ProxyState) {
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        state.unless_stalled(number).await;
        if state.loses_this() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

impl ProxyState {
    async fn unless_stalled(&self, number: u64) {
        let (mut silent, mut mode) = (self.silent.subscribe(), self.mode.subscribe());
        // The senders are part of self.
        let _ = silent.wait_for(|silent| number >= *silent).await;
        let _ = mode.wait_for(|mode| *mode != ProxyMode::Stall).await;
    }

    /// PostgreSQL sends a small answer in one piece, after it has committed.
    fn loses_this(&self) -> bool {
        let mut lose = self.lose.lock().expect("no panic");
        match lose.as_mut() {
            Some(1) => {
                *lose = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}
