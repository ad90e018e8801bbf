//! Watches whose connections to the database fall silent: a heartbeat says that the table was looked at, and every read
//! has a limit.

use std::time::Duration;

use pb::watch_messages_response::Event;
use tonic::Code;

use crate::{harness::*, watch_servers::listening};

const LIMIT: Duration = Duration::from_millis(500);

/// A server all of whose connections go through the proxy, and whose background work gives one up after [`LIMIT`].
async fn server_behind(
    proxy: &Proxy,
    database: &TestDatabase,
    change: impl FnOnce(&mut ServerOptions),
) -> TestServer {
    start_with(database, |options| {
        options.connector = proxy.connector(database);
        options.listener = Some(proxy.connector(database));
        options.db.attempt_limit = LIMIT;
        change(options);
    })
    .await
}

#[tokio::test]
async fn a_heartbeat_needs_a_look_at_the_table_and_without_one_the_watch_ends() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database, |options| {
        options.watch.heartbeat = Duration::from_millis(50);
        options.watch.safety_poll = Duration::from_millis(50);
    })
    .await;
    let session = new_session(&server).await;
    let mut watch = open_watch(&server, &session, 0).await.expect("a watch");
    let mut next = async || {
        let next = tokio::time::timeout(PATIENCE, watch.message()).await;
        next.expect("an event in time")
            .map(|event| event.expect("no end").event.expect("an event"))
    };
    for _ in 0..3 {
        // The first is that it has caught up.
        next().await.expect("no error");
    }
    proxy.stall();
    let mut heartbeats = 0;
    let end = loop {
        match next().await {
            // What was on its way, and one whose look was.
            Ok(Event::Heartbeat(_)) if heartbeats < 3 => heartbeats += 1,
            Ok(event) => panic!("nobody has seen the table: {event:?}"),
            Err(status) => break status,
        }
    };
    let refusal = refusal_of(&end);
    assert_eq!(
        (refusal.code, refusal.reason.as_str(), refusal.retry),
        (Code::Unavailable, "DATABASE_UNAVAILABLE", true)
    );
    proxy.come_back();
}

#[tokio::test]
async fn what_a_watch_reads_for_itself_has_a_limit() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = server_behind(&proxy, &database, |options| options.db.pool_size = 1).await;
    let session = new_session(&server).await;
    append(&server, &session, text("x")).await.expect("a receipt");
    get_session(&server, &session).await;
    // The request pool's connection, with which a watch begins, is one of them.
    proxy.silence_open();
    let mut watch = watch(&server, &session, 0).await;
    assert_eq!(watch.message().await.seq, 1);
}

#[tokio::test]
async fn a_silent_connection_that_listens_is_replaced() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let here = start(&database).await;
    let there = server_behind(&proxy, &database, |options| {
        // Nothing else tells it.
        options.watch.safety_poll = Duration::from_hours(1);
    })
    .await;
    let session = new_session(&here).await;
    let mut watch = watch(&there, &session, 0).await;
    listening(&database, 1).await;
    // Longer than sessions are polled for before that.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for seq in 1..=2 {
        append(&here, &session, text("x")).await.expect("a receipt");
        assert_eq!(watch.message().await.seq, seq);
        proxy.silence_open();
    }
}
