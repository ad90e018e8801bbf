//! The gRPC server: the listener, the layers, the services of the scope, health, reflection and shutdown.

mod answer;
mod body;
mod connection;
mod connections;
mod front;
mod health;
mod intake;
mod link;
mod unread;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time};
use tonic::{
    Request, Status,
    service::{Routes, RoutesBuilder, interceptor::InterceptedService},
};
use tower::Layer;

use crate::{
    api::{AnalyticsApi, Api, CitationApi, DocumentApi, MessageApi, ProfileApi, SessionApi, UserApi},
    auth::Passwords,
    domain::{Error, Limits},
    ledger::Ledger,
    memory::Memory,
    migrations::Scope,
    store::Store,
    supervise::supervise,
    watch::Hub,
};
use chatledger_protocol::{
    DESCRIPTORS, analytics_service_server::AnalyticsServiceServer,
    citation_service_server::CitationServiceServer, document_service_server::DocumentServiceServer,
    message_service_server::MessageServiceServer, profile_service_server::ProfileServiceServer,
    session_service_server::SessionServiceServer, user_service_server::UserServiceServer,
};

/// What is served, and how.
#[derive(Clone, Debug)]
pub struct Service {
    /// The rows.
    pub store: Store,
    /// The append path over them.
    pub ledger: Ledger,
    /// The watches of sessions.
    pub hub: Hub,
    /// How large the parts of a request may be.
    pub limits: Arc<Limits>,
    /// Which services.
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
    /// What requests, answers and watches hold together.
    pub memory: Memory,
    /// How long a request, or a message of a stream that has begun, may take to arrive.
    pub read_timeout: Duration,
    /// How long requests under way may take to end at shutdown.
    pub shutdown_grace: Duration,
}

/// How often idle connections to the database are looked through.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
/// How long the last answers may take after the grace period: they are small, and wait for nothing.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Serves until `shutdown` ends; then takes no more requests, finishes those under way (for the grace
/// period at most), and returns.
///
/// # Errors
/// None: the descriptors are the program's own.
pub async fn run(
    listener: TcpListener,
    service: Service,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let intake = intake::Intake::new(&service.limits, &service.memory, service.read_timeout)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    routes.add_service(health.max_decoding_message_size(front::MOST_PROBED));
    add_reflection(&mut routes)?;
    let (stop, stopping) = watch::channel(false);
    add_services(&mut routes, &service, &stopping);

    let health = health::Health::new(reporter, service.store.db(), service.scope)?;
    health.serving().await;
    let follower = health.clone();
    let following = tokio::spawn(async move { supervise("health", || follower.clone().follow()).await });
    let pruned = service.clone();
    let pruning = tokio::spawn(async move { supervise("pruning", || prune(pruned.clone())).await });

    let (end, is_over) = watch::channel(false);
    let front = front::FrontLayer::new(&service, intake, is_over);
    let links = link::Links::default();
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
    let times = connection::Times {
        beginning: service.read_timeout,
        age: service.max_connection_age,
        grace: service.max_connection_age_grace,
    };
    let connections = connections::Connections::new(listener, &service, links, times);
    let serving = connections.serve(front.layer(routes.routes()), stopping);
    tokio::pin!(serving);
    tokio::select! {
        // It goes on until it is told to stop.
        () = &mut serving => {}
        () = shutdown => {
            // First, or a database that comes back would make the server look well again.
            following.abort();
            let _ = following.await;
            health.not_serving().await;
            stop.send_replace(true);
            if time::timeout(service.shutdown_grace, &mut serving).await.is_err() {
                tracing::warn!("requests were still under way when the grace period ended");
                end.send_replace(true);
                // They are told so, by those who listen.
                let _ = time::timeout(LAST_ANSWERS, serving).await;
            }
        }
    }
    pruning.abort();
    reaping.abort();
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

fn add_services(routes: &mut RoutesBuilder, service: &Service, stopping: &watch::Receiver<bool>) {
    /// Adds a service, or, where it isn't served, one that refuses every call of it.
    macro_rules! add {
        ($served:expr, $server:ident, $api:expr) => {
            let server = $server::new($api).max_decoding_message_size(service.limits.max_request_bytes);
            if $served {
                routes.add_service(server);
            } else {
                routes.add_service(InterceptedService::new(server, not_served));
            }
        };
    }

    let api = Api {
        store: service.store.clone(),
        limits: Arc::clone(&service.limits),
    };
    let (auth, chat) = (service.scope.has_auth(), service.scope.has_chat());
    let user = UserApi {
        api: api.clone(),
        passwords: Passwords::default(),
    };
    add!(auth, UserServiceServer, user);
    add!(auth, ProfileServiceServer, ProfileApi(api.clone()));
    let session = SessionApi {
        api: api.clone(),
        hub: service.hub.clone(),
    };
    add!(chat, SessionServiceServer, session);
    let message = MessageApi {
        api: api.clone(),
        ledger: service.ledger.clone(),
        hub: service.hub.clone(),
        stopping: stopping.clone(),
    };
    add!(chat, MessageServiceServer, message);
    add!(chat, CitationServiceServer, CitationApi(api.clone()));
    add!(chat, DocumentServiceServer, DocumentApi(api.clone()));
    add!(chat, AnalyticsServiceServer, AnalyticsApi(api));
}

// tonic's interceptors answer a Status by value.
#[allow(clippy::result_large_err, clippy::needless_pass_by_value)]
fn not_served(_: Request<()>) -> Result<Request<()>, Status> {
    Err(Error::ScopeNotServed.into())
}

async fn prune(service: Service) {
    loop {
        time::sleep(PRUNE_INTERVAL).await;
        service.store.db().prune();
        service.ledger.prune();
        service.hub.prune();
    }
}
