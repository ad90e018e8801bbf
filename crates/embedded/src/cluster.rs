//! The running cluster: one thread owns the child, [`Cluster`] is what the rest of the server holds of it.

use super::binaries::{self, Binaries};
use super::child::{SignalTarget, command, setting};
use super::data_dir::{self, DataDir, SOCKET_NAME};
use super::{create, leftovers};
use crate::error::EmbeddedError;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// A fast shutdown writes everything to disk first; a database of this size has done so in far less.
const FAST_SHUTDOWN: Duration = Duration::from_secs(10);
/// Nothing is written any more, and after 5 s `postgres` kills what doesn't end by itself.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);
/// How often to look whether PostgreSQL is ready: short against the 50 ms that takes.
const PAUSE: Duration = Duration::from_millis(2);
/// After a crash of the machine a start may take minutes: say now and then what it is waiting for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The settings for a small machine. Given on the command line, so that an existing cluster follows them too.
const DEFAULTS: [(&str, &str); 5] = [
    ("max_connections", "100"),
    ("shared_buffers", "128MB"),
    ("cluster_name", "chatledger"), // in `ps`
    ("log_checkpoints", "off"),     // from 15 on it is on, and makes most of a quiet server's log
    ("log_line_prefix", "%m [%p] "),
];

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The data directory; made if it doesn't exist. See [`default_data_dir`](crate::default_data_dir).
    pub data_dir: PathBuf,
    /// The directory that holds `postgres` and `initdb`, instead of the places where [`find_binaries`](crate::find_binaries) would look.
    pub pg_bin: Option<PathBuf>,
    /// Further settings of PostgreSQL, by name. They go before the defaults, but cannot open the cluster to others.
    pub settings: Vec<(String, String)>,
}

/// A PostgreSQL that lives as long as this value, and at most as long as this process.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    superuser_url: String,
    version: String,
    data_dir: PathBuf,
    target: Arc<SignalTarget>,
    /// The reason why PostgreSQL ended, once it has. By then the data directory is free again.
    ended: watch::Receiver<Option<String>>,
}

impl Cluster {
    /// Starts PostgreSQL in the data directory, which is made into a new cluster when it is none yet, and waits until
    /// it accepts connections. Dropping the future gives the start up.
    ///
    /// # Errors
    /// When the data directory is in use or not usable, there are no fitting binaries, or PostgreSQL doesn't start.
    pub async fn start(options: &ClusterOptions) -> Result<Self, EmbeddedError> {
        let options = options.clone();
        let (started, result) = oneshot::channel();
        // A thread of its own for all of it: the children are told to die with the thread that forks them, so it has
        // to live as long as they do, and a pool's thread doesn't.
        thread::Builder::new()
            .name("embedded-postgres".to_owned())
            .spawn(move || own(&options, started))
            .map_err(EmbeddedError::io("start a thread for", Path::new("postgres")))?;
        result.await.unwrap_or(Err(EmbeddedError::GivenUp))
    }

    /// `postgresql://chatledger@/chatledger?host=…`: the database `chatledger`, which exists, as its owner: no superuser, but one
    /// that may create databases.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same database as the superuser `postgres`, for whoever looks after the cluster. Whoever can reach the socket is let in.
    #[must_use]
    pub fn superuser_url(&self) -> &str {
        &self.superuser_url
    }

    /// Such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The data directory, absolute and without symbolic links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Waits until PostgreSQL has ended by itself, and tells why.
    pub async fn exited(&self) -> String {
        let mut ended = self.ended.clone();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "PostgreSQL is no longer watched".to_owned())
    }

    /// Stops PostgreSQL: connections are closed, everything is written to disk. After 10 s without it.
    ///
    /// # Errors
    /// When it doesn't end even then.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let mut ended = self.ended.clone();
        for (signal, limit) in [
            (Signal::SIGINT, FAST_SHUTDOWN),
            (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN),
        ] {
            self.target.signal(signal);
            if tokio::time::timeout(limit, ended.wait_for(Option::is_some))
                .await
                .is_ok()
            {
                return Ok(());
            }
            tracing::warn!(%signal, "PostgreSQL takes long to stop");
        }
        Err(EmbeddedError::DoesNotStop {
            pid: self.target.pid.as_raw(),
        })
    }
}

impl Drop for Cluster {
    /// Stops it without waiting; its thread goes on to look after it.
    fn drop(&mut self) {
        self.target.signal(Signal::SIGINT);
    }
}

/// The life of the thread.
fn own(options: &ClusterOptions, started: oneshot::Sender<Result<Cluster, EmbeddedError>>) {
    let mut server = match ClusterThread::start(options, &started) {
        Ok(server) => server,
        Err(error) => {
            let _ = started.send(Err(error)); // nobody waits for it when the start was given up
            return;
        }
    };
    let (end, ended) = watch::channel(None);
    let cluster = Cluster {
        url: data_dir::url(&server.socket_dir),
        superuser_url: data_dir::superuser_url(&server.socket_dir),
        version: server.binaries.version.clone(),
        data_dir: server.place.dir.clone(),
        target: Arc::clone(&server.target),
        ended,
    };
    let _ = started.send(Ok(cluster)); // not awaited any more: then the value is dropped here, which stops PostgreSQL
    let reason = server.wait();
    server.release();
    let _ = end.send(Some(reason)); // nobody may be left to be told
}

/// What the thread owns.
struct ClusterThread {
    place: DataDir,
    socket_dir: PathBuf,
    binaries: Binaries,
    lock: File,
    child: Child,
    target: Arc<SignalTarget>,
    /// Where this run's messages begin in the log.
    log_start: u64,
}

impl ClusterThread {
    fn start<T>(options: &ClusterOptions, wanted: &oneshot::Sender<T>) -> Result<Self, EmbeddedError> {
        let place = DataDir::prepare(&options.data_dir)?;
        let socket_dir = place.socket_dir()?;
        let lock = place.lock(&socket_dir)?;
        create::remove_unfinished(&place);
        let major = create::major_of(&place.pgdata)?;
        let binaries = binaries::find(options.pg_bin.as_deref(), major, &place.account)?;
        if major.is_none() {
            create::create(&place, &binaries)?;
        }
        data_dir::make_socket_dir(&socket_dir, &place.account)?;
        leftovers::clear(&place, &socket_dir)?;
        if wanted.is_closed() {
            return Err(EmbeddedError::GivenUp);
        }
        let (log, log_start) = place.open_log()?;
        let child = postgres(&place, &binaries, &socket_dir, options, log)?;
        let target = Arc::new(SignalTarget::new(Pid::from_raw(child.id().cast_signed())));
        let mut server = Self {
            place,
            socket_dir,
            binaries,
            lock,
            child,
            target,
            log_start,
        };
        server.wait_until_ready(wanted)?;
        if major.is_none() {
            create::sync_later(&server.place, &server.binaries);
        }
        Ok(server)
    }

    fn wait_until_ready<T>(&mut self, wanted: &oneshot::Sender<T>) -> Result<(), EmbeddedError> {
        let mut spoken = Instant::now();
        while !self.is_ready() {
            let exit = self
                .child
                .try_wait()
                .map_err(EmbeddedError::io("watch", &self.place.pgdata))?;
            if exit.is_some() {
                let reason = self.place.last_words(self.log_start);
                return Err(EmbeddedError::Start {
                    reason,
                    log: self.place.log.clone(),
                });
            }
            if wanted.is_closed() {
                self.target.signal(Signal::SIGINT);
                self.wait();
                return Err(EmbeddedError::GivenUp);
            }
            if spoken.elapsed() > PATIENCE {
                spoken = Instant::now();
                tracing::info!(log = %self.place.last_words(self.log_start), "PostgreSQL is still starting");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Line 8 of `postmaster.pid` says so. The file may still be an earlier one's, which had the same process id (in
    /// containers that happens); but it is written anew before there is a socket, and a left-over socket is removed.
    fn is_ready(&self) -> bool {
        let Ok(content) = fs::read_to_string(self.place.pgdata.join("postmaster.pid")) else {
            return false;
        };
        let line = |number: usize| content.lines().nth(number - 1).map(str::trim);
        let pid = self.child.id().to_string();
        line(1) == Some(pid.as_str())
            && line(8) == Some("ready")
            && self.socket_dir.join(SOCKET_NAME).exists()
    }

    /// Waits for PostgreSQL's end and tells why it came.
    fn wait(&mut self) -> String {
        match self.target.wait(&mut self.child) {
            Ok(status) => format!(
                "PostgreSQL ended ({status}): {}",
                self.place.last_words(self.log_start)
            ),
            Err(error) => format!("PostgreSQL cannot be watched: {error}"),
        }
    }

    /// Leaves the data directory to the next. Unlocked by name, since closing isn't enough: a child that another
    /// thread has just forked has a copy of the file until it calls exec.
    fn release(self) {
        if !self.socket_dir.starts_with(&self.place.dir) {
            let _ = fs::remove_dir(&self.socket_dir); // if only to keep the temporary directory tidy
        }
        let _ = self.lock.unlock(); // closing follows
    }
}

/// Starts `postgres` itself rather than `pg_ctl`, so that it is our child.
fn postgres(
    place: &DataDir,
    binaries: &Binaries,
    socket_dir: &Path,
    options: &ClusterOptions,
    log: File,
) -> Result<Child, EmbeddedError> {
    let program = binaries.dir.join("postgres");
    let mut postgres: Command = command(&program, &place.account);
    postgres.arg("-D").arg(&place.pgdata);
    // Of two settings of one name the later counts: the caller may change ours, but not what keeps others out.
    for (name, value) in DEFAULTS {
        setting(&mut postgres, name, value);
    }
    for (name, value) in &options.settings {
        setting(&mut postgres, name, value);
    }
    setting(&mut postgres, "listen_addresses", "");
    setting(&mut postgres, "port", "5432"); // part of the socket's name
    setting(&mut postgres, "unix_socket_directories", quoted(socket_dir));
    setting(&mut postgres, "unix_socket_permissions", "0700");
    setting(&mut postgres, "logging_collector", "off"); // the log is the file below, whose last lines errors quote
    setting(&mut postgres, "log_destination", "stderr");
    let copy = log.try_clone().map_err(EmbeddedError::io("open", &place.log))?;
    postgres
        .stdout(copy)
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(EmbeddedError::io("run", &program))
}

/// The setting is a list: a comma or space in a path must not divide it.
fn quoted(dir: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for &byte in dir.as_os_str().as_bytes() {
        quoted.extend(if byte == b'"' {
            vec![byte, byte]
        } else {
            vec![byte]
        });
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_list_is_quoted() {
        assert_eq!(quoted(Path::new("/a, b/\"c\"")), "\"/a, b/\"\"c\"\"\"");
    }
}
