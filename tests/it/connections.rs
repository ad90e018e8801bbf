//! The server's outside: who is let in, who has to leave, and what isn't gRPC.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, transport::Endpoint};
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

fn request_of(server: &TestServer, path: &str) -> http::Request<()> {
    request(server, "POST", path, "application/grpc")
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
    let lock = SessionLock::on_session(&database, &session).await;
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

#[tokio::test]
async fn old_connections_are_left_without_a_failed_call() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.max_connection_age = Duration::from_millis(200);
    })
    .await;
    let session = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session).await;
    // A call that is under way goes on.
    let mut messages = server.messages();
    let request = pb::AppendMessageRequest {
        session_id: session.clone(),
        message: Some(text("patience")),
    };
    let appending = tokio::spawn(async move { messages.append_message(request).await });
    waiting(&database, 1).await;
    let get = pb::GetSessionRequest { session_id: session };
    let body = raw::frame(&get.encode_to_vec());
    for _ in 0..3 {
        let stream = TcpStream::connect(server.address).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let mut ended = tokio::spawn(connection);
        let mut sent = client.ready().await.expect("a ready connection");
        let (_, mut first) = sent
            .send_request(request_of(&server, GET_SESSION), false)
            .expect("a stream");
        first.send_data(Bytes::from(body.clone()), true).expect("a frame");
        // The polite client's own connection ends as well meanwhile, and it doesn't notice.
        while !ended.is_finished() {
            let got = server.sessions().get_session(get.clone()).await;
            // What tonic's client hadn't sent when its connection ended, it doesn't send on another, as others do.
            let is_unsent = |status: &Status| {
                status.code() == Code::Cancelled && status.message() == "operation was canceled"
            };
            assert!(got.as_ref().err().is_none_or(is_unsent), "{got:?}");
        }
        (&mut ended).await.expect("no panic").expect("an orderly end");
    }
    assert!(!appending.is_finished());
    lock.release().await;
    appending.await.expect("no panic").expect("a receipt");
    server.stop().await;
}

#[tokio::test]
async fn what_is_still_under_way_after_the_grace_of_an_old_connection_is_cut() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.max_connection_age = Duration::from_millis(100);
        options.max_connection_age_grace = Duration::from_millis(100);
    })
    .await;
    let session = new_session(&server).await;
    let mut watch = watch(&server, &session, 0).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        while let Ok(Some(_)) = watch.0.message().await {}
    });
    ended.await.expect("it is cut");
    server.stop().await;
}

#[tokio::test]
async fn connections_that_don_t_begin_are_ended() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.read_timeout = Duration::from_millis(200);
    })
    .await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Nothing; half of the preface; half of a header; and of a frame of settings.
    let beginnings: [&[u8]; 4] = [
        b"",
        &preface[..12],
        &[preface, &[0, 0, 6, 4][..]].concat(),
        &[preface, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3][..]].concat(),
    ];
    for beginning in beginnings {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(beginning).await.expect("sent");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        ended.await.expect("it is ended").expect("in order");
        assert_eq!(answer, b"", "{beginning:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn http_1_is_told_that_this_is_http_2() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let post = format!("POST {GET_SESSION} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n01234");
    for request in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        &post,
        "PRIX / HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        let ended = tokio::time::timeout(PATIENCE, async {
            let mut reader = tokio::io::BufReader::new(stream);
            // Its end comes with the client's own.
            loop {
                let mut line = String::new();
                let count = reader.read_line(&mut line).await.expect("no reset");
                answer.push_str(&line);
                if count == 0 {
                    break;
                }
            }
        });
        ended.await.expect("an end");
        assert!(answer.starts_with("HTTP/1.1 505 "), "{request}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_isn_t_served_at_all_is_unimplemented_with_details() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for path in ["/other.Service/Method", "/grpc.health.v1.Health/Other", "/"] {
        let mut client = raw::RawClient::connect(server.address).await;
        let status = client.call(path, &[], raw::frame(&[])).await;
        let refusal = refusal_of(&status);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unimplemented, "UNIMPLEMENTED"),
            "{path}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn questions_of_health_and_reflection_are_small_and_come_in_time() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.read_timeout = Duration::from_millis(200);
    })
    .await;
    let check = "/grpc.health.v1.Health/Check";
    let watch = "/grpc.health.v1.Health/Watch";
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    // Its implementation ends with OK after a question that can't be read.
    let is = |status: &Status, path: &str, reason: &str| {
        let expected = (path == reflection).then_some(Code::Ok);
        assert!(
            expected == Some(status.code()) || refusal_of(status).reason == reason,
            "{path}: {status:?}"
        );
    };
    let large = HealthCheckRequest {
        service: "x".repeat(5000),
    };
    let large = raw::frame(&large.encode_to_vec());
    let mut client = raw::RawClient::connect(server.address).await;
    for path in [check, watch, reflection] {
        let status = client.call(path, &[], large.clone()).await;
        is(&status, path, "INVALID_FIELD");
        // Headers only, and half of a message.
        for body in [Vec::new(), raw::frame(&[0; 9])[..8].to_vec()] {
            let status = client.begin(path, &[], body, false).await.status().await;
            is(&status, path, "DEADLINE_EXCEEDED");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn without_file_descriptors_silent_connections_make_room_and_the_log_says_so() {
    let database = TestDatabase::new().await;
    let mut command = process::within_files(&process::serve(), 96);
    command.env("DATABASE_URL", database.url());
    let process = ServerProcess::start(&mut command);
    let line = process.ready_line();
    let address: std::net::SocketAddr = process::address_in(&line).parse().expect("an address");
    let create = || async {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
        let mut client = pb::session_service_client::SessionServiceClient::new(endpoint.connect_lazy());
        client.create_session(pb::CreateSessionRequest::default()).await
    };
    create().await.expect("a session");
    let mut silent = Vec::new();
    for _ in 0..120 {
        silent.push(
            TcpStream::connect(address)
                .await
                .expect("in the backlog at least"),
        );
    }
    eventually("it is logged", async || {
        process
            .stderr()
            .contains("can't accept a connection")
            .then_some(())
    })
    .await;
    create().await.expect("silent ones have made room");
    let told = process.stderr().matches("can't accept a connection").count();
    assert!(told <= 3, "told {told} times");
    drop(silent);
}
