//! The server's outside: who is let in, who has to leave, and what isn't gRPC.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::*;

const GET_SESSION: &str = "/chatledger.v1.SessionService/GetSession";

/// An HTTP/2 client that lets the server send nothing but headers.
async fn deaf(server: &TestServer) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake(stream)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    client.ready().await.expect("a ready connection")
}

fn request(server: &TestServer, method: &str, path: &str, content_type: &str) -> http::Request<()> {
    http::Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", server.address))
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(())
        .expect("a request")
}

#[tokio::test]
async fn connections_that_take_no_answers_leave_when_others_wait() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.max_requests = 8).await;
    let session = new_session(&server).await;
    let get = pb::GetSessionRequest {
        session_id: session.clone(),
    };
    let frame = raw::frame(&get.encode_to_vec());
    let mut clients = Vec::new();
    let mut unread = Vec::new();
    // More than there are permits, on connections that together hold all of them.
    for _ in 0..6 {
        let mut client = deaf(&server).await;
        for _ in 0..8 {
            let request = request(&server, "POST", GET_SESSION, "application/grpc");
            let (response, mut body) = client.send_request(request, false).expect("a stream");
            body.send_data(Bytes::from(frame.clone()), true).expect("a frame");
            unread.push(response);
        }
        clients.push(client);
    }
    for _ in 0..20 {
        let polite = Endpoint::from_shared(format!("http://{}", server.address)).expect("an endpoint");
        let mut polite = pb::session_service_client::SessionServiceClient::new(polite.connect_lazy());
        polite.get_session(get.clone()).await.expect("a session");
    }
    drop((clients, unread));
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.max_connections = 2).await;
    let session = new_session(&server).await;
    for _ in 0..6 {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("an endpoint");
        let channel = endpoint.connect().await.expect("a connection");
        let mut client = pb::session_service_client::SessionServiceClient::new(channel);
        let get = pb::GetSessionRequest {
            session_id: session.clone(),
        };
        client.get_session(get).await.expect("a session");
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_told_in_http() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (method, content_type, code) in [
        ("POST", "text/plain", 415),
        ("POST", "application/grpc-web", 415),
        ("GET", "application/grpc", 405),
        ("PUT", "application/grpc", 405),
        ("POST", "application/grpc+proto", 200),
    ] {
        let mut client = deaf(&server).await;
        let request = request(&server, method, GET_SESSION, content_type);
        let (response, _) = client.send_request(request, true).expect("a stream");
        assert_eq!(
            response.await.expect("a response").status(),
            code,
            "{method} {content_type}"
        );
    }
}

#[tokio::test]
async fn watches_of_health_are_limited_and_leave_room_for_others() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut greedy = deaf(&server).await;
    let frame = raw::frame(&HealthCheckRequest::default().encode_to_vec());
    let mut refused = 0;
    let mut open = Vec::new();
    for _ in 0..2200 {
        let request = request(
            &server,
            "POST",
            "/grpc.health.v1.Health/Watch",
            "application/grpc",
        );
        greedy = greedy.ready().await.expect("a ready connection");
        let (response, mut body) = greedy.send_request(request, false).expect("a stream");
        body.send_data(Bytes::from(frame.clone()), true).expect("a frame");
        let response = response.await.expect("a response");
        let overloaded = i32::from(Code::ResourceExhausted).to_string();
        if response
            .headers()
            .get("grpc-status")
            .is_some_and(|code| *code == *overloaded)
        {
            refused += 1;
        }
        open.push(response);
    }
    assert_eq!(refused, 2200 - 2048);
    let mut health = HealthClient::new(server.channel.clone());
    health
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
}

#[tokio::test]
async fn what_is_under_way_when_the_grace_period_ends_hears_of_it() {
    let database = TestDatabase::new().await;
    let mut server = start_with(&database, |options| {
        options.shutdown_grace = Duration::from_millis(200);
    })
    .await;
    let session = new_session(&server).await;
    let lock = HeldLock::on_session(&database, &session).await;
    let update = pb::UpdateSessionRequest {
        session_id: session,
        title: Some("waits".into()),
        ..Default::default()
    };
    let mut sessions = server.sessions();
    let updating = tokio::spawn(async move { sessions.update_session(update).await });
    waiting(&database, 1).await;
    server.ask_to_stop();
    assert_refused(
        updating.await.expect("no panic"),
        Code::Unavailable,
        "SHUTTING_DOWN",
    );
    lock.release().await;
}
