//! The files of TLS: what is said of those that can't be used, and what becomes of those that change.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use chatledger::server::{ClientAuth, TlsFiles};
use pb::{append_result::Result as Of, message_service_client::MessageServiceClient};
use rustls::HandshakeKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    ServerFiles,
    clients::{BOTH, HandClient, channel},
    pki::Authority,
    start_tls,
};
use crate::harness::{process::serve, *};

/// An append stream over TLS, which goes on while certificates change.
struct OpenStream {
    session_id: String,
    entries: mpsc::Sender<pb::StreamAppendMessagesRequest>,
    answers: Streaming<pb::StreamAppendMessagesResponse>,
    appended: i64,
}

impl OpenStream {
    async fn open(server: &TestServer, authority: &Authority) -> Self {
        let channel = channel(server, authority, None);
        let mut sessions = pb::session_service_client::SessionServiceClient::new(channel.clone());
        let created = answer(sessions.create_session(pb::CreateSessionRequest::default()).await);
        let (entries, requests) = mpsc::channel(1);
        let answers = MessageServiceClient::new(channel)
            .stream_append_messages(ReceiverStream::new(requests))
            .await;
        let mut stream = OpenStream {
            session_id: created.session.expect("a session").id,
            entries,
            answers: answer(answers),
            appended: 0,
        };
        stream.append().await;
        stream
    }

    async fn append(&mut self) {
        let entry = pb::AppendEntry {
            session_id: self.session_id.clone(),
            message: Some(text("on and on")),
        };
        let frame = pb::StreamAppendMessagesRequest { entries: vec![entry] };
        self.entries.send(frame).await.expect("an open stream");
        let answered = self
            .answers
            .message()
            .await
            .expect("no error")
            .expect("an answer");
        self.appended += 1;
        match &answered.results[0].result {
            Some(Of::Receipt(receipt)) => assert_eq!(receipt.seq, self.appended),
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until new connections are shown a certificate.
async fn shown(server: &TestServer, authority: &Authority, certificate: &[u8]) {
    eventually("another certificate", async || {
        let client = HandClient::new(authority, BOTH, None);
        let shaken = client.call(server.address).await.expect("a call");
        (shaken.certificate == certificate).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_written_anew_is_shown_while_streams_go_on() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let server = start_tls(&database, files.tls_files()).await;
    let mut stream = OpenStream::open(&server, &files.authority).await;
    for _ in 0..2 {
        let certificate = files.renew();
        shown(&server, &files.authority, &certificate).await;
        stream.append().await;
    }
    server.stop().await;
}

/// A version of a mounted secret, and the link to it swapped as Kubernetes does.
fn mount(dir: &Path, version: &str, authority: &Authority) -> Vec<u8> {
    let issued = authority.issue_for_server();
    fs::create_dir(dir.join(version)).expect("a directory");
    fs::write(dir.join(version).join("tls.crt"), &issued.cert_pem).expect("written");
    fs::write(dir.join(version).join("tls.key"), &issued.key_pem).expect("written");
    symlink(version, dir.join("..data_tmp")).expect("a link");
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("renamed");
    issued.der
}

#[tokio::test]
async fn a_certificate_that_kubernetes_swaps_is_shown_while_streams_go_on() {
    let database = TestDatabase::new().await;
    let authority = Authority::new("servers");
    let dir = tempfile::tempdir().expect("a directory");
    mount(dir.path(), "..2026_01", &authority);
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), dir.path().join(name)).expect("a link");
    }
    let files = TlsFiles {
        cert: dir.path().join("tls.crt"),
        key: dir.path().join("tls.key"),
        client_ca: None,
        client_auth: ClientAuth::Required,
    };
    let server = start_tls(&database, files).await;
    let mut stream = OpenStream::open(&server, &authority).await;
    let certificate = mount(dir.path(), "..2026_02", &authority);
    fs::remove_dir_all(dir.path().join("..2026_01")).expect("removed");
    shown(&server, &authority, &certificate).await;
    stream.append().await;
    server.stop().await;
}

#[tokio::test]
async fn an_authority_of_clients_that_is_replaced_lets_nobody_in_by_the_old_one() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = start_tls(&database, files.tls_files_for(&old, ClientAuth::Required)).await;
    let (of_old, of_new) = (old.issue_for_client("rag"), new.issue_for_client("rag"));
    let client = HandClient::new(&files.authority, BOTH, Some(&of_old));
    client.call(server.address).await.expect("a call");
    let resumed = client.call(server.address).await.expect("a call");
    assert_eq!(resumed.kind, HandshakeKind::Resumed);
    fs::write(files.path("clients.crt"), &new.pem).expect("written");
    eventually("the old one is refused, with its session", async || {
        client.call(server.address).await.is_err().then_some(())
    })
    .await;
    let client = HandClient::new(&files.authority, BOTH, Some(&of_new));
    client.call(server.address).await.expect("a call");
    server.stop().await;
}

fn serve_tls(files: &ServerFiles) -> Command {
    let mut command = serve();
    command
        .arg("--tls-cert")
        .arg(files.path("tls.crt"))
        .arg("--tls-key")
        .arg(files.path("tls.key"))
        .args(["--reload-interval", "10ms"]);
    command
}

#[tokio::test]
async fn a_bad_pair_keeps_the_old_one_and_is_logged_once() {
    let database = TestDatabase::new().await;
    let files = ServerFiles::new();
    let process = ServerProcess::start(serve_tls(&files).env("DATABASE_URL", database.url()));
    let ready = process.ready_line();
    let address = process::address_in(&ready).parse().expect("an address");
    let client = HandClient::new(&files.authority, BOTH, None);
    let first = client.call(address).await.expect("a call").certificate;
    let other = files.authority.issue_for_server();
    fs::write(files.path("tls.key"), &other.key_pem).expect("written");
    process.says("isn't the key of the first certificate").await;
    fs::write(files.path("tls.crt"), "nothing").expect("written");
    process.says("has no certificate in PEM").await;
    assert_eq!(client.call(address).await.expect("a call").certificate, first);
    // That it isn't logged again is seen behind the next line.
    fs::write(files.path("tls.crt"), &other.cert_pem).expect("written");
    process.says("files have changed, and are in use").await;
    assert_eq!(client.call(address).await.expect("a call").certificate, other.der);
    let stderr = process.stderr();
    assert_eq!(stderr.matches("can't be used").count(), 2, "{stderr}");
    assert!(!stderr.contains("PRIVATE KEY"), "{stderr}");
}

#[tokio::test]
async fn mistakes_at_boot_name_the_flag() {
    let files = ServerFiles::new();
    let other = Authority::new("other").issue_for_server();
    let expired = files
        .authority
        .issue(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let early = files
        .authority
        .issue(|params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let write = |name: &str, contents: &str| {
        fs::write(files.path(name), contents).expect("written");
        files.path(name).to_str().expect("UTF-8").to_owned()
    };
    let (cert, key) = (files.path("tls.crt"), files.path("tls.key"));
    let (cert, key) = (cert.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    let other_key = write("other.key", &other.key_pem);
    let nothing = write("nothing", "nothing");
    let cut = write("cut", "-----BEGIN CERTIFICATE-----\nhunter2\n");
    let expired = (
        write("expired.crt", &expired.cert_pem),
        write("expired.key", &expired.key_pem),
    );
    let early = (
        write("early.crt", &early.cert_pem),
        write("early.key", &early.key_pem),
    );
    let map = write("map.toml", "[[client_certificates]]\nname = \"x\"\n");
    let missing = files.path("missing");
    let missing = missing.to_str().expect("UTF-8");
    let pair = ["--tls-cert", cert, "--tls-key", key];
    let with = |rest: &[&'static str]| [&pair[..], rest].concat();
    let cases: Vec<(Vec<&str>, String)> = vec![
        (vec!["--tls-cert", cert], "--tls-cert needs --tls-key".to_owned()),
        (vec!["--tls-key", key], "--tls-key needs --tls-cert".to_owned()),
        (
            vec!["--tls-client-ca", cert],
            "--tls-client-ca needs --tls-cert and --tls-key".to_owned(),
        ),
        (
            with(&["--tls-client-auth", "optional"]),
            "--tls-client-auth optional needs --tls-client-ca".to_owned(),
        ),
        (
            with(&["--client-certificates-file", "x"]),
            "--client-certificates-file needs --tls-client-ca".to_owned(),
        ),
        (
            vec!["--tls-cert", missing, "--tls-key", key],
            format!("--tls-cert {missing}: can't read it"),
        ),
        (
            vec!["--tls-cert", &nothing, "--tls-key", key],
            format!("--tls-cert {nothing}: has no certificate in PEM"),
        ),
        (
            vec!["--tls-cert", &cut, "--tls-key", key],
            format!("--tls-cert {cut}: isn't valid PEM"),
        ),
        (
            vec!["--tls-cert", cert, "--tls-key", &nothing],
            format!("--tls-key {nothing}: has no private key"),
        ),
        (
            vec!["--tls-cert", cert, "--tls-key", &other_key],
            format!("--tls-key {other_key}: isn't the key of the first certificate in {cert}"),
        ),
        (
            vec!["--tls-cert", &expired.0, "--tls-key", &expired.1],
            format!("--tls-cert {}: has expired, on 2001-01-01", expired.0),
        ),
        (
            vec!["--tls-cert", &early.0, "--tls-key", &early.1],
            format!("--tls-cert {}: isn't valid before 2999-01-01", early.0),
        ),
        (
            [&pair[..], &["--tls-client-ca", &nothing]].concat(),
            format!("--tls-client-ca {nothing}: has no certificate"),
        ),
        (
            [
                &pair[..],
                &["--tls-client-ca", cert, "--client-certificates-file", &map],
            ]
            .concat(),
            format!("--client-certificates-file {map}: line 1: missing field `scopes`"),
        ),
    ];
    for (flags, expected) in cases {
        let mut process = ServerProcess::start(serve().args(&flags));
        assert_eq!(process.ended().await.code(), Some(1), "{flags:?}");
        process.says("\n").await;
        let stderr = process.stderr();
        assert!(stderr.starts_with(&format!("chatledger: {expected}")), "{stderr}");
        assert!(
            stderr.lines().count() == 1 && !stderr.contains("hunter2"),
            "{stderr}"
        );
    }
}
