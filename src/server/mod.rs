//! The gRPC server: the listener, the layers, the services of the scope, health, reflection and shutdown.

mod answer;
mod connections;
mod front;
mod health;
mod intake;
mod link;

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{net::TcpListener, sync::watch, time};
use tonic::{
    Request, Status,
    service::{Routes, RoutesBuilder, interceptor::InterceptedService},
    transport::Server,
};

use crate::{
    api::{
        AnalyticsApi, Api, CitationApi, DESCRIPTORS, DocumentApi, MessageApi, ProfileApi, SessionApi,
        UserApi,
        pb::{
            analytics_service_server::AnalyticsServiceServer, citation_service_server::CitationServiceServer,
            document_service_server::DocumentServiceServer, message_service_server::MessageServiceServer,
            profile_service_server::ProfileServiceServer, session_service_server::SessionServiceServer,
            user_service_server::UserServiceServer,
        },
    },
    auth::Passwords,
    domain::{Error, Limits},
    ledger::Ledger,
    memory::Memory,
    store::{Scope, Store},
    supervise::supervise,
    watch::Hub,
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
    /// What requests, answers and watches hold together.
    pub memory: Memory,
    /// How long a request, or a message of a stream that has begun, may take to arrive.
    pub read_timeout: Duration,
    /// How long requests under way may take to end at shutdown.
    pub shutdown_grace: Duration,
}

/// How often idle connections to the database are looked through.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
/// A client that is gone without a word is noticed after this and [`KEEPALIVE_TIMEOUT`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);
/// How long a client may take to answer a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many bytes of a stream may be on their way before the server has read any: what a stream can send in
/// a round trip.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all streams of a connection. h2 ends a connection (ENHANCE_YOUR_CALM, too_many_data_frames)
/// whose unread small frames add up to half of this, counting each as 256 bytes or so: entries of an append
/// stream are small, and a fast client is to be slowed down, not cut off. So this is larger by far than what
/// several streams can send without being read.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The most calls at a time on a connection, open streams included: the load tester has 10,000 on four.
const MOST_STREAMS: u32 = 8192;
/// The most calls of a connection that are cancelled before the server has looked at them: a burst of short deadlines has
/// some hundreds; h2 ends the connection beyond (the attack is known as rapid reset).
const MOST_RESETS: usize = 512;
/// How long the last answers may take after the grace period: they are small, and wait for nothing.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Serves until `shutdown` ends; then takes no more requests, finishes those under way (for the grace
/// period at most), and returns.
///
/// # Errors
/// A listener that can't be used.
pub async fn run(
    listener: TcpListener,
    service: Service,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let intake = intake::Intake::new(&service.limits, &service.memory, service.read_timeout)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    routes.add_service(health);
    add_reflection(&mut routes)?;
    let (stop, mut stopping) = watch::channel(false);
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
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(Some(MOST_STREAMS))
        .http2_max_pending_accept_reset_streams(Some(MOST_RESETS))
        .layer(front)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(
            connections::incoming(listener, service.max_connections, links),
            async move {
                // An error is the sender's end, which is this function's.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            },
        );
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = shutdown => {
            // First, or a database that comes back would make the server look well again.
            following.abort();
            let _ = following.await;
            health.not_serving().await;
            stop.send_replace(true);
            match time::timeout(service.shutdown_grace, &mut serving).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!("requests were still under way when the grace period ended");
                    end.send_replace(true);
                    // They are told so, by those who listen.
                    time::timeout(LAST_ANSWERS, serving).await.unwrap_or(Ok(()))
                }
            }
        }
    };
    pruning.abort();
    reaping.abort();
    ended.context("serving")
}

/// Both versions of reflection: some clients' tools know only the older one.
fn add_reflection(routes: &mut RoutesBuilder) -> anyhow::Result<()> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
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
