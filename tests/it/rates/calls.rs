//! Calls by caller, tenant and method.

use std::{fs, time::Duration};

use chatledger::{
    rates::RateLimits,
    watched::{FlagFile, Looks},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{limit_of, limited, limits};
use crate::{
    access::world::{access, by, key},
    harness::*,
};

/// A server that asks for credentials, with limits.
async fn guarded(database: &TestDatabase, text: &str) -> TestServer {
    let rates = limits(text);
    start_with(database, |options| {
        options.access = Box::new(access);
        options.rates = rates;
    })
    .await
}

async fn create_by(server: &TestServer, key: &str) -> Result<String, Status> {
    let request = by(key, pb::CreateSessionRequest::default());
    let created = server.sessions().create_session(request).await?;
    Ok(created.into_inner().session.expect("a session").id)
}

async fn list_by(server: &TestServer, key: &str) -> Result<(), Status> {
    let request = by(key, of_nobody());
    server.sessions().list_sessions(request).await.map(drop)
}

fn of_nobody() -> pb::ListSessionsRequest {
    pb::ListSessionsRequest {
        owner: Some(pb::list_sessions_request::Owner::Anonymous(true)),
        ..Default::default()
    }
}

/// A rate of which no more is there within a test than its burst.
const SLOW: &str = "requests_per_second = 1\nburst";

#[tokio::test]
async fn each_caller_has_its_calls_and_all_of_a_tenant_share_the_tenant_s() {
    let database = TestDatabase::new().await;
    let text = format!("[caller]\n{SLOW} = 40\n[tenants.acme]\n{SLOW} = 60\n");
    let server = guarded(&database, &text).await;
    let scopes = &["read"][..];
    let (a, b) = (
        key(&database, "acme", scopes).await,
        key(&database, "acme", scopes).await,
    );
    let other = key(&database, "default", scopes).await;
    let until_refused = async |key: &str| {
        let mut passed = 0;
        loop {
            match list_by(&server, key).await {
                Ok(()) => passed += 1,
                Err(status) => return (passed, limit_of::<()>(Err(status), "RATE_LIMITED")),
            }
            assert!(passed < 1000, "there is no limit");
        }
    };
    let (passed, limit) = until_refused(&a).await;
    assert!((40..60).contains(&passed), "{passed}");
    assert_eq!(limit, "caller.requests_per_second");
    // What a was refused has taken nothing of the tenant's.
    let (passed, limit) = until_refused(&b).await;
    assert!((10..40).contains(&passed), "{passed}");
    assert_eq!(limit, "tenant.requests_per_second");
    let (passed, _) = until_refused(&other).await;
    assert!(passed >= 40, "{passed}");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back() {
    let database = TestDatabase::new().await;
    let server = limited(&database, &format!("[methods.CreateSession]\n{SLOW} = 1\n")).await;
    new_session(&server).await;
    let refused = server
        .sessions()
        .create_session(pb::CreateSessionRequest::default())
        .await;
    let status = refused.expect_err("a refusal");
    let headers = status.metadata();
    for (name, value) in [
        ("ratelimit-limit", "1"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "1"),
    ] {
        assert_eq!(headers.get(name).expect(name), value);
    }
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let wait = wait.expect("a delay");
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    let limit = limit_of::<()>(Err(status), "RATE_LIMITED");
    assert_eq!(limit, "methods.CreateSession.requests_per_second");
    // Other methods have no limit.
    for _ in 0..5 {
        answer(server.sessions().list_sessions(of_nobody()).await);
    }
    tokio::time::sleep(wait).await;
    new_session(&server).await;
}

#[tokio::test]
async fn streams_and_calls_at_a_time_are_limited_until_they_end() {
    let database = TestDatabase::new().await;
    let text = "[caller]\nconcurrent_streams = 2\nconcurrent_requests = 1\n";
    let server = limited(&database, text).await;
    let session = new_session(&server).await;
    let first = open_watch(&server, &session, 0).await.expect("a stream");
    let _second = open_watch(&server, &session, 0).await.expect("a stream");
    let third = open_watch(&server, &session, 0).await;
    assert_eq!(
        limit_of(third.map(drop), "RATE_LIMITED"),
        "caller.concurrent_streams"
    );
    drop(first);
    eventually("the first one's place", async || {
        open_watch(&server, &session, 0).await.ok().map(drop)
    })
    .await;
    // A call that waits for a lock, and one beside it.
    let lock = SessionLock::on_session(&database, &session).await;
    let mut messages = server.messages();
    let request = pb::AppendMessageRequest {
        session_id: session.clone(),
        message: Some(text_of_test()),
    };
    let appending = tokio::spawn(async move { messages.append_message(request).await });
    waiting(&database, 1).await;
    let get = pb::GetSessionRequest {
        session_id: session.clone(),
    };
    let refused = server.sessions().get_session(get).await;
    assert_eq!(limit_of(refused, "RATE_LIMITED"), "caller.concurrent_requests");
    lock.release().await;
    answer(appending.await.expect("no panic"));
    eventually("the call's place", async || {
        let get = pb::GetSessionRequest {
            session_id: session.clone(),
        };
        server.sessions().get_session(get).await.ok().map(drop)
    })
    .await;
}

fn text_of_test() -> pb::NewMessage {
    text("patience")
}

#[tokio::test]
async fn bytes_under_way_are_limited() {
    let database = TestDatabase::new().await;
    let server = limited(&database, "[tenant]\nin_flight_bytes = 1000000\n").await;
    let session = new_session(&server).await;
    let large = |content: usize| pb::AppendMessageRequest {
        session_id: session.clone(),
        message: Some(text(&"x".repeat(content))),
    };
    let lock = SessionLock::on_session(&database, &session).await;
    let mut messages = server.messages();
    let held = large(900_000);
    let appending = tokio::spawn(async move { messages.append_message(held).await });
    waiting(&database, 1).await;
    let refused = server.messages().append_message(large(900_000)).await;
    assert_eq!(limit_of(refused, "RATE_LIMITED"), "tenant.in_flight_bytes");
    lock.release().await;
    answer(appending.await.expect("no panic"));
    eventually("its bytes", async || {
        server.messages().append_message(large(900_000)).await.ok()
    })
    .await;
}

#[tokio::test]
async fn limits_are_read_again_and_a_mistake_keeps_those_that_there_are() {
    let database = TestDatabase::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("limits.toml");
    fs::write(&path, "").expect("written");
    let file = FlagFile {
        flag: "--limits-file",
        path: path.clone(),
    };
    let rates = RateLimits::open(file, &Looks::every(Duration::from_millis(10))).expect("limits");
    let server = start_with(&database, |options| options.rates = rates).await;
    for _ in 0..20 {
        new_session(&server).await;
    }
    let create = || async {
        let request = pb::CreateSessionRequest::default();
        server.sessions().create_session(request).await
    };
    fs::write(&path, format!("[caller]\n{SLOW} = 1\n")).expect("written");
    eventually("the limit", async || {
        create()
            .await
            .err()
            .filter(|status| status.code() == Code::ResourceExhausted)
    })
    .await;
    fs::write(&path, "[callers]\n").expect("written");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let both = (create().await, create().await);
    assert!(both.0.is_err() || both.1.is_err());
    fs::write(&path, "[caller]\nconcurrent_streams = 1\n").expect("written");
    eventually("another limit", async || {
        (create().await.is_ok() && create().await.is_ok()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mistake_at_boot_names_the_flag_and_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("limits.toml");
    fs::write(&path, "[caller]\nrate = 1\n").expect("written");
    let mut process = ServerProcess::start(process::serve().arg("--limits-file").arg(&path));
    assert_eq!(process.ended().await.code(), Some(1));
    let expected = format!(
        "chatledger: --limits-file {}: line 2: unknown field `rate`",
        path.display()
    );
    process.says(&expected).await;
}

#[tokio::test]
async fn health_and_who_has_no_credentials_take_nothing() {
    let database = TestDatabase::new().await;
    let server = guarded(&database, &format!("[tenant]\n{SLOW} = 2\n")).await;
    let key = key(&database, "default", &["write"]).await;
    for _ in 0..10 {
        let refused = create_by(&server, "cl_nobody").await.expect_err("no key");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    create_by(&server, &key).await.expect("a session");
}
