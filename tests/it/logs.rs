//! The log can't hurt: it is written by who has the time, or not at all; and it quotes nobody.

use std::{
    fs::File,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use tonic::transport::{Channel, Endpoint};

use crate::harness::{
    process::{ServerProcess, address_in, open_dir, serve, serve_in},
    *,
};

/// A server whose stderr is this, at the level where it says most.
struct SilentServer {
    child: Child,
    channel: Channel,
}

impl SilentServer {
    fn start(database: &TestDatabase, stderr: Stdio) -> SilentServer {
        use std::io::{BufRead, BufReader};
        let mut command = serve();
        command
            .args(["--database-url", &database.url()])
            .env("RUST_LOG", "trace")
            .stderr(stderr);
        let mut child = command.spawn().expect("chatledger");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a ready line");
        let channel = Endpoint::from_shared(format!("http://{}", address_in(&line)))
            .expect("an endpoint")
            .connect_lazy();
        SilentServer { child, channel }
    }

    /// Far more lines than a pipe or the queue of lines holds.
    async fn goes_on(&self) {
        let session = session_on(&self.channel).await;
        let mut client = pb::message_service_client::MessageServiceClient::new(self.channel.clone());
        for seq in 1..=500 {
            let request = pb::AppendMessageRequest {
                session_id: session.clone(),
                message: Some(text("x")),
            };
            let response = client
                .append_message(request)
                .await
                .expect("a receipt")
                .into_inner();
            assert_eq!(response.receipt.expect("a receipt").seq, seq);
        }
    }
}

impl Drop for SilentServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_full_disk_under_the_log_stops_nothing() {
    let database = TestDatabase::new().await;
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    SilentServer::start(&database, full.into()).goes_on().await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let database = TestDatabase::new().await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    SilentServer::start(&database, OwnedFd::from(writer).into())
        .goes_on()
        .await;
    drop(reader);
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_stops_nothing() {
    let database = TestDatabase::new().await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    SilentServer::start(&database, OwnedFd::from(writer).into())
        .goes_on()
        .await;
}

#[test]
fn the_end_is_told_to_nobody_as_well() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command: Command = serve();
    let status = command
        .args([
            "--database-url",
            "postgres://nobody@127.0.0.1:1/none",
            "--connect-timeout",
            "10ms",
        ])
        .stderr(OwnedFd::from(writer))
        .status();
    assert_eq!(status.expect("an end").code(), Some(1));
}

#[tokio::test]
async fn nothing_that_people_say_is_logged_at_any_level() {
    const MARK: &str = "xyzzyplugh";
    let dir = open_dir();
    let process = ServerProcess::start(serve_in(dir.path()).env("RUST_LOG", "trace"));
    let channel = process.channel();
    let mut users = pb::user_service_client::UserServiceClient::new(channel.clone());
    let email = format!("{MARK}@example.com");
    let request = pb::CreateUserRequest {
        email: email.clone(),
        name: Some(MARK.into()),
        external_id: Some(MARK.into()),
        password: Some(MARK.into()),
        ..Default::default()
    };
    let user = answer(users.create_user(request).await).user.expect("a user");
    let verify = |password: &str| pb::VerifyPasswordRequest {
        email: email.clone(),
        password: password.into(),
    };
    answer(users.verify_password(verify(MARK)).await);
    users
        .verify_password(verify(&MARK.repeat(2)))
        .await
        .expect_err("another password");
    let mut sessions = pb::session_service_client::SessionServiceClient::new(channel.clone());
    let request = pb::CreateSessionRequest {
        user_id: Some(user.id),
        title: Some(MARK.into()),
        metadata_json: format!(r#"{{"{MARK}": "{MARK}"}}"#),
        ..Default::default()
    };
    let session = answer(sessions.create_session(request).await)
        .session
        .expect("a session")
        .id;
    let mut messages = pb::message_service_client::MessageServiceClient::new(channel);
    let message = pb::NewMessage {
        message_id: Some(id()),
        content: MARK.into(),
        selected_text: Some(MARK.into()),
        metadata_json: format!(r#"{{"k": "{MARK}"}}"#),
        payload: Some(MARK.into()),
        citations: vec![citation(MARK, MARK, 0.5)],
        ..text("")
    };
    let append = |content: &str| pb::AppendMessageRequest {
        session_id: session.clone(),
        message: Some(pb::NewMessage {
            content: content.into(),
            ..message.clone()
        }),
    };
    answer(messages.append_message(append(MARK)).await);
    messages
        .append_message(append(&MARK.repeat(2)))
        .await
        .expect_err("another content");
    let request = pb::SearchMessagesRequest {
        session_id: Some(session.clone()),
        query: MARK.into(),
        ..Default::default()
    };
    assert_eq!(answer(messages.search_messages(request).await).hits.len(), 1);
    process.says("SearchMessages").await;
    let log = process.stderr();
    for secret in [MARK, "$argon2"] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
}
