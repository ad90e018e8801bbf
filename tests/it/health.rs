//! Health tells the truth: within two seconds that the database is away or stalled, also where all that clients do is
//! append; and nothing where the database can be used.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tonic::Streaming;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::harness::*;

/// Two seconds are promised; a machine that is busy with other tests has some more.
const SOON: Duration = Duration::from_secs(3);

struct HealthWatch(Streaming<HealthCheckResponse>);

impl HealthWatch {
    /// Follows a server that is SERVING.
    async fn of(server: &TestServer) -> HealthWatch {
        let mut client = HealthClient::new(server.channel.clone());
        let watch = client.watch(HealthCheckRequest::default()).await;
        let mut health = HealthWatch(watch.expect("a watch").into_inner());
        assert_eq!(health.next().await, ServingStatus::Serving);
        health
    }

    async fn next(&mut self) -> ServingStatus {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await;
        let next = next
            .expect("a change in time")
            .expect("no error")
            .expect("no end");
        next.status()
    }

    /// Whether there was no change since it was last looked at.
    fn is_as_before(&mut self) -> bool {
        self.0.message().now_or_never().is_none()
    }
}

async fn server_behind(
    proxy: &Proxy,
    database: &TestDatabase,
    change: impl FnOnce(&mut ServerOptions),
) -> TestServer {
    start_with(database, |options| {
        options.connector = proxy.connector(database);
        options.listener = None;
        change(options);
    })
    .await
}

#[tokio::test]
async fn appends_alone_tell_within_moments_that_the_database_is_away_or_stalled() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database, |_| {}).await;
    let session = new_session(&server).await;
    append(&server, &session, text("x")).await.expect("a receipt");
    let mut health = HealthWatch::of(&server).await;
    let ways = [("away", Proxy::go_away as fn(&Proxy)), ("stalled", Proxy::stall)];
    for (seq, (way, end)) in (2..).zip(ways) {
        end(&proxy);
        let began = Instant::now();
        let told = async {
            assert_eq!(health.next().await, ServingStatus::NotServing, "{way}");
            let after = began.elapsed();
            proxy.come_back();
            assert_eq!(health.next().await, ServingStatus::Serving, "{way}");
            after
        };
        let (receipt, after) = tokio::join!(append(&server, &session, text("y")), told);
        assert_eq!(receipt.expect("a receipt").seq, seq, "{way}");
        assert!(after < SOON, "{way}: told after {after:?}");
    }
}

#[tokio::test]
async fn an_idle_server_finds_out_by_itself_where_it_is_told_to_ask() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database, |options| {
        options.health_check_interval = Some(Duration::from_millis(50));
    })
    .await;
    // Nobody ever asks for anything.
    let mut health = HealthWatch::of(&server).await;
    proxy.go_away();
    assert_eq!(health.next().await, ServingStatus::NotServing);
    proxy.come_back();
    assert_eq!(health.next().await, ServingStatus::Serving);
}

#[tokio::test]
async fn one_silent_connection_and_a_full_pool_are_no_dead_database() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database, |options| {
        options.db.pool_size = 1;
        options.db.attempt_limit = Duration::from_secs(2);
        options.ledger.lanes = 1;
    })
    .await;
    let (session, locked) = (new_session(&server).await, new_session(&server).await);
    append(&server, &session, text("x")).await.expect("a receipt");
    let mut health = HealthWatch::of(&server).await;
    let lock = SessionLock::on_session(&database, &locked).await;
    let request = pb::UpdateSessionRequest {
        session_id: locked,
        title: Some("waits".to_owned()),
        ..Default::default()
    };
    // It has the pool's only connection.
    let mut sessions = server.sessions();
    let update = tokio::spawn(async move { sessions.update_session(request).await });
    waiting(&database, 1).await;
    proxy.silence_open();
    // The lane's connection is given up, which takes longer than health takes to ask.
    let receipt = append(&server, &session, text("y")).await;
    assert_eq!(receipt.expect("a receipt").seq, 2);
    assert!(health.is_as_before(), "the database can be used");
    lock.release().await;
    update.abort();
}

#[tokio::test]
async fn lanes_that_get_nowhere_are_told() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database, |options| {
        options.db.attempt_limit = PATIENCE * 2;
    })
    .await;
    let session = new_session(&server).await;
    append(&server, &session, text("x")).await.expect("a receipt");
    let mut health = HealthWatch::of(&server).await;
    // The database goes on answering on other connections.
    proxy.silence_open();
    let told = async {
        assert_eq!(health.next().await, ServingStatus::NotServing);
        proxy.release_open();
        assert_eq!(health.next().await, ServingStatus::Serving);
    };
    let (receipt, ()) = tokio::join!(append(&server, &session, text("y")), told);
    assert_eq!(receipt.expect("a receipt").seq, 2);
}

#[tokio::test]
async fn a_lock_that_appends_wait_for_is_no_dead_database() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let mut health = HealthWatch::of(&server).await;
    let lock = SessionLock::on_session(&database, &session).await;
    let append = append(&server, &session, text("x"));
    // For longer than makes health ask.
    let held = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        lock.release().await;
    };
    let (receipt, ()) = tokio::join!(append, held);
    assert_eq!(receipt.expect("a receipt").seq, 1);
    assert!(health.is_as_before());
}
