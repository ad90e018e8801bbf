//! The embedded cluster, with real programs: the ones that are found, or those in `CHATLEDGER_PG_BIN`.

use chatledger_embedded::{Cluster, ClusterOptions, EmbeddedError, find_binaries};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, error::SqlState};

/// Longer than anything here takes on a busy machine; only a failing test waits for so long.
const LIMIT: Duration = Duration::from_mins(1);

/// A directory that can be entered by the user as whom root runs `postgres`.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

fn options(data_dir: impl Into<PathBuf>) -> ClusterOptions {
    let pg_bin = std::env::var_os("CHATLEDGER_PG_BIN").map(PathBuf::from);
    ClusterOptions {
        data_dir: data_dir.into(),
        pg_bin,
        settings: Vec::new(),
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn ask(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Looks again and again until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn recorded_pid(data_dir: &Path) -> Option<Pid> {
    let content = fs::read_to_string(data_dir.join("pg/postmaster.pid")).ok()?;
    content.lines().next()?.parse().ok().map(Pid::from_raw)
}

fn one_line(error: &EmbeddedError) -> String {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Not a test: the other process that some tests kill. It owns a cluster until then.
#[tokio::test]
#[ignore = "run by other tests"]
async fn owner_process() {
    let Some(dir) = std::env::var_os("CHATLEDGER_TEST_OWNED_DIR") else {
        return;
    };
    let cluster = Cluster::start(&options(dir)).await.unwrap();
    println!("\nURL={}", cluster.url());
    cluster.exited().await;
}

/// A running [`owner_process`], which doesn't outlive a failing test.
struct OwnerProcess(Child);

impl OwnerProcess {
    fn kill_9(&mut self) {
        self.0.kill().unwrap();
    }
}

impl Drop for OwnerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn owner(dir: &Path) -> OwnerProcess {
    let name = module_path!()
        .split_once("::")
        .map_or("", |(_, module)| module)
        .to_owned()
        + "::owner_process";
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            name.trim_start_matches("::"),
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("CHATLEDGER_TEST_OWNED_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    OwnerProcess(child)
}

fn url_of(owner: &mut OwnerProcess) -> String {
    let lines = BufReader::new(owner.0.stdout.take().unwrap()).lines();
    lines
        .map(Result::unwrap)
        .find_map(|line| Some(line.strip_prefix("URL=")?.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn serves_a_database_and_keeps_it() {
    let top = open_dir();
    let data_dir = top.path().join("not/yet/there");
    let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
    let expected = find_binaries(options("").pg_bin.as_deref(), None).unwrap();
    assert_eq!(cluster.version(), expected.version);
    assert_eq!(cluster.data_dir(), data_dir.canonicalize().unwrap());

    let client = connect(cluster.url()).await;
    assert!(
        ask(&client, "SHOW server_version")
            .await
            .starts_with(cluster.version())
    );
    for (setting, value) in [
        ("fsync", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("data_checksums", "on"),
        ("is_superuser", "off"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(ask(&client, &format!("SHOW {setting}")).await, value, "{setting}");
    }
    assert_eq!(
        ask(&client, "SELECT current_database() || ' ' || current_user").await,
        "chatledger chatledger"
    );
    assert_eq!(
        ask(&client, "SELECT max(x) FROM (VALUES ('Z'), ('a')) AS t (x)").await,
        "a"
    ); // code points
    client
        .batch_execute("CREATE TABLE kept AS SELECT 'here' AS it")
        .await
        .unwrap();
    // The server's role makes databases, and neither roles nor use of the machine.
    client.batch_execute("CREATE DATABASE scratch").await.unwrap();
    client.batch_execute("DROP DATABASE scratch").await.unwrap();
    for forbidden in [
        "CREATE ROLE other",
        "ALTER ROLE chatledger SUPERUSER",
        "COPY kept TO PROGRAM 'true'",
        "COPY kept FROM '/etc/passwd'",
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_read_file('postgresql.conf')",
        "SET SESSION AUTHORIZATION postgres",
    ] {
        let error = client.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(
            error.code().map(SqlState::code),
            Some("42501"),
            "{forbidden}: {error:?}"
        );
    }
    let superuser = connect(cluster.superuser_url()).await;
    assert_eq!(ask(&superuser, "SHOW is_superuser").await, "on");
    assert_eq!(ask(&superuser, "SELECT it FROM kept").await, "here");
    let socket_dir = fs::metadata(cluster.data_dir().join("socket"));
    assert!(socket_dir.is_err() || socket_dir.unwrap().permissions().mode() & 0o777 == 0o700);
    cluster.stop().await.unwrap();
    assert_eq!(recorded_pid(&data_dir), None);

    for _ in 0..5 {
        let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
        assert_eq!(
            ask(&connect(cluster.url()).await, "SELECT it FROM kept").await,
            "here"
        );
        cluster.stop().await.unwrap();
    }
    assert!(!names_in(&data_dir).iter().any(|name| name.starts_with("pg.new")));
}

#[tokio::test]
async fn a_second_owner_is_told_the_url() {
    let top = open_dir();
    let cluster = Cluster::start(&options(top.path().join("data"))).await.unwrap();
    let error = Cluster::start(&options(top.path().join("data")))
        .await
        .unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { .. }));
    let message = one_line(&error);
    assert!(
        message.contains("--database-url") && message.contains(cluster.url()),
        "{message}"
    );
    assert_eq!(
        ask(&connect(cluster.url()).await, "SELECT 'still up'").await,
        "still up"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn kill_9_of_the_owner_loses_nothing() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let mut first = owner(&data_dir);
    let client = connect(&url_of(&mut first)).await;
    client
        .batch_execute("CREATE TABLE kept AS SELECT 'here' AS it")
        .await
        .unwrap();
    first.kill_9();
    // At once: the orphaned PostgreSQL is still shutting down.
    let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
    assert_eq!(
        ask(&connect(cluster.url()).await, "SELECT it FROM kept").await,
        "here"
    );
    cluster.stop().await.unwrap();
    drop(first);

    // And when nobody starts it again, it ends by itself.
    if cfg!(target_os = "linux") {
        let mut second = owner(&data_dir);
        url_of(&mut second);
        drop(second); // kill -9
        until("the end of the orphan", || recorded_pid(&data_dir).is_none());
    }
}

#[tokio::test]
async fn kill_9_during_the_first_start_leaves_no_half_made_cluster() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let unfinished = |name: &String| name.starts_with("pg.new");
    let mut first = owner(&data_dir);
    until("initdb's files", || {
        let names = names_in(&data_dir);
        names
            .iter()
            .find(|name| unfinished(name))
            .is_some_and(|name| data_dir.join(name).join("base").exists())
    });
    first.kill_9();
    assert!(!data_dir.join("pg").exists());
    let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
    assert_eq!(
        ask(&connect(cluster.url()).await, "SELECT current_database()::text").await,
        "chatledger"
    );
    cluster.stop().await.unwrap();
    drop(first);

    // Its remains may have been in use just now, but not any more.
    Cluster::start(&options(&data_dir))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    assert!(!names_in(&data_dir).iter().any(unfinished));
}

#[tokio::test]
async fn a_postgres_that_dies_is_noticed_and_started_again() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
    kill(recorded_pid(&data_dir).unwrap(), Signal::SIGKILL).unwrap();
    let reason = tokio::time::timeout(LIMIT, cluster.exited()).await.unwrap();
    assert!(reason.contains("signal: 9"), "{reason}");
    cluster.stop().await.unwrap(); // nothing left to stop

    // Its files are still there. Let them also name a process that is alive and has nothing to do with it.
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let pid_file = data_dir.join("pg/postmaster.pid");
    let content = fs::read_to_string(&pid_file).unwrap();
    let rest = content.split_once('\n').unwrap().1;
    fs::write(&pid_file, format!("{}\n{rest}", stranger.id())).unwrap();
    let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();

    drop(cluster); // without stop()
    until("the end of a dropped cluster", || {
        recorded_pid(&data_dir).is_none()
    });
}

#[tokio::test]
async fn a_start_that_nobody_awaits_is_given_up() {
    let top = open_dir();
    let data_dir = top.path().join("data");
    let options = options(&data_dir);
    let started = tokio::time::timeout(Duration::from_millis(20), Cluster::start(&options)).await;
    assert!(started.is_err(), "initdb alone takes longer");
    let deadline = Instant::now() + LIMIT;
    let cluster = loop {
        match Cluster::start(&options).await {
            Ok(cluster) => break cluster,
            Err(EmbeddedError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn long_and_odd_paths() {
    let top = open_dir();
    let long = top.path().join("x".repeat(120));
    let odd = top.path().join("a b, \"c\" & %41 ü");
    for data_dir in [long, odd] {
        let cluster = Cluster::start(&options(&data_dir)).await.unwrap();
        assert_eq!(ask(&connect(cluster.url()).await, "SELECT 'up'").await, "up");
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn settings_are_passed_on_but_open_nothing() {
    let top = open_dir();
    let mut options = options(top.path().join("data"));
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    options.settings = vec![setting("max_connections", "17"), setting("listen_addresses", "*")];
    let cluster = Cluster::start(&options).await.unwrap();
    let client = connect(cluster.url()).await;
    assert_eq!(ask(&client, "SHOW max_connections").await, "17");
    assert_eq!(ask(&client, "SHOW listen_addresses").await, "");
    drop(client);
    cluster.stop().await.unwrap();

    options.settings = vec![setting("max_connections", "many")];
    let message = one_line(&Cluster::start(&options).await.unwrap_err());
    assert!(
        message.contains("max_connections") && message.contains("postgres.log"),
        "{message}"
    );

    fs::write(top.path().join("data/pg/PG_VERSION"), "99\n").unwrap();
    options.settings.clear();
    let message = one_line(&Cluster::start(&options).await.unwrap_err());
    assert!(
        message.contains("99") && message.contains("pg_upgrade") && message.contains("--data-dir"),
        "{message}"
    );
}

#[tokio::test]
async fn places_that_will_not_do_are_named() {
    let top = open_dir();
    let closed = top.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    if Uid::effective().is_root() {
        let message = one_line(&Cluster::start(&options(closed.join("data"))).await.unwrap_err());
        assert!(
            message.contains(&*closed.to_string_lossy()) && message.contains("--data-dir"),
            "{message}"
        );
        assert!(names_in(&closed).is_empty());
    }

    fs::write(closed.join("PG_VERSION"), "15\n").unwrap();
    let message = one_line(&Cluster::start(&options(&closed)).await.unwrap_err());
    assert!(message.contains("--data-dir"), "{message}");

    let mut without_programs = options(top.path().join("data"));
    without_programs.pg_bin = Some(closed);
    let message = one_line(&Cluster::start(&without_programs).await.unwrap_err());
    assert!(message.contains("--pg-bin"), "{message}");
}

#[tokio::test]
async fn a_torn_postmaster_pid_is_no_reason_not_to_start() {
    let dir = open_dir();
    Cluster::start(&options(dir.path()))
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    let version = walk(dir.path())
        .into_iter()
        .find(|path| path.ends_with("PG_VERSION"))
        .unwrap();
    let pid_file = version.parent().unwrap().join("postmaster.pid");
    for content in ["", "\n", "garbage", "1234567\n/tm", "-1\n"] {
        fs::write(&pid_file, content).unwrap();
        let cluster = Cluster::start(&options(dir.path())).await;
        cluster
            .unwrap_or_else(|error| panic!("{content:?}: {error}"))
            .stop()
            .await
            .unwrap();
    }
}

/// The files of a directory, two levels deep.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let first = entries(dir);
    first
        .iter()
        .flat_map(|path| entries(path))
        .chain(first.clone())
        .collect()
}
