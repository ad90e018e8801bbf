//! Deadlines, full pools and servers, shutdown, and idleness: with locks held by hand that requests wait for.

use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::harness::*;

/// Appends in the background, and waits until the statement waits for the session's lock.
async fn append_that_waits(
    database: &TestDatabase,
    server: &TestServer,
    session_id: &str,
) -> tokio::task::JoinHandle<Result<pb::Receipt, Status>> {
    let mut client = server.messages();
    let request = pb::AppendMessageRequest {
        session_id: session_id.to_owned(),
        message: Some(text("patience")),
    };
    let task = tokio::spawn(async move {
        let response = client.append_message(request).await?;
        Ok(response.into_inner().receipt.expect("a receipt"))
    });
    waiting(database, 1).await;
    task
}

#[tokio::test]
async fn a_client_s_deadline_ends_the_statement_and_the_pool_is_whole_again() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.db.pool_size = 1).await;
    let [locked, free] = [new_session(&server).await, new_session(&server).await];
    let lock = SessionLock::on_session(&database, &locked).await;

    let update = pb::UpdateSessionRequest {
        session_id: locked.clone(),
        title: Some("other".to_owned()),
        ..Default::default()
    };
    let append_one = pb::AppendMessageRequest {
        session_id: locked.clone(),
        message: Some(text("too late")),
    };
    let append_next = pb::BatchAppendMessagesRequest {
        session_id: locked.clone(),
        messages: vec![text("too late")],
        expected_last_seq: Some(0),
    };
    let service = |method: &str| format!("/chatledger.v1.{method}");
    // One statement by itself, and two kinds of transactions.
    let began = Instant::now();
    let timeout = [("grpc-timeout", "400m")];
    let statuses = [
        raw::call(
            server.address,
            &service("MessageService/AppendMessage"),
            &timeout,
            &append_one,
        )
        .await,
        raw::call(
            server.address,
            &service("MessageService/BatchAppendMessages"),
            &timeout,
            &append_next,
        )
        .await,
        raw::call(
            server.address,
            &service("SessionService/UpdateSession"),
            &timeout,
            &update,
        )
        .await,
    ];
    // The deadline less the margins of `deadline`.
    assert!(
        began.elapsed() >= Duration::from_millis(3 * 370),
        "{:?}",
        began.elapsed()
    );
    for status in &statuses {
        let refusal = refusal_of(status);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
        );
    }
    // The lock is still held; nobody waits for it any more, and the one place in the pool is free.
    waiting(&database, 0).await;
    append(&server, &free, text("in time")).await.expect("a receipt");

    lock.release().await;
    let receipt = append(&server, &locked, text("in time"))
        .await
        .expect("a receipt");
    assert_eq!(receipt.seq, 1, "nothing of the abandoned appends is stored");
    assert_eq!(messages_of(&server, &locked).await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_gone_leaves_nothing_behind() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.db.pool_size = 1).await;
    let session_id = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session_id).await;
    let append_task = append_that_waits(&database, &server, &session_id).await;
    append_task.abort();
    waiting(&database, 0).await;
    new_session(&server).await;
    lock.release().await;
    server.stop().await;
}

#[tokio::test]
async fn the_server_s_own_limit_on_a_request_s_time_holds_without_a_deadline() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.request_timeout = Duration::from_millis(200);
    })
    .await;
    let session_id = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session_id).await;
    let refusal = refusal(append(&server, &session_id, text("too late")).await);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    lock.release().await;
    server.stop().await;
}

#[tokio::test]
async fn a_full_pool_answers_overloaded_and_when_to_try_again() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.db.pool_size = 1;
        options.db.wait_timeout = Duration::from_millis(50);
    })
    .await;
    let session_id = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session_id).await;
    let update = pb::UpdateSessionRequest {
        session_id: session_id.clone(),
        title: Some("patience".to_owned()),
        ..Default::default()
    };
    let mut client = server.sessions();
    let held = tokio::spawn(async move { client.update_session(update).await });
    waiting(&database, 1).await;

    let get = pb::GetSessionRequest {
        session_id: session_id.clone(),
    };
    let create = pb::CreateSessionRequest::default();
    let refusals = [
        refusal(server.sessions().get_session(get).await.map(drop)),
        refusal(server.sessions().create_session(create).await.map(drop)),
    ];
    for refusal in refusals {
        assert_eq!(
            (refusal.code, refusal.reason.as_str(), refusal.retry),
            (Code::ResourceExhausted, "OVERLOADED", true)
        );
    }

    // Appends have connections of their own.
    let other = append(&server, &id(), text("x")).await;
    assert_eq!(refusal(other).reason, "SESSION_NOT_FOUND");

    lock.release().await;
    held.await.expect("no panic").expect("a session");
    append(&server, &session_id, text("y")).await.expect("a receipt");
    server.stop().await;
}

#[tokio::test]
async fn more_requests_than_max_requests_are_told_to_come_back_and_health_is_not() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.max_requests = 1).await;
    let session_id = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session_id).await;
    let held = append_that_waits(&database, &server, &session_id).await;

    let get = || pb::GetSessionRequest {
        session_id: session_id.clone(),
    };
    let refusal = refusal(server.sessions().get_session(get()).await);
    assert_eq!(
        (refusal.code, refusal.reason.as_str(), refusal.retry),
        (Code::ResourceExhausted, "OVERLOADED", true)
    );
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .expect("health answers a full server's clients");

    lock.release().await;
    held.await.expect("no panic").expect("a receipt");
    server.sessions().get_session(get()).await.expect("room again");
    server.stop().await;
}

#[tokio::test]
async fn shutdown_answers_requests_under_way_and_takes_no_more() {
    let database = TestDatabase::new().await;
    let mut server = start_with(&database, |options| {
        options.shutdown_grace = PATIENCE;
    })
    .await;
    let session_id = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session_id).await;
    let held = append_that_waits(&database, &server, &session_id).await;

    server.ask_to_stop();
    eventually("the port is closed", async || {
        tokio::net::TcpStream::connect(server.address).await.err()
    })
    .await;
    // Nor on the connection that is still there.
    let mut client = server.sessions();
    let refused = client.create_session(pb::CreateSessionRequest::default()).await;
    refused.expect_err("too late");
    let sessions = "SELECT count(*) FROM chat_sessions";
    let count: i64 = database
        .client()
        .await
        .query_one(sessions, &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(count, 1);

    assert!(!held.is_finished());
    lock.release().await;
    let receipt = held.await.expect("no panic").expect("a receipt");
    assert_eq!(receipt.seq, 1);
    let began = Instant::now();
    server.stop().await;
    assert!(
        began.elapsed() < PATIENCE,
        "it did not wait for the grace period's end"
    );
}

#[tokio::test]
async fn the_grace_period_bounds_shutdown() {
    let database = TestDatabase::new().await;
    let mut server = start_with(&database, |options| {
        options.request_timeout = PATIENCE * 10;
        options.shutdown_grace = Duration::from_millis(100);
    })
    .await;
    let session_id = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session_id).await;
    let held = append_that_waits(&database, &server, &session_id).await;
    server.ask_to_stop();
    let stopped = tokio::time::timeout(PATIENCE, server.stop()).await;
    assert!(
        stopped.is_ok(),
        "run() waited for a request that waits for a lock"
    );
    held.abort();
    lock.release().await;
}

#[tokio::test]
async fn health_says_not_serving_while_the_server_stops() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let database = TestDatabase::new().await;
    let mut server = start_with(&database, |options| {
        // A watch has no end, so the grace period is what ends this one.
        options.shutdown_grace = Duration::from_millis(500);
    })
    .await;
    let mut client = HealthClient::new(server.channel.clone());
    let watch = client.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a watch").into_inner();
    assert_eq!(
        watch
            .message()
            .await
            .expect("an event")
            .expect("an event")
            .status(),
        ServingStatus::Serving
    );
    server.ask_to_stop();
    assert_eq!(
        watch
            .message()
            .await
            .expect("an event")
            .expect("an event")
            .status(),
        ServingStatus::NotServing
    );
    server.stop().await;
}

#[tokio::test]
async fn a_database_that_comes_back_while_the_server_stops_doesn_t_make_it_serving_again() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let mut server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.connect_for = Duration::from_millis(100);
        options.shutdown_grace = LONG_ENOUGH;
    })
    .await;
    let mut client = HealthClient::new(server.channel.clone());
    let watch = client.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a watch").into_inner();
    proxy.go_away();
    let create = pb::CreateSessionRequest::default();
    server
        .sessions()
        .create_session(create)
        .await
        .expect_err("no database");
    eventually("NOT_SERVING", async || {
        let mut client = client.clone();
        let status = client.check(HealthCheckRequest::default()).await;
        (status.expect("health").into_inner().status() == ServingStatus::NotServing).then_some(())
    })
    .await;
    server.ask_to_stop();
    eventually("the port is closed", async || {
        tokio::net::TcpStream::connect(server.address).await.err()
    })
    .await;
    proxy.come_back();
    // SERVING from the start, if the watch was told; from then on nothing but NOT_SERVING.
    let mut told = Vec::new();
    let telling = async {
        while let Ok(Some(event)) = watch.message().await {
            told.push(event.status());
        }
    };
    tokio::select! {
        () = telling => {}
        () = server.stop() => {}
    }
    assert_eq!(
        told.iter()
            .filter(|status| **status == ServingStatus::Serving)
            .count(),
        1,
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&ServingStatus::NotServing));
}

/// Four times the interval at which anything in the service could be tempted to poll.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_idle_server_sends_nothing_to_the_database() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
    })
    .await;
    // Not even before the first request.
    tokio::time::sleep(LONG_ENOUGH / 4).await;
    assert_eq!((proxy.opened(), proxy.asked()), (0, 0));

    // Neither after some, also failing ones, nor for clients that only ask whether it is well.
    let session_id = new_session(&server).await;
    append(&server, &session_id, text("x")).await.expect("a receipt");
    append(&server, &id(), text("x"))
        .await
        .expect_err("no such session");
    quiet(&proxy).await;
    let before = (proxy.opened(), proxy.asked());
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    let watch = health.watch(request.clone()).await.expect("a watch");
    health.check(request).await.expect("health");
    server.db.prune();
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!((proxy.opened(), proxy.asked()), before);
    drop((watch, health));

    // Nor after an outage is over.
    proxy.break_all();
    let get = pb::GetSessionRequest { session_id };
    server
        .sessions()
        .get_session(get.clone())
        .await
        .expect("a session");
    quiet(&proxy).await;
    server.stop().await;
}

/// Until what requests have left behind is done: a notification of other servers, a health check.
async fn quiet(proxy: &Proxy) {
    eventually("quiet", async || {
        let before = proxy.asked();
        tokio::time::sleep(LONG_ENOUGH / 2).await;
        (proxy.asked() == before).then_some(())
    })
    .await;
}
