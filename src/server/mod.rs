//! The gRPC server: the listener, the layers, the services of the scope, health, reflection and shutdown.

mod answer;
mod body;
mod connection;
mod connections;
mod front;
mod guard;
mod health;
mod intake;
mod link;
mod meter;
mod services;
mod tls;
mod trace;
mod unread;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time};
use tonic::service::{Routes, RoutesBuilder};
use tower::Layer;

#[cfg(any(test, fuzzing))]
pub(crate) use intake::fuzzed_frame;
pub use link::OpenConnections;
pub use tls::{ClientAuth, ServerTls, TlsFiles};

use crate::{
    admin::{NotReady, Readiness},
    auth::Access,
    domain::Limits,
    ledger::Ledger,
    memory::MemoryBudget,
    migrations::Scope,
    rates::RateLimits,
    reports,
    store::Store,
    supervise::supervise,
    watch::Hub,
};
use chatledger_protocol::DESCRIPTORS;

/// The parts and settings of a server.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// The rows.
    pub store: Store,
    /// The append path over them.
    pub ledger: Ledger,
    /// The watches of sessions.
    pub hub: Hub,
    /// How callers are told apart.
    pub access: Access,
    /// How large the parts of a request may be.
    pub limits: Arc<Limits>,
    /// The scope, which says what services there are.
    pub scope: Scope,
    /// The longest that a request may take.
    pub request_timeout: Duration,
    /// The most requests at a time, streams aside.
    pub max_requests: usize,
    /// The most streams at a time.
    pub max_streams: usize,
    /// The most connections at a time.
    pub max_connections: usize,
    /// How old a connection may become before its client is told to open another; a tenth more or less.
    pub max_connection_age: Duration,
    /// How long what is under way on an old connection may go on.
    pub max_connection_age_grace: Duration,
    /// The budget for what requests, answers and watches hold together.
    pub memory: MemoryBudget,
    /// How long a request, or a message of a stream that has begun, may take to arrive.
    pub read_timeout: Duration,
    /// How long requests are taken all the same after health has said that they should go elsewhere.
    pub drain_delay: Duration,
    /// How long requests under way may take to end at shutdown.
    pub shutdown_grace: Duration,
    /// How connections are encrypted; `None`: they aren't.
    pub tls: Option<ServerTls>,
    /// What each caller and tenant may do.
    pub rates: RateLimits,
    /// How often the database is asked whether it can be used, though nothing speaks against it.
    pub health_check_interval: Option<Duration>,
    /// Whether requests should be sent here, as the server tells it.
    pub readiness: Readiness,
    /// The connections that are open, as the server tells them.
    pub connections: OpenConnections,
}

/// How often idle connections to the database are looked through.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
/// How long the last answers may take after the grace period: they are small, and wait for nothing.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Serves until `shutdown` ends. Then it says that it isn't ready, goes on for the drain delay, takes no more requests,
/// finishes those under way (for the grace period at most), and returns.
///
/// # Errors
/// None: the descriptors are the program's own.
pub async fn run(
    listener: TcpListener,
    setup: ServerSetup,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let intake = intake::Intake::new(&setup.limits, &setup.memory, setup.read_timeout)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    routes.add_service(health.max_decoding_message_size(front::MOST_PROBED));
    add_reflection(&mut routes)?;
    let (stop, stopping) = watch::channel(false);
    services::add(&mut routes, &setup, &stopping);

    let health = health::HealthFollower::new(
        reporter,
        &setup.readiness,
        setup.store.db(),
        setup.scope,
        setup.health_check_interval,
    )?;
    health.set_serving().await;
    let follower = health.clone();
    let following = tokio::spawn(async move { supervise("health", || follower.clone().follow()).await });
    let pruned = setup.clone();
    let pruning = tokio::spawn(async move { supervise("pruning", || prune(pruned.clone())).await });

    let folding = setup.scope.has_chat().then(|| {
        let store = setup.store.clone();
        tokio::spawn(async move { supervise("reports", || reports::fold_when_needed(store.clone())).await })
    });

    let (end, is_over) = watch::channel(false);
    let front = front::FrontLayer::new(&setup, intake, is_over);
    let links = setup.connections.0.clone();
    let reaping = tokio::spawn({
        let (links, front) = (links.clone(), front.clone());
        async move {
            let reap = || {
                let front = front.clone();
                links.clone().reap(move || front.is_short())
            };
            supervise("reaper", reap).await;
        }
    });
    let times = connection::ConnectionTimes {
        beginning: setup.read_timeout,
        age: setup.max_connection_age,
        grace: setup.max_connection_age_grace,
    };
    let connections = connections::Connections::new(listener, &setup, links, times);
    let serving = connections.serve(front.layer(routes.routes()), stopping);
    tokio::pin!(serving);
    tokio::select! {
        // It goes on until it is told to stop.
        () = &mut serving => {}
        () = shutdown => {
            // First, or a database that comes back would make the server look well again.
            following.abort();
            let _ = following.await;
            health.set_not_serving(NotReady::Stopping).await;
            if !setup.drain_delay.is_zero() {
                tracing::info!(delay = ?setup.drain_delay, "not ready any more; requests are taken until balancers know");
                // It goes on until it is told to stop.
                let _ = time::timeout(setup.drain_delay, &mut serving).await;
            }
            tracing::info!("taking no more requests; those under way are being finished");
            stop.send_replace(true);
            if time::timeout(setup.shutdown_grace, &mut serving).await.is_err() {
                tracing::warn!("requests were still under way when the grace period ended");
                end.send_replace(true);
                // They are told so, by those who listen.
                let _ = time::timeout(LAST_ANSWERS, serving).await;
            }
        }
    }
    pruning.abort();
    reaping.abort();
    folding.inspect(JoinHandle::abort);
    Ok(())
}

/// Both versions of reflection: some clients' tools know only the older one.
fn add_reflection(routes: &mut RoutesBuilder) -> anyhow::Result<()> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    routes.add_service(
        builder()
            .build_v1()?
            .max_decoding_message_size(front::MOST_PROBED),
    );
    routes.add_service(
        builder()
            .build_v1alpha()?
            .max_decoding_message_size(front::MOST_PROBED),
    );
    Ok(())
}

async fn prune(setup: ServerSetup) {
    loop {
        time::sleep(PRUNE_INTERVAL).await;
        setup.store.db().prune();
        setup.ledger.prune();
        setup.hub.prune();
    }
}
