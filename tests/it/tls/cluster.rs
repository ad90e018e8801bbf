//! A PostgreSQL with TLS and certificates of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chatledger_embedded::find_binaries;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_postgres::Client;

use super::{ask, connect};

/// How long anything may take that is waited for: much longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// The line that matches first decides, by encryption and user.
const PG_HBA: &str = "
local     all all                         trust
hostssl   all only_tls       127.0.0.1/32 trust
hostnossl all only_plain     127.0.0.1/32 trust
hostssl   all by_cert        127.0.0.1/32 cert
host      all by_scram       127.0.0.1/32 scram-sha-256
host      all anyone,reader,limited 127.0.0.1/32 trust
";

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A PostgreSQL with TLS, on a port of its own; stopped when dropped.
pub struct TlsCluster {
    postgres: Child,
    pub port: u16,
    /// Data, certificates and the socket.
    pub dir: PathBuf,
    _temp: TempDir,
}

impl TlsCluster {
    pub fn start() -> Self {
        let binaries = find_binaries(None, None).expect("PostgreSQL's binaries").dir;
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        give_away(&dir);
        let initdb = as_postgres(&binaries.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(dir.join("data"))
            .stdout(Stdio::null())
            .status();
        assert!(initdb.unwrap().success());
        make_certificates(&dir);
        fs::write(dir.join("data/pg_hba.conf"), PG_HBA).unwrap();
        // The port may be taken between being found free and being listened on.
        for _ in 0..3 {
            let port = free_port();
            let mut postgres = run(&binaries, &dir, port);
            if is_ready(&mut postgres, &dir) {
                return Self {
                    postgres,
                    port,
                    dir,
                    _temp: temp,
                };
            }
        }
        panic!(
            "PostgreSQL doesn't start: {}",
            fs::read_to_string(dir.join("log")).unwrap_or_default()
        );
    }

    /// A superuser's connection, by the socket.
    pub async fn admin(&self) -> Client {
        let url = format!("postgres://postgres@{}:{}/postgres", self.socket(), self.port);
        connect(&url).await.unwrap()
    }

    /// The directory as a URL's host.
    pub fn socket(&self) -> String {
        self.dir.to_str().unwrap().replace('/', "%2F")
    }

    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Changes settings, and waits until new sessions have the first of them.
    pub async fn reconfigure(&self, settings: &[(&str, &str)]) {
        let admin = self.admin().await;
        for (name, value) in settings {
            let statement = format!("ALTER SYSTEM SET {name} = '{value}'");
            admin.batch_execute(&statement).await.unwrap();
        }
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let (name, value) = settings[0];
        let deadline = Instant::now() + PATIENCE;
        while ask(&self.admin().await, &format!("SHOW {name}")).await != value {
            assert!(Instant::now() < deadline, "{name} doesn't change");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for TlsCluster {
    fn drop(&mut self) {
        // SIGINT is the fast shutdown: clients are cut off.
        let pid = Pid::from_raw(i32::try_from(self.postgres.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.postgres.wait().unwrap();
    }
}

fn run(binaries: &Path, dir: &Path, port: u16) -> Child {
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let conf = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\nssl = on\n\
         ssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\nshared_buffers = 16MB\n",
        dir.display(),
        file("server.crt"),
        file("server.key"),
        file("ca.crt"),
    );
    fs::write(dir.join("data/postgresql.conf"), conf).unwrap();
    let log = fs::File::create(dir.join("log")).unwrap();
    as_postgres(&binaries.join("postgres"))
        .arg("-D")
        .arg(dir.join("data"))
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits until the postmaster says in its pid file that it is ready; false if it has ended.
fn is_ready(postgres: &mut Child, dir: &Path) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
        if status.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return true;
        }
        if postgres.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "PostgreSQL doesn't get ready");
        sleep(Duration::from_millis(5));
    }
}

/// PostgreSQL refuses to run as root, so root runs it as the user that its package makes.
fn postgres_user() -> Option<User> {
    Uid::effective()
        .is_root()
        .then(|| User::from_name("postgres").unwrap().expect("a user `postgres`"))
}

fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if let Some(user) = postgres_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn give_away(path: &Path) {
    if let Some(user) = postgres_user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

fn make_certificates(dir: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        (cert.pem(), Issuer::new(params, key))
    };
    let (ca_pem, ca) = authority("chatledger's test authority");
    let (other_pem, _) = authority("another authority");
    fs::write(dir.join("ca.crt"), ca_pem).unwrap();
    fs::write(dir.join("other-ca.crt"), other_pem).unwrap();

    let names = ["localhost", "db.test", "127.0.0.1"].map(str::to_owned);
    let server = CertificateParams::new(names.to_vec()).unwrap();
    let mut client = CertificateParams::default();
    client.distinguished_name.push(DnType::CommonName, "by_cert");
    let mut own = CertificateParams::new(names.to_vec()).unwrap();
    // As `openssl req -x509` makes it.
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (name, params, issuer) in [
        ("server", server, Some(&ca)),
        ("by_cert", client, Some(&ca)),
        ("self-signed", own, None),
    ] {
        let key = KeyPair::generate().unwrap();
        let cert = issuer
            .map_or_else(|| params.self_signed(&key), |ca| params.signed_by(&key, ca))
            .unwrap();
        fs::write(dir.join(name).with_extension("crt"), cert.pem()).unwrap();
        let key_file = dir.join(name).with_extension("key");
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&key_file);
    }
}
