//! What the program says of its user's mistakes: one clear line, the right exit code, no backtrace, no secret.

use std::{
    fs,
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

use chatledger_embedded::{Cluster, ClusterOptions};
use nix::sys::signal::Signal;

use crate::harness::{
    process::{open_dir, serve, serve_in},
    *,
};

const PASSWORD: &str = "hunter2-of-the-url";

/// What the program says before it fails with exit code 1: a single line.
async fn mistake(command: &mut Command) -> String {
    let stderr = failure(command, 1).await;
    let line = stderr.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "{stderr}");
    let line = line.strip_prefix("chatledger: ").expect("who says it");
    assert!(!line.contains(PASSWORD), "{line}");
    line.to_owned()
}

/// What the program says before it fails.
async fn failure(command: &mut Command, code: i32) -> String {
    let mut process = ServerProcess::start(command);
    let status = process.ended().await;
    // The pipe's reader may be a moment behind.
    let stderr = eventually("the last words", async || {
        let stderr = process.stderr();
        stderr.ends_with('\n').then_some(stderr)
    })
    .await;
    assert_eq!(status.code(), Some(code), "{stderr}");
    assert_eq!(process.stdout(), Vec::<String>::new(), "{stderr}");
    for noise in ["panicked", "backtrace", "   0:"] {
        assert!(!stderr.contains(noise), "{stderr}");
    }
    stderr
}

fn serve_url(url: &str) -> Command {
    let mut command = serve();
    command.env("DATABASE_URL", url);
    command
}

#[track_caller]
fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} isn't in {text:?}");
    }
}

#[tokio::test]
async fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let top = open_dir();
    let data_dir = top.path().join("data");
    let line = mistake(serve_in(&data_dir).args(["--listen", &address])).await;
    assert_contains(&line, &["can't listen on", &address, "in use"]);
    assert!(!data_dir.exists(), "nothing was begun");
}

#[tokio::test]
async fn a_database_that_can_not_be_reached() {
    let nowhere = tempfile::tempdir().expect("a directory");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_address = silent.local_addr().expect("an address");
    let socket = format!("postgres://u:{PASSWORD}@/chats?host={}", nowhere.path().display());
    // Port 1 is nobody's.
    let refused = format!("postgres://u:{PASSWORD}@127.0.0.1:1/chats");
    // The kernel takes the connection, and nobody ever answers.
    let no_answer = format!("postgres://u:{PASSWORD}@{silent_address}/chats");
    for url in [socket, refused, no_answer] {
        let began = Instant::now();
        let line = mistake(serve_url(&url).args(["--connect-timeout", "500ms"])).await;
        assert_contains(&line, &["can't connect", "/chats"]);
        assert!(
            began.elapsed() >= Duration::from_millis(400),
            "it tried for a while"
        );
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "no longer than it was told: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database() {
    let top = open_dir();
    let options = ClusterOptions {
        data_dir: top.path().join("data"),
        pg_bin: std::env::var_os("CHATLEDGER_PG_BIN").map(Into::into),
        settings: Vec::new(),
    };
    let cluster = Cluster::start(&options).await.expect("a cluster");
    let client = database::connect(cluster.superuser_url()).await;
    client
        .batch_execute("CREATE ROLE careful LOGIN PASSWORD 'right'; GRANT ALL ON SCHEMA public TO careful")
        .await
        .expect("a role");
    let rules = "local all careful scram-sha-256\nlocal all all trust\n";
    fs::write(top.path().join("data/pg/pg_hba.conf"), rules).expect("the rules");
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .expect("a reload");
    let url = |password: &str| {
        cluster
            .url()
            .replace("chatledger@", &format!("careful:{password}@"))
    };
    eventually("the rules hold", async || {
        let url = chatledger_postgres::url::DatabaseUrl::parse(&url("x")).expect("a URL");
        let connector = chatledger_postgres::connect::Connector::new(&url).expect("a connector");
        connector.connect().await.err()
    })
    .await;

    // At once: trying again would not help.
    let mut command = serve_url(&url(PASSWORD));
    let line = mistake(command.args(["--connect-timeout", "10m"])).await;
    assert_contains(&line, &["can't connect", "password authentication failed"]);

    let mut server = ServerProcess::start(&mut serve_url(&url("right")));
    server.ready_line();
    assert!(server.is_running());
    drop(server);

    let unknown = cluster.url().replace("/chatledger?", "/nobodys?");
    let line = mistake(serve_url(&unknown).args(["--connect-timeout", "10m"])).await;
    assert_contains(&line, &["can't connect", "\"nobodys\" does not exist"]);
    cluster.stop().await.expect("a stop");
}

#[tokio::test]
async fn wrong_command_lines() {
    for (args, parts) in [
        (&["--no-such-flag"][..], &["--no-such-flag"][..]),
        (&["--listen", "nonsense"], &["--listen", "nonsense"]),
        (&["--scope", "most"], &["--scope", "all, chat, auth"]),
        (&["--pool-size", "0"], &["--pool-size"]),
        (&["--max-requests", "0"], &["--max-requests"]),
        (&["--shutdown-grace", "soon"], &["--shutdown-grace", "10s"]),
        (&["--request-timeout", "0s"], &["--request-timeout"]),
        (&["--max-json-depth", "1000"], &["--max-json-depth", "127"]),
        (&["stray"], &["stray"]),
    ] {
        let stderr = failure(serve().args(args), 2).await;
        let first = stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: "), "{stderr}");
        assert_contains(&stderr, parts);
    }
    let stderr = failure(serve().env("CHATLEDGER_POOL_SIZE", "many"), 2).await;
    assert_contains(&stderr, &["--pool-size", "many"]);
}

#[tokio::test]
async fn listening_beyond_loopback_without_insecure() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051"] {
        let line = mistake(serve().args(["--listen", address])).await;
        assert_contains(&line, &[address, "--insecure"]);
    }
}

#[tokio::test]
async fn a_data_directory_in_use() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let mut owner = ServerProcess::start(&mut serve_in(&data_dir));
    owner.ready_line();
    let line = mistake(&mut serve_in(&data_dir)).await;
    let shown = data_dir
        .canonicalize()
        .expect("it is there")
        .display()
        .to_string();
    assert_contains(&line, &[&shown, "in use", "--database-url", "--data-dir"]);
    assert!(owner.is_running());

    // The URL that it names is one that a second server can be given.
    let url = line.split('\'').nth(1).expect("a URL in quotes");
    let second = ServerProcess::start(&mut serve_url(url));
    second.ready_line();
}

#[tokio::test]
async fn a_data_directory_of_another_postgresql_version() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let mut maker = ServerProcess::start(&mut serve_in(&data_dir));
    maker.ready_line();
    maker.signal(Signal::SIGTERM);
    maker.ended().await;
    fs::write(data_dir.join("pg/PG_VERSION"), "9\n").expect("a version");
    let line = mistake(&mut serve_in(&data_dir)).await;
    assert_contains(&line, &["PostgreSQL 9", "pg_upgrade", "--data-dir"]);
}

#[tokio::test]
async fn a_data_directory_that_will_not_do() {
    let top = open_dir();
    let file = top.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    let line = mistake(&mut serve_in(&file)).await;
    assert_contains(&line, &[&file.display().to_string(), "--data-dir"]);
}

#[tokio::test]
async fn no_postgresql_there() {
    let top = open_dir();
    let mut command = serve_in(&top.path().join("data"));
    let line = mistake(command.arg("--pg-bin").arg(top.path())).await;
    assert_contains(&line, &["--pg-bin", &top.path().display().to_string()]);
}

#[tokio::test]
async fn a_bad_url_is_told_by_its_variable_and_not_shown() {
    let urls = [
        format!("postgres://user:{PASSWORD}@host:notaport/db"),
        format!("mysql://user:{PASSWORD}@host/db"),
        format!("user:{PASSWORD}@host/db"),
        format!("postgres://user:{PASSWORD}@host/db?sslmode=perhaps"),
        format!("postgres://user:a/b@{PASSWORD}@host/db"),
        format!("postgres://user:p%zz{PASSWORD}@host/db"),
    ];
    for variable in ["DATABASE_URL", "NEON_DATABASE_URL", "DATABASE_DIRECT_URL"] {
        for url in &urls {
            let line = mistake(serve().env(variable, url)).await;
            assert!(line.contains(variable), "{line}");
            for part in ["user:", "@host", "notaport", "perhaps"] {
                assert!(!line.contains(part), "{line}");
            }
        }
    }
    let line = mistake(serve().args(["--database-url", &urls[0]])).await;
    assert_contains(&line, &["--database-url"]);
    // One that is set and empty is one that isn't set: the other counts.
    let line = mistake(serve_url("").env("NEON_DATABASE_URL", &urls[0])).await;
    assert_contains(&line, &["NEON_DATABASE_URL"]);
}

#[tokio::test]
async fn certificates_that_are_not_there() {
    let url =
        format!("postgres://u:{PASSWORD}@localhost/db?sslmode=verify-full&sslrootcert=/no/such/file.pem");
    let line = mistake(&mut serve_url(&url)).await;
    assert_contains(&line, &["/no/such/file.pem"]);
}

#[tokio::test]
async fn an_unknown_search_configuration() {
    let database = TestDatabase::new().await;
    let line = mistake(serve_url(&database.url()).args(["--search-config", "klingon"])).await;
    assert_contains(&line, &["--search-config", "klingon"]);
}

#[tokio::test]
async fn a_migration_edited_after_it_was_applied() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client
        .batch_execute("UPDATE chatledger_chat_migrations SET checksum = '1' WHERE version = 2")
        .await
        .expect("another checksum");
    let line = mistake(&mut serve_url(&database.url())).await;
    assert_contains(&line, &["V2__messages", "different"]);
}
