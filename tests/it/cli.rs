//! The program: its ready line, its logs, its signals, and that data outlives it.

use std::{path::PathBuf, process::Command};

use chatledger_embedded::find_binaries;
use nix::sys::signal::Signal;
use pb::{message_service_client::MessageServiceClient, session_service_client::SessionServiceClient};
use tonic::{Code, transport::Channel};

use crate::harness::{
    process::{address_in, open_dir, serve, serve_in},
    *,
};

const PASSWORD: &str = "hunter2-of-the-url";

/// Over the cluster's socket; the cluster lets everybody in, so the password is there only to be looked for.
fn url_with_password(database: &TestDatabase) -> String {
    let url = database.url();
    let rest = url.split_once("postgres@").expect("the user").1;
    format!("postgres://postgres:{PASSWORD}@{rest}")
}

/// Over a database of its own, which has the schema.
fn serve_over(database: &TestDatabase) -> Command {
    let mut command = serve();
    command.env("DATABASE_URL", url_with_password(database));
    command
}

async fn create_session(channel: &Channel) -> String {
    let request = pb::CreateSessionRequest::default();
    let response = SessionServiceClient::new(channel.clone())
        .create_session(request)
        .await;
    response
        .expect("a session")
        .into_inner()
        .session
        .expect("a session")
        .id
}

fn append_request(session_id: &str) -> pb::AppendMessageRequest {
    pb::AppendMessageRequest {
        session_id: session_id.to_owned(),
        message: Some(text("kept")),
    }
}

async fn append_one(channel: &Channel, session_id: &str) -> i64 {
    let mut client = MessageServiceClient::new(channel.clone());
    let response = client.append_message(append_request(session_id)).await;
    response
        .expect("a receipt")
        .into_inner()
        .receipt
        .expect("a receipt")
        .seq
}

#[tokio::test]
async fn the_ready_line_is_exact_and_data_outlives_restarts_and_kill_9() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let pg_bin = std::env::var_os("CHATLEDGER_PG_BIN").map(PathBuf::from);
    let version = find_binaries(pg_bin.as_deref(), None)
        .expect("PostgreSQL")
        .version;

    let mut first = ServerProcess::start(&mut serve_in(&data_dir));
    let line = first.ready_line();
    let address = address_in(&line);
    let expected = format!(
        "chatledger {} serving on {address} (PostgreSQL {version}, embedded at {})",
        env!("CARGO_PKG_VERSION"),
        data_dir.canonicalize().expect("it is there").display()
    );
    assert_eq!(line, expected);
    let address: std::net::SocketAddr = address.parse().expect("an address");
    assert!(address.ip().is_loopback() && address.port() != 0);
    let channel = Channel::from_shared(format!("http://{address}"))
        .expect("an endpoint")
        .connect_lazy();
    let session_id = create_session(&channel).await;
    assert_eq!(append_one(&channel, &session_id).await, 1);
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ended().await.code(), Some(0), "{}", first.stderr());
    assert_eq!(first.stdout(), Vec::<String>::new(), "one line is all there is");

    for seq in 2..=3 {
        let mut next = ServerProcess::start(&mut serve_in(&data_dir));
        let channel = next.channel();
        assert_eq!(append_one(&channel, &session_id).await, seq);
        next.signal(Signal::SIGKILL);
        next.ended().await;
    }

    let third = ServerProcess::start(&mut serve_in(&data_dir));
    let request = pb::ListMessagesRequest {
        session_id,
        ..Default::default()
    };
    let list = MessageServiceClient::new(third.channel())
        .list_messages(request)
        .await;
    let seqs: Vec<i64> = list
        .expect("a list")
        .into_inner()
        .messages
        .iter()
        .map(|m| m.seq)
        .collect();
    assert_eq!(seqs, [1, 2, 3]);
}

#[tokio::test]
async fn the_ready_line_of_an_external_database_names_host_and_database_and_no_password() {
    let database = TestDatabase::new().await;
    let server = ServerProcess::start(&mut serve_over(&database));
    let line = server.ready_line();
    let (before, place) = line
        .strip_suffix(')')
        .and_then(|line| line.rsplit_once(", "))
        .expect("a place");
    assert!(before.contains(" (PostgreSQL 1"), "{line}");
    assert!(place.ends_with(&format!("/{}", database.name)), "{line}");
    assert!(
        !line.contains(PASSWORD) && !line.contains("postgres://"),
        "{line}"
    );
}

#[tokio::test]
async fn sigterm_and_sigint_drain_and_exit_0() {
    let database = TestDatabase::new().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = ServerProcess::start(&mut serve_over(&database));
        let channel = server.channel();
        let session_id = create_session(&channel).await;
        let lock = SessionLock::on_session(&database, &session_id).await;
        let held = tokio::spawn(async move { append_one(&channel, &session_id).await });
        waiting(&database, 1).await;
        server.signal(signal);
        server.says("stopping").await;
        assert!(server.is_running(), "a request is under way");
        lock.release().await;
        assert_eq!(held.await.expect("a receipt"), 1, "{signal}");
        assert_eq!(
            server.ended().await.code(),
            Some(0),
            "{signal}: {}",
            server.stderr()
        );
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let database = TestDatabase::new().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = serve_over(&database);
        // The first signal alone would take this long.
        let mut server =
            ServerProcess::start(command.args(["--shutdown-grace", "10m", "--request-timeout", "10m"]));
        let channel = server.channel();
        let session_id = create_session(&channel).await;
        let lock = SessionLock::on_session(&database, &session_id).await;
        let mut client = MessageServiceClient::new(channel);
        let held = tokio::spawn(async move { client.append_message(append_request(&session_id)).await });
        waiting(&database, 1).await;
        server.signal(Signal::SIGTERM);
        server.says("stopping").await;
        assert!(server.is_running());
        server.signal(signal);
        assert_eq!(server.ended().await.code(), Some(130), "{signal}");
        let cut_off = held.await.expect("no panic").expect_err("cut off");
        assert_ne!(cut_off.code(), Code::Ok);
        lock.release().await;
    }
}

#[tokio::test]
async fn a_second_signal_also_stops_the_embedded_postgresql() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let mut server = ServerProcess::start(serve_in(&data_dir).args(["--shutdown-grace", "10m"]));
    let channel = server.channel();
    // A watch of the health, which has no end.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let watch = health
        .watch(tonic_health::pb::HealthCheckRequest::default())
        .await;
    let watch = watch.expect("a watch");
    server.signal(Signal::SIGINT);
    server.says("stopping").await;
    server.signal(Signal::SIGINT);
    assert_eq!(server.ended().await.code(), Some(130));
    drop(watch);
    let pid_file = data_dir.join("pg/postmaster.pid");
    eventually("PostgreSQL ends", async || (!pid_file.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_signal_while_it_boots_is_an_orderly_end() {
    let nowhere = tempfile::tempdir().expect("a directory");
    let mut command = serve();
    command
        .env(
            "DATABASE_URL",
            format!("postgres:///x?host={}", nowhere.path().display()),
        )
        .args(["--connect-timeout", "10m"])
        .env("RUST_LOG", "chatledger=debug");
    let mut server = ServerProcess::start(&mut command);
    server.says("couldn't connect").await;
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
    assert!(server.stdout().is_empty(), "it was never ready");
}

#[tokio::test]
async fn eight_processes_may_boot_at_once_on_an_empty_database() {
    let database = TestDatabase::empty().await;
    let servers: Vec<ServerProcess> = (0..8)
        .map(|_| ServerProcess::start(&mut serve_over(&database)))
        .collect();
    let channels: Vec<Channel> = servers.iter().map(ServerProcess::channel).collect();
    let session_id = create_session(&channels[0]).await;
    for (seq, channel) in (1..).zip(&channels) {
        assert_eq!(append_one(channel, &session_id).await, seq);
    }
    for mut server in servers {
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
    }
}

#[tokio::test]
async fn logs_go_to_stderr_as_rust_log_and_log_format_say() {
    let database = TestDatabase::new().await;
    let run = async |format: &str, rust_log: Option<&str>| {
        let mut command = serve_over(&database);
        command.args(["--log-format", format]);
        if let Some(filter) = rust_log {
            command.env("RUST_LOG", filter);
        }
        let mut server = ServerProcess::start(&mut command);
        create_session(&server.channel()).await;
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().await.code(), Some(0));
        assert_eq!(
            server.stdout(),
            Vec::<String>::new(),
            "logs are no part of stdout"
        );
        server.stderr()
    };
    assert!(run("text", None).await.contains("stopping"));
    assert_eq!(run("text", Some("off")).await, "");
    assert!(!run("text", Some("warn")).await.contains("stopping"));
    // A line for each request is there for whoever wants it.
    let answered = "/chatledger.v1.SessionService/CreateSession";
    assert!(run("text", Some("chatledger=debug")).await.contains(answered));
    assert!(!run("text", None).await.contains(answered));

    let json = run("json", Some("chatledger=debug")).await;
    assert!(json.lines().count() >= 2, "{json}");
    for line in json.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            object["timestamp"].is_string() && object["level"].is_string(),
            "{line}"
        );
        assert!(object["fields"]["message"].is_string(), "{line}");
    }
    assert!(json.contains(answered));
}

#[tokio::test]
async fn the_password_of_the_url_is_in_no_output_whatever_is_logged() {
    let database = TestDatabase::new().await;
    for format in ["text", "json"] {
        let mut command = serve_over(&database);
        command
            .env("RUST_LOG", "trace")
            .env("DATABASE_DIRECT_URL", url_with_password(&database))
            .args(["--log-format", format, "--pool-wait-timeout", "100ms"]);
        let mut server = ServerProcess::start(&mut command);
        let line = server.ready_line();
        let channel = Channel::from_shared(format!("http://{}", address_in(&line)))
            .expect("an endpoint")
            .connect_lazy();
        let session_id = create_session(&channel).await;
        append_one(&channel, &session_id).await;
        // Also when it loses the database.
        let rename = format!("ALTER DATABASE {0} RENAME TO {0}_away", database.name);
        let back = format!("ALTER DATABASE {0}_away RENAME TO {0}", database.name);
        let admin = database::connect(cluster::url()).await;
        let end = format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{}'",
            database.name
        );
        // A notification of other servers may be on its way, on a connection that comes back.
        eventually("another name", async || {
            admin.query(&end, &[]).await.expect("an end");
            admin.batch_execute(&rename).await.ok()
        })
        .await;
        let request = pb::GetSessionRequest { session_id };
        let lost = SessionServiceClient::new(channel).get_session(request).await;
        let lost = lost.expect_err("the database has another name");
        admin.batch_execute(&back).await.expect("its name");
        server.says("can't connect").await;
        server.signal(Signal::SIGTERM);
        server.ended().await;

        let stderr = server.stderr();
        assert!(stderr.len() > 1000, "trace says a lot");
        for output in [stderr, line, format!("{lost:?}"), server.stdout().concat()] {
            assert!(!output.contains(PASSWORD), "{output}");
        }
    }
}

#[tokio::test]
async fn help_shows_no_password_of_the_environment() {
    for flag in ["--help", "-h"] {
        let mut command = serve();
        for variable in ["DATABASE_URL", "NEON_DATABASE_URL", "DATABASE_DIRECT_URL"] {
            command.env(variable, format!("postgres://u:{PASSWORD}@h/d"));
        }
        let output = command.arg(flag).output().expect("help");
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).expect("text");
        assert!(
            help.contains("DATABASE_URL") && !help.contains(PASSWORD),
            "{help}"
        );
    }
}

#[tokio::test]
async fn with_insecure_it_listens_beyond_loopback() {
    let database = TestDatabase::new().await;
    let mut command = serve_over(&database);
    let server = ServerProcess::start(command.args(["--insecure", "--listen", "0.0.0.0:0"]));
    let line = server.ready_line();
    assert!(line.contains(" serving on 0.0.0.0:"), "{line}");
    let port = address_in(&line).rsplit_once(':').expect("a port").1;
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).expect("an endpoint");
    create_session(&channel.connect_lazy()).await;
}
