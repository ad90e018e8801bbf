//! Connections to the database that fall silent, or are no longer what they were: over in moments, with nothing lost.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::*;

/// A server whose background work gives a connection up after this.
async fn server_behind(proxy: &Proxy, database: &TestDatabase) -> TestServer {
    start_with(database, |options| {
        options.connector = proxy.connector(database);
        options.listener = Some(proxy.connector(database));
        options.db.attempt_limit = Duration::from_millis(500);
    })
    .await
}

#[tokio::test]
async fn connections_that_fall_silent_hold_no_session_up_and_lose_nothing() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database).await;
    let sessions = join_all((0..16).map(|_| new_session(&server))).await;
    let appends = |round: i64| {
        let (server, sessions) = (&server, &sessions);
        async move {
            let appends = sessions.iter().map(|session| append(server, session, text("x")));
            for receipt in join_all(appends).await {
                assert_eq!(receipt.expect("a receipt").seq, round);
            }
        }
    };
    let mut watch = watch(&server, &sessions[0], 0).await;
    appends(1).await;
    assert_eq!(watch.message().await.seq, 1);
    // Every lane's connection, and that of the watches' reader, acknowledges and delivers nothing.
    proxy.silence_open();
    appends(2).await;
    assert_eq!(watch.messages_until(2).await.len(), 1);
    // Past the proxy: the request pool's own connections are silent for as long as a request lasts.
    let direct = start(&database).await;
    for session in &sessions {
        assert_gapless(&messages_of(&direct, session).await);
    }
}

#[tokio::test]
async fn a_plan_that_no_longer_fits_is_made_again_at_once() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.db.pool_size = 1).await;
    let session = new_session(&server).await;
    append(&server, &session, text("x")).await.expect("a receipt");
    get_session(&server, &session).await;
    messages_of(&server, &session).await;
    let sql = "ALTER TABLE chat_sessions ALTER title TYPE varchar(600); ALTER TABLE messages ALTER role TYPE varchar(20)";
    database
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect("other types");
    get_session(&server, &session).await;
    messages_of(&server, &session).await;
    append(&server, &session, text("y")).await.expect("a receipt");
}

#[tokio::test]
async fn callers_with_short_deadlines_do_not_make_the_server_look_ill() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for _ in 0..300 {
        let mut request = Request::new(pb::GetSessionRequest {
            session_id: session.clone(),
        });
        request.set_timeout(Duration::from_micros(300));
        let _ = server.sessions().get_session(request).await;
        assert!(*server.db.reachable().borrow(), "the database answers");
    }
    let mut health = HealthClient::new(server.channel.clone());
    let status = health
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
    assert_eq!(status.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn appends_alone_find_out_that_the_database_is_away() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database).await;
    let session = new_session(&server).await;
    append(&server, &session, text("x")).await.expect("a receipt");
    proxy.go_away();
    let waiting = append(&server, &session, text("y"));
    let mut reachable = server.db.reachable();
    let told = async {
        reachable
            .wait_for(|reachable| !reachable)
            .await
            .expect("the server is there");
        proxy.come_back();
    };
    let (receipt, ()) = tokio::join!(waiting, told);
    assert_eq!(receipt.expect("a receipt").seq, 2);
}

#[tokio::test]
async fn where_no_connection_is_left_idle_ones_give_way() {
    let database = TestDatabase::new().await;
    let role = format!("limited_{}", database.name);
    let sql = format!(
        "CREATE ROLE {role} LOGIN CONNECTION LIMIT 4; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    );
    let hand = database.client().await;
    hand.batch_execute(&sql).await.expect("a role");
    let url = database.url();
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let url = format!("{scheme}://{role}@{rest}");
    let url = chatledger::postgres::url::DatabaseUrl::parse(&url).expect("a URL");
    let connector = chatledger::postgres::connect::Connector::new(&url).expect("a connector");
    let server = start_with(&database, |options| {
        options.connector = connector;
        options.listener = None;
    })
    .await;
    let session = new_session(&server).await;
    // Fills the request pool, with as many connections as there are.
    join_all((0..8).map(|_| messages_of(&server, &session))).await;
    for seq in 1..=3 {
        assert_eq!(
            append(&server, &session, text("x")).await.expect("a receipt").seq,
            seq
        );
    }
    server.stop().await;
    let gone = async || {
        hand.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await
            .ok()
    };
    eventually("the role is dropped", gone).await;
}
