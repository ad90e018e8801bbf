//! Connections to the database that fall silent, or are no longer what they were: over in moments, with nothing lost.

use std::time::Duration;

use chatledger_postgres::{Sql, connect::Connector, url::DatabaseUrl};
use futures_util::future::join_all;
use tokio::net::TcpListener;
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
    let url = DatabaseUrl::parse(&url).expect("a URL");
    let connector = Connector::new(&url).expect("a connector");
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

/// The proxy's URL with a host before its own that takes connections and says nothing.
async fn behind_a_silent_host(
    proxy: &Proxy,
    database: &TestDatabase,
    query: &str,
) -> (TcpListener, Connector) {
    let hole = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = hole.local_addr().expect("an address");
    let url = proxy.url(database).replace('@', &format!("@{address},"));
    let url = DatabaseUrl::parse(&format!("{url}{query}")).expect("a URL");
    (hole, Connector::new(&url).expect("a connector"))
}

#[tokio::test]
async fn the_second_host_of_a_url_has_its_turn_when_the_first_is_silent() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let (_hole, connector) = behind_a_silent_host(&proxy, &database, "&connect_timeout=2").await;
    let session = new_session(&start(&database).await).await;
    let server = start_with(&database, |options| {
        options.connector = connector;
        options.listener = None;
        // Both shorter than the first host is waited for.
        options.db.attempt_limit = Duration::from_millis(500);
        options.db.connect_for = Duration::from_secs(1);
    })
    .await;
    append(&server, &session, text("x")).await.expect("a receipt");
}

#[tokio::test]
async fn a_silent_host_is_not_waited_for_by_everybody() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let (_hole, connector) = behind_a_silent_host(&proxy, &database, "&connect_timeout=30").await;
    let session = new_session(&start(&database).await).await;
    let server = start_with(&database, |options| {
        options.connector = connector;
        options.listener = None;
    })
    .await;
    // Whoever comes first waits in vain, and tells the next.
    let get = async || {
        let mut request = Request::new(pb::GetSessionRequest {
            session_id: session.clone(),
        });
        request.set_timeout(Duration::from_secs(1));
        server.sessions().get_session(request).await
    };
    get().await.expect_err("no time for the second host");
    get().await.expect("a session");
}

#[tokio::test]
async fn requests_do_not_find_out_one_by_one_that_their_connections_are_silent() {
    const CONNECTIONS: usize = 8;
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.pool_size = CONNECTIONS;
    })
    .await;
    let session = new_session(&server).await;
    let hand = database.client().await;
    let lock = "BEGIN; LOCK TABLE chat_sessions IN ACCESS EXCLUSIVE MODE";
    hand.batch_execute(lock).await.expect("the lock");
    let all = (0..CONNECTIONS).map(|_| get_session(&server, &session));
    let release = async {
        // Each on a connection of its own.
        waiting(&database, 8).await;
        hand.batch_execute("ROLLBACK").await.expect("a rollback");
    };
    tokio::join!(join_all(all), release);
    proxy.silence_open();
    let mut failures = 0;
    loop {
        let mut request = Request::new(pb::GetSessionRequest {
            session_id: session.clone(),
        });
        request.set_timeout(Duration::from_secs(1));
        match server.sessions().get_session(request).await {
            Ok(_) => break,
            Err(_) => failures += 1,
        }
    }
    assert!(failures < CONNECTIONS / 2, "{failures} found out");
}

#[tokio::test]
async fn an_abandoned_statement_is_cancelled_however_late_it_arrives() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.pool_size = 1;
    })
    .await;
    let session = new_session(&server).await;
    let hand = database.client().await;
    let lock = "BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE";
    hand.batch_execute(lock).await.expect("the lock");
    proxy.silence_open();
    let ended = proxy.ended();
    let mut request = Request::new(pb::ListMessagesRequest {
        session_id: session,
        ..Default::default()
    });
    request.set_timeout(Duration::from_millis(300));
    let refused = server.messages().list_messages(request).await;
    refused.expect_err("the database has not heard of it");
    let cancelled = async || (proxy.ended() > ended).then_some(());
    eventually("a cancel request comes, and does nothing", cancelled).await;
    proxy.release_open();
    // It comes, and ends though the lock is still held.
    waiting(&database, 1).await;
    waiting(&database, 0).await;
    hand.batch_execute("ROLLBACK").await.expect("a rollback");
}

#[tokio::test]
async fn the_server_looks_whether_somebody_still_waits_and_what_the_url_sets_stays() {
    const INTERVAL: Sql = Sql {
        name: "test.Interval",
        text: "SELECT current_setting('client_connection_check_interval')",
        params: &[],
    };
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    for (query, interval) in [
        ("", "2s"),
        ("&options=-cclient_connection_check_interval%3D500", "500ms"),
    ] {
        let url = DatabaseUrl::parse(&format!("{}{query}", proxy.url(&database))).expect("a URL");
        let server = start_with(&database, |options| {
            options.connector = Connector::new(&url).expect("a connector");
        })
        .await;
        let rows = server.db.read(None, &INTERVAL, &[]).await.expect("a row");
        assert_eq!(rows[0].get::<_, &str>(0), interval, "{query}");
    }
}

#[tokio::test]
async fn a_transaction_whose_plans_no_longer_fit_may_be_tried_again() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.db.pool_size = 1).await;
    let session = new_session(&server).await;
    let update = async |title: &str| {
        let request = pb::UpdateSessionRequest {
            session_id: session.clone(),
            title: Some(title.to_owned()),
            ..Default::default()
        };
        server.sessions().update_session(request).await
    };
    update("a").await.expect("a session");
    let sql = "ALTER TABLE chat_sessions ALTER title TYPE varchar(600)";
    let hand = database.client().await;
    hand.batch_execute(sql).await.expect("another type");
    if let Err(status) = update("b").await {
        let refusal = refusal_of(&status);
        assert_eq!(
            (refusal.reason.as_str(), refusal.retry),
            ("DATABASE_UNAVAILABLE", true)
        );
        update("b").await.expect("a session");
    }
}

#[tokio::test]
async fn a_connection_whose_search_path_was_changed_is_replaced() {
    let database = TestDatabase::new().await;
    let sql = "CREATE FUNCTION team() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.content = 'spoil' THEN PERFORM set_config('search_path', 'nowhere', false); END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER z_team AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION team()";
    let hand = database.client().await;
    hand.batch_execute(sql).await.expect("a trigger");
    let server = start_with(&database, |options| options.ledger.lanes = 1).await;
    let session = new_session(&server).await;
    append(&server, &session, text("x")).await.expect("a receipt");
    // Whoever has the connection next.
    append(&server, &session, text("spoil")).await.expect("a receipt");
    append(&server, &session, text("y")).await.expect("a receipt");
    assert_gapless(&messages_of(&server, &session).await);
}
