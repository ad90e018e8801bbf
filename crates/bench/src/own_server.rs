//! A server of the load tester's own: an embedded PostgreSQL in a temporary directory, as `serve` would start it,
//! and `chatledger serve` over it as a child process, so that its memory and processor time can be told from ours.

use std::{
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    time,
};

use super::usage;
use chatledger_client::ServerTarget;
use chatledger_embedded::Cluster;

/// More than its own grace period for requests under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Whoever may enter the directory may not read it; `postgres`, another user where root starts it, has to enter.
const ENTERABLE: u32 = 0o711;
/// What would lead the child elsewhere. Other settings (`CHATLEDGER_APPEND_LANES`) reach it on purpose.
const NOT_INHERITED: [&str; 10] = [
    "CHATLEDGER_CONFIG",
    "DATABASE_URL_FILE",
    "DATABASE_DIRECT_URL_FILE",
    "NEON_DATABASE_URL_FILE",
    "DATABASE_DIRECT_URL",
    "NEON_DATABASE_URL",
    "CHATLEDGER_POOLER",
    "CHATLEDGER_SCOPE",
    "CHATLEDGER_DATA_DIR",
    "CHATLEDGER_LOG_FORMAT",
];

/// A database and a server.
#[derive(Debug)]
pub struct OwnServer {
    /// Where the server listens.
    pub target: ServerTarget,
    /// The database's URL, a socket's.
    pub database_url: String,
    /// Their processes.
    pub parties: usage::Parties,
    serve: ServeProcess,
    cluster: Cluster,
    dir: TempDir,
}

impl OwnServer {
    /// Starts both; `pg_bin` says where PostgreSQL's programs are, unless they are to be looked for.
    ///
    /// # Errors
    /// Either doesn't start.
    pub async fn start(pg_bin: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("chatledger-bench.")
            .tempdir()
            .context("making a temporary directory")?;
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(ENTERABLE))?;
        let cluster = Cluster::start(&chatledger_embedded::ClusterOptions {
            data_dir: dir.path().join("data"),
            pg_bin,
            settings: Vec::new(),
        })
        .await?;
        match ServeProcess::start(cluster.url()).await {
            Ok((serve, target)) => Ok(OwnServer {
                target,
                // For CHECKPOINT, and rows without a look at each foreign key.
                database_url: cluster.superuser_url().to_owned(),
                parties: usage::Parties {
                    server: Some(serve.target.pid.as_raw().cast_unsigned()),
                    postgres: usage::postmaster(cluster.data_dir()),
                },
                serve,
                cluster,
                dir,
            }),
            Err(error) => {
                // Before the directory goes.
                let _ = cluster.stop().await;
                Err(error)
            }
        }
    }

    /// Stops both, and removes what they have left.
    ///
    /// # Errors
    /// PostgreSQL doesn't stop, or its directory can't be removed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.serve.stop().await;
        self.cluster.stop().await?;
        self.dir
            .close()
            .context("removing the temporary directory of the embedded PostgreSQL")
    }
}

/// The child process.
#[derive(Debug)]
struct ServeProcess {
    target: Arc<chatledger_embedded::SignalTarget>,
    ended: watch::Receiver<bool>,
}

impl ServeProcess {
    async fn start(database_url: &str) -> anyhow::Result<(Self, ServerTarget)> {
        let mut command = command(database_url)?;
        let (started, result) = oneshot::channel();
        // The child dies with the thread that forked it: so the thread lives as long as the child.
        thread::Builder::new()
            .name("bench-server".to_owned())
            .spawn(move || own(&mut command, started))?;
        let (serve, line) = result.await.context("starting chatledger serve")??;
        let address = line
            .split_once(" serving on ")
            .and_then(|(_, rest)| rest.split_whitespace().next());
        match address {
            Some(address) => Ok((serve, ServerTarget::parse(&format!("http://{address}"))?)),
            None => {
                serve.stop().await;
                // What it had to say is on stderr.
                Err(anyhow!("chatledger serve didn't get ready"))
            }
        }
    }

    async fn stop(&self) {
        let mut ended = self.ended.clone();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            self.target.signal(signal);
            if time::timeout(STOP_TIMEOUT, ended.wait_for(|ended| *ended))
                .await
                .is_ok()
            {
                return;
            }
        }
    }
}

impl Drop for ServeProcess {
    fn drop(&mut self) {
        self.target.signal(Signal::SIGTERM);
    }
}

fn command(database_url: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn");
    }
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("DATABASE_URL", database_url)
        // Ctrl-C at a terminal is for us: we stop it when we are done.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    chatledger_embedded::die_with_us(&mut command);
    Ok(command)
}

/// The life of the thread.
fn own(command: &mut Command, started: oneshot::Sender<anyhow::Result<(ServeProcess, String)>>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // Nobody waits for it when the start was given up.
            let _ = started.send(Err(anyhow!(error).context("starting chatledger serve")));
            return;
        }
    };
    let target = Arc::new(chatledger_embedded::SignalTarget::new(Pid::from_raw(
        child.id().cast_signed(),
    )));
    let (end, ended) = watch::channel(false);
    let line = ready_line(&mut child);
    let serve = ServeProcess {
        target: Arc::clone(&target),
        ended,
    };
    // Not awaited any more: then the value is dropped here, which stops the child.
    let _ = started.send(Ok((serve, line)));
    let _ = target.wait(&mut child);
    end.send_replace(true);
}

/// Empty where the child ends instead.
fn ready_line(child: &mut Child) -> String {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    line
}
