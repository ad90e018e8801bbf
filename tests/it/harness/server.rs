//! A server in this process, on a port of its own, and clients of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chatledger::{
    admin::Readiness,
    auth::Access,
    domain::Limits,
    ledger::{Ledger, LedgerOptions},
    memory::{self, MemoryBudget},
    migrations::Scope,
    rates::RateLimits,
    server::{self, OpenConnections, ServerSetup, ServerTls},
    store::Store,
    watch::{Hub, WatchOptions},
};
use chatledger_postgres::{Db, DbOptions, connect::Connector};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

use super::{TestDatabase, pb};

/// What a test may want otherwise.
pub struct ServerOptions {
    pub connector: Connector,
    pub scope: Scope,
    pub limits: Limits,
    pub db: DbOptions,
    pub ledger: LedgerOptions,
    pub listener: Option<Connector>,
    pub watch: WatchOptions,
    pub request_timeout: Duration,
    pub max_requests: usize,
    pub max_streams: usize,
    pub max_connections: usize,
    pub max_connection_age: Duration,
    pub max_connection_age_grace: Duration,
    pub health_check_interval: Option<Duration>,
    pub memory_budget: usize,
    pub read_timeout: Duration,
    pub shutdown_grace: Duration,
    /// How callers are told apart, over the server's own rows.
    pub access: Box<dyn FnOnce(&Store) -> Access>,
    pub tls: Option<ServerTls>,
    pub rates: RateLimits,
}

/// A running server. It is stopped when this is dropped.
pub struct TestServer {
    pub address: SocketAddr,
    pub channel: Channel,
    pub db: Db,
    pub memory: MemoryBudget,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// A server over a database.
pub async fn start(database: &TestDatabase) -> TestServer {
    start_with(database, |_| {}).await
}

/// A server over a database, with other options than the usual ones.
pub async fn start_with(database: &TestDatabase, change: impl FnOnce(&mut ServerOptions)) -> TestServer {
    let mut options = ServerOptions {
        connector: database.connector(),
        scope: Scope::All,
        limits: Limits::default(),
        db: DbOptions {
            pool_size: 8,
            wait_timeout: Duration::from_secs(10),
            connect_for: Duration::from_secs(10),
            attempt_limit: DbOptions::ATTEMPT_LIMIT,
            pooled: false,
        },
        ledger: LedgerOptions::default(),
        listener: Some(database.connector()),
        watch: WatchOptions::default(),
        request_timeout: Duration::from_secs(30),
        max_requests: 1024,
        max_streams: 1024,
        max_connections: 1024,
        max_connection_age: Duration::from_mins(30),
        max_connection_age_grace: Duration::from_mins(2),
        health_check_interval: None,
        memory_budget: memory::DEFAULT_BYTES,
        read_timeout: Duration::from_secs(10),
        shutdown_grace: Duration::from_secs(10),
        access: Box::new(|store| Access::open(store.clone())),
        tls: None,
        rates: RateLimits::default(),
    };
    change(&mut options);
    let db = Db::new(options.connector, options.db).expect("a pool");
    let limits = Arc::new(options.limits);
    let store = Store::new(db.clone(), Arc::clone(&limits), options.scope, "english");
    let memory = MemoryBudget::new(options.memory_budget);
    let watch = WatchOptions {
        memory: memory.clone(),
        ..options.watch
    };
    let hub = Hub::start(&store, options.listener, watch).expect("a hub");
    let service = ServerSetup {
        ledger: Ledger::start(&db, &hub, &options.ledger).expect("lanes"),
        access: (options.access)(&store),
        store,
        hub,
        limits,
        scope: options.scope,
        request_timeout: options.request_timeout,
        max_requests: options.max_requests,
        max_streams: options.max_streams,
        max_connections: options.max_connections,
        max_connection_age: options.max_connection_age,
        max_connection_age_grace: options.max_connection_age_grace,
        memory: memory.clone(),
        read_timeout: options.read_timeout,
        drain_delay: Duration::ZERO,
        shutdown_grace: options.shutdown_grace,
        tls: options.tls,
        rates: options.rates,
        health_check_interval: options.health_check_interval,
        readiness: Readiness::default(),
        connections: OpenConnections::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server::run(listener, service, async {
        drop(stopped.await);
    }));
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .expect("an endpoint")
        .connect_lazy();
    TestServer {
        address,
        channel,
        db,
        memory,
        stop: Some(stop),
        task,
    }
}

macro_rules! clients {
    ($($name:ident: $module:ident::$client:ident),* $(,)?) => {$(
        pub fn $name(&self) -> pb::$module::$client<Channel> {
            // Answers are read whatever their size: the tests check the sizes themselves.
            pb::$module::$client::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
        }
    )*};
}

impl TestServer {
    clients!(
        users: user_service_client::UserServiceClient,
        profiles: profile_service_client::ProfileServiceClient,
        sessions: session_service_client::SessionServiceClient,
        messages: message_service_client::MessageServiceClient,
        citations: citation_service_client::CitationServiceClient,
        documents: document_service_client::DocumentServiceClient,
        analytics: analytics_service_client::AnalyticsServiceClient,
        access: access_service_client::AccessServiceClient,
    );

    /// Asks the server to stop; the task ends when it has.
    pub fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops the server and waits until it has stopped.
    pub async fn stop(mut self) {
        self.ask_to_stop();
        self.task.await.expect("no panic").expect("a good end");
    }
}
