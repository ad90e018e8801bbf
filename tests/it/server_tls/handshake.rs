//! Who gets through a handshake, and what becomes of who doesn't.

use std::time::Duration;

use chatledger::{
    server::{ClientAuth, ServerTls},
    watched::Looks,
};
use pb::{
    message_service_client::MessageServiceClient, session_service_client::SessionServiceClient,
    watch_messages_response::Event,
};
use rustls::{
    HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    LOOK, ServerFiles,
    clients::{BOTH, HandClient, channel},
    pki::Authority,
    start_tls,
};
use crate::harness::*;

#[tokio::test]
async fn calls_and_streams_go_over_tls() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let server = start_tls(&database, files.tls_files()).await;
    let channel = channel(&server, &files.authority, None);
    let mut sessions = SessionServiceClient::new(channel.clone());
    let created = answer(sessions.create_session(pb::CreateSessionRequest::default()).await);
    let session_id = created.session.expect("a session").id;
    let mut messages = MessageServiceClient::new(channel);
    let watch = pb::WatchMessagesRequest {
        session_id: session_id.clone(),
        after_seq: 0,
    };
    let mut watch = TestWatch(answer(messages.watch_messages(watch).await));
    assert!(matches!(watch.event().await, Event::CaughtUp(_)));
    // More than a record, and than the windows.
    let content = "x".repeat(700_000);
    for _ in 0..3 {
        let request = pb::AppendMessageRequest {
            session_id: session_id.clone(),
            message: Some(text(&content)),
        };
        answer(messages.append_message(request).await);
    }
    for seq in 1..=3 {
        let message = watch.message().await;
        assert_eq!((message.seq, message.content == content), (seq, true));
    }
    server.stop().await;
}

#[tokio::test]
async fn versions_1_2_and_1_3_are_spoken_and_sessions_are_resumed() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let server = start_tls(&database, files.tls_files()).await;
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let client = HandClient::new(&files.authority, &[version], None);
        let first = client.call(server.address).await.expect("a call");
        assert_eq!((first.version, first.kind), (expected, HandshakeKind::Full));
        let second = client.call(server.address).await.expect("a call");
        assert_eq!((second.version, second.kind), (expected, HandshakeKind::Resumed));
    }
    server.stop().await;
}

/// The beginning of a handshake by a client that knows nothing newer than TLS 1.1.
fn tls_1_1_hello() -> Vec<u8> {
    let hello = [
        &[3, 2][..],         // the version
        &[7; 32],            // random
        &[0],                // no session
        &[0, 2, 0xc0, 0x13], // one cipher suite
        &[1, 0],             // no compression
        // A signature algorithm, or rustls would miss that first.
        &[0, 8, 0, 13, 0, 4, 0, 2, 4, 1],
    ]
    .concat();
    let length = u8::try_from(hello.len()).expect("a short hello");
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
}

/// Sends something, and reads to the end, which has to be orderly.
async fn answer_to(server: &TestServer, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(sent).await.expect("sent");
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer));
    ended.await.expect("it is ended").expect("in order");
    answer
}

#[tokio::test]
async fn who_speaks_no_tls_or_an_old_one_is_refused_with_an_alert() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let tls = ServerTls::open(files.tls_files(), &Looks::every(LOOK)).expect("TLS");
    let server = start_with(&database, |options| {
        options.tls = Some(tls);
        // They don't have to wait for it.
        options.read_timeout = PATIENCE * 2;
    })
    .await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let http_1 = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let is_alert = |answer: &[u8]| matches!(answer, [21, 3, _, 0, 2, 2, _]);
    for sent in [&preface[..], http_1, b"\0\0\0\0\0\0"] {
        let answer = answer_to(&server, sent).await;
        assert!(is_alert(&answer), "{answer:?}");
    }
    let answer = answer_to(&server, &tls_1_1_hello()).await;
    // protocol_version
    assert!(is_alert(&answer) && answer.last() == Some(&70), "{answer:?}");
    let mut plain = SessionServiceClient::new(server.channel.clone());
    let refused = plain.create_session(pb::CreateSessionRequest::default()).await;
    refused.expect_err("no call in the clear");
    server.stop().await;
}

#[tokio::test]
async fn only_http_2_is_negotiated() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let server = start_tls(&database, files.tls_files()).await;
    let mut client = HandClient::new(&files.authority, BOTH, None);
    for protocols in [vec![b"http/1.1".to_vec()], Vec::new()] {
        client.config.alpn_protocols = protocols;
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.config.clone()));
        let tcp = TcpStream::connect(server.address).await.expect("a connection");
        let name = "localhost".try_into().expect("a name");
        let refused = async {
            let mut stream = connector.connect(name, tcp).await?;
            stream.read_u8().await
        };
        timeout(PATIENCE, refused)
            .await
            .expect("an end")
            .expect_err("no HTTP/1");
    }
    client.config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    client.call(server.address).await.expect("h2 is among them");
    server.stop().await;
}

#[tokio::test]
async fn handshakes_that_don_t_go_on_are_ended() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let tls = ServerTls::open(files.tls_files(), &Looks::every(LOOK)).expect("TLS");
    let server = start_with(&database, |options| {
        options.tls = Some(tls);
        options.read_timeout = Duration::from_millis(300);
    })
    .await;
    for sent in [&b""[..], &[22, 3, 1], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]] {
        assert_eq!(answer_to(&server, sent).await, b"", "{sent:?}");
    }
    // A handshake, and then no HTTP/2.
    let client = HandClient::new(&files.authority, BOTH, None);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.config.clone()));
    let tcp = TcpStream::connect(server.address).await.expect("a connection");
    let name = "localhost".try_into().expect("a name");
    let mut stream = connector.connect(name, tcp).await.expect("a handshake");
    let ended = timeout(PATIENCE, stream.read_u8()).await.expect("it is ended");
    ended.expect_err("an end");
    // While one stalls, others come in.
    let stalled = TcpStream::connect(server.address).await.expect("a connection");
    client.call(server.address).await.expect("a call");
    drop(stalled);
    server.stop().await;
}

#[tokio::test]
async fn clients_show_a_certificate_of_the_authority_that_is_asked_for() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let (clients, others) = (Authority::new("clients"), Authority::new("clients"));
    let (good, wrong) = (clients.issue_for_client("rag"), others.issue_for_client("rag"));
    let expired = clients.issue(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let server_s = clients.issue_for_server();
    for client_auth in [ClientAuth::Required, ClientAuth::Optional] {
        let server = start_tls(&database, files.tls_files_for(&clients, client_auth)).await;
        for versions in [&[&TLS12][..], &[&TLS13]] {
            let by = |issued| HandClient::new(&files.authority, versions, issued);
            by(Some(&good)).call(server.address).await.expect("a call");
            for refused in [&wrong, &expired, &server_s] {
                by(Some(refused))
                    .call(server.address)
                    .await
                    .expect_err("a refusal");
            }
            let without = by(None).call(server.address).await;
            assert_eq!(
                without.is_ok(),
                client_auth == ClientAuth::Optional,
                "{without:?}"
            );
        }
        let mut sessions = SessionServiceClient::new(channel(&server, &files.authority, Some(&good)));
        answer(sessions.create_session(pb::CreateSessionRequest::default()).await);
        server.stop().await;
    }
}
