//! The admin port: what it tells of a server under work, and when it says that requests should go elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
};

use nix::sys::signal::Signal;
use tonic::{Code, transport::Channel};

use crate::harness::{
    admin::{admin_address, get},
    process::serve,
    *,
};

/// The list of docs/metrics.md: each name, and its kind.
fn documented() -> BTreeMap<String, String> {
    let text = include_str!("../../docs/metrics.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (name, kind) = (cells.next()?, cells.next()?);
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        ["counter", "gauge", "histogram"]
            .contains(&kind)
            .then(|| (name.to_owned(), kind.to_owned()))
    });
    rows.collect()
}

/// The families of a snapshot: each name, and its kind.
fn families(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families = types.filter_map(|family| family.split_once(' '));
    families
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// The sum of all samples whose line begins with this and has these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let numbers = samples.map(|line| line.rsplit(' ').next().expect("a value"));
    numbers
        .map(|number| number.parse::<f64>().expect("a number"))
        .sum()
}

/// A frame of one entry.
fn frame(session: &str, content: &str) -> pb::StreamAppendMessagesRequest {
    pb::StreamAppendMessagesRequest {
        entries: vec![pb::AppendEntry {
            session_id: session.to_owned(),
            message: Some(text(content)),
        }],
    }
}

/// Does a little of everything.
async fn work(channel: &Channel, session: &str) {
    let mut messages = pb::message_service_client::MessageServiceClient::new(channel.clone());
    let request = pb::AppendMessageRequest {
        session_id: session.to_owned(),
        message: Some(text_with_id(&id(), "a canary in a message")),
    };
    for _ in 0..2 {
        messages.append_message(request.clone()).await.expect("a receipt");
    }
    let entries: Vec<_> = (0..3).map(|seq| frame(session, &format!("{seq}"))).collect();
    let answers = messages.stream_append_messages(tokio_stream::iter(entries)).await;
    let mut answers = answers.expect("a stream").into_inner();
    while answers.message().await.expect("no error").is_some() {}
    let missing = pb::AppendMessageRequest {
        session_id: id(),
        ..request
    };
    let refused = messages.append_message(missing).await.expect_err("no session");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn the_admin_port_tells_what_happened_and_names_nobody() {
    let database = TestDatabase::new().await;
    let mut command = serve();
    command.args(["--database-url", &database.url(), "--admin-listen", "127.0.0.1:0"]);
    let server = ServerProcess::start(&mut command);
    let channel = server.channel();
    let admin = admin_address(&server).await;
    for (path, body) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = get(admin, path, "*/*").await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    let session = session_on(&channel).await;
    let mut watches = pb::message_service_client::MessageServiceClient::new(channel.clone());
    let watch = pb::WatchMessagesRequest {
        session_id: session.clone(),
        ..Default::default()
    };
    let mut watch = watches.watch_messages(watch).await.expect("a watch").into_inner();
    work(&channel, &session).await;
    while watch.message().await.expect("no error").is_some_and(|event| {
        !matches!(event.event, Some(pb::watch_messages_response::Event::Message(message)) if message.seq == 4)
    }) {}

    // The size of the database comes a moment after the first look.
    let text = eventually("the size of the database", async || {
        let answer = get(admin, "/metrics", "text/plain").await?;
        assert!(answer.headers.contains("content-type: text/plain; version=0.0.4"));
        (value(&answer.body, "chatledger_database_size_bytes", &[]) > 0.0).then_some(answer.body)
    })
    .await;
    let append = [
        "grpc_method=\"AppendMessage\"",
        "grpc_service=\"chatledger.v1.MessageService\"",
    ];
    let (ok, missing) = ("grpc_code=\"OK\"", "grpc_code=\"NotFound\"");
    for (name, labels, expected) in [
        ("grpc_server_started_total", vec![append[0], append[1]], 3.0),
        ("grpc_server_handled_total", vec![append[0], ok], 2.0),
        ("grpc_server_handled_total", vec![append[0], missing], 1.0),
        ("grpc_server_handling_seconds_count", vec![append[0]], 3.0),
        (
            "grpc_server_msg_received_total",
            vec![append[0], "grpc_type=\"unary\""],
            3.0,
        ),
        ("grpc_server_msg_sent_total", vec![append[0]], 2.0),
        (
            "grpc_server_msg_received_total",
            vec!["StreamAppend", "bidi_stream"],
            3.0,
        ),
        ("grpc_server_handled_total", vec!["StreamAppend", ok], 1.0),
        ("chatledger_append_messages_total", vec![], 4.0),
        ("chatledger_append_deduplicated_total", vec![], 1.0),
        (
            "chatledger_append_retries_total",
            vec!["cause=\"id_stored\""],
            1.0,
        ),
        ("chatledger_append_queue_rows", vec![], 0.0),
        ("chatledger_append_oldest_unit_age_seconds", vec![], 0.0),
        ("chatledger_watches", vec![], 1.0),
        ("chatledger_watch_events_total", vec![], 4.0),
        ("chatledger_connections", vec![], 1.0),
        ("chatledger_ready", vec![], 1.0),
        ("chatledger_migration_version", vec!["set=\"auth\""], 2.0),
        ("chatledger_panics_total", vec![], 0.0),
    ] {
        let found = value(&text, name, &labels);
        assert!(
            (found - expected).abs() < 0.01,
            "{name} {labels:?}: {found} and not {expected}"
        );
    }
    assert!(
        value(
            &text,
            "chatledger_statement_seconds_count",
            &["append.AppendUncited"]
        ) >= 1.0
    );
    assert!(value(&text, "chatledger_append_batch_rows_count", &[]) >= 2.0);
    assert!(value(&text, "process_resident_memory_bytes", &[]) > 1e6);
    for secret in ["canary", session.as_str(), "default\""] {
        assert!(!text.contains(secret), "{secret}");
    }

    let open = get(admin, "/metrics", "application/openmetrics-text; version=1.0.0").await;
    let open = open.expect("an answer");
    assert!(
        open.headers
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.body.contains("# TYPE chatledger_append_messages counter\n"));
    listed(&text);
}

/// Compares a snapshot with the documentation.
fn listed(text: &str) {
    let (documented, there) = (documented(), families(text));
    for (name, kind) in &there {
        assert_eq!(documented.get(name), Some(kind), "{name} in docs/metrics.md");
    }
    // Those that take a refusal, a standby, a receiver, or an embedded PostgreSQL to be there.
    let elsewhere = BTreeSet::from([
        "chatledger_shed_total",
        "chatledger_telemetry_exported_total",
        "chatledger_telemetry_dropped_total",
        "chatledger_replica_lag_seconds",
        "chatledger_replica_lag_bytes",
        "chatledger_disk_free_bytes",
        "chatledger_disk_size_bytes",
    ]);
    for name in documented.keys() {
        let is_there = there.contains_key(name) || name == "chatledger_statement_errors_total";
        assert!(
            is_there != elsewhere.contains(name.as_str()),
            "{name} is documented"
        );
    }
}

#[tokio::test]
async fn looking_at_an_idle_server_asks_nothing_of_the_database_and_refusals_are_counted() {
    let database = TestDatabase::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let limits = dir.path().join("limits.toml");
    std::fs::write(&limits, "[caller]\nrequests_per_second = 1\nburst = 2\n").expect("a file");
    let mut command = serve();
    command.args(["--database-url", &database.url(), "--admin-listen", "127.0.0.1:0"]);
    command.arg("--limits-file").arg(&limits);
    let server = ServerProcess::start(&mut command);
    let channel = server.channel();
    let admin = admin_address(&server).await;
    let mut looked = String::new();
    for _ in 0..20 {
        let answer = get(admin, "/metrics", "*/*").await;
        looked = answer.expect("an answer").body;
    }
    // Whatever the first looks had asked for would be under way by now.
    let connects = value(&looked, "chatledger_pool_connects_total", &[]);
    assert!(
        connects.abs() < 0.5 && !looked.contains("database_size"),
        "{connects}"
    );

    let mut sessions = pb::session_service_client::SessionServiceClient::new(channel);
    let mut refused = 0.0;
    for _ in 0..5 {
        let answer = sessions.create_session(pb::CreateSessionRequest::default()).await;
        refused += f64::from(u8::from(answer.is_err()));
    }
    assert!(refused >= 2.0);
    let text = get(admin, "/metrics", "*/*").await.expect("an answer").body;
    let labels = ["limit=\"caller.requests_per_second\"", "caller_kind=\"local\""];
    let shed = value(&text, "chatledger_shed_total", &labels);
    assert!((shed - refused).abs() < 0.5, "{shed} and not {refused}");
}

#[tokio::test]
async fn whoever_holds_the_admin_port_s_connections_keeps_nobody_away() {
    use tokio::{io::AsyncReadExt, net::TcpStream};
    // Who accepts and never answers: no database is needed.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://u@{}/x", silent.local_addr().expect("an address"));
    let mut command = serve();
    command.args(["--database-url", &url, "--admin-listen", "127.0.0.1:0"]);
    let server = ServerProcess::start(&mut command);
    let admin = admin_address(&server).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(admin).await.expect("a connection"));
    }
    let answer = get(admin, "/livez", "*/*").await.expect("an answer");
    assert_eq!(answer.status, 200);
    // The oldest had to go.
    let read = held[0].read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn requests_go_elsewhere_while_it_starts_and_as_soon_as_it_stops() {
    // Who accepts and never answers is a database that is being started.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://u@{}/x", silent.local_addr().expect("an address"));
    let mut command = serve();
    command.args(["--database-url", &url, "--admin-listen", "127.0.0.1:0"]);
    let starting = ServerProcess::start(&mut command);
    let admin = admin_address(&starting).await;
    let answer = get(admin, "/readyz", "*/*").await.expect("an answer");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "not ready: starting\n")
    );
    let answer = get(admin, "/livez", "*/*").await.expect("an answer");
    assert_eq!(answer.status, 200);
    drop(starting);

    let database = TestDatabase::new().await;
    let mut command = serve();
    command.args(["--database-url", &database.url(), "--admin-listen", "127.0.0.1:0"]);
    let mut server = ServerProcess::start(&mut command);
    let channel = server.channel();
    let admin = admin_address(&server).await;
    let session = session_on(&channel).await;
    // A stream that its client doesn't end keeps it from ending.
    let (entries, waiting) = tokio::sync::mpsc::channel::<pb::StreamAppendMessagesRequest>(1);
    let mut messages = pb::message_service_client::MessageServiceClient::new(channel);
    entries.send(frame(&session, "x")).await.expect("room");
    let stream = tokio_stream::wrappers::ReceiverStream::new(waiting);
    let mut stream = messages
        .stream_append_messages(stream)
        .await
        .expect("a stream")
        .into_inner();
    stream.message().await.expect("a receipt");
    server.signal(Signal::SIGTERM);
    eventually("503", async || {
        let answer = get(admin, "/readyz", "*/*").await?;
        (answer.status == 503 && answer.body == "not ready: stopping\n").then_some(())
    })
    .await;
    assert!(server.is_running(), "it waits for the stream");
    drop(entries);
    while stream.message().await.is_ok_and(|answer| answer.is_some()) {}
    assert!(server.ended().await.success());
}
