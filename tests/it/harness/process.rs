//! The program itself, as a process.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::{PATIENCE, eventually};

/// A running chatledger, which doesn't outlive a failing test.
pub struct ServerProcess {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: Arc<Mutex<String>>,
}

/// `chatledger`, without what the environment of the tests says about it, and with what makes a panic or an error
/// as loud as it gets.
pub fn chatledger() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatledger"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let is_setting = name.starts_with("CHATLEDGER_") && name != "CHATLEDGER_PG_BIN";
        if is_setting || name.contains("DATABASE") || name.starts_with("RUST_") {
            command.env_remove(&*name);
        }
    }
    command
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// `chatledger serve` on any port.
pub fn serve() -> Command {
    let mut command = chatledger();
    command.arg("serve").env("CHATLEDGER_LISTEN", "127.0.0.1:0");
    command
}

/// The same command where it may have so many files open at most.
pub fn within_files(command: &Command, most: u32) -> Command {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// `chatledger serve` with an embedded PostgreSQL there.
pub fn serve_in(data_dir: &Path) -> Command {
    let mut command = serve();
    command.arg("--data-dir").arg(data_dir);
    command
}

/// A directory that can be entered by the user as whom root runs `postgres`.
pub fn open_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("its permissions");
    dir
}

impl ServerProcess {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("chatledger");
        let (lines, stdout) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let errors = Arc::clone(&stderr);
        let mut err = child.stderr.take().expect("a pipe");
        thread::spawn(move || {
            // Not by lines: a question ends without one.
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = err.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                errors.lock().expect("no panic").push_str(&text);
            }
        });
        ServerProcess {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for the line that says that it serves.
    pub fn ready_line(&self) -> String {
        let line = self.stdout.recv_timeout(PATIENCE);
        line.unwrap_or_else(|_| panic!("it doesn't get ready: {}", self.stderr()))
    }

    /// The next line that it says on stdout, if there is one yet.
    pub fn next_line(&self) -> Result<String, mpsc::RecvTimeoutError> {
        self.stdout.recv_timeout(std::time::Duration::from_millis(1))
    }

    /// The ready line's address, for a client.
    pub fn channel(&self) -> Channel {
        let line = self.ready_line();
        Endpoint::from_shared(format!("http://{}", address_in(&line)))
            .expect("an endpoint")
            .connect_lazy()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic").clone()
    }

    /// What else it has said on stdout.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.try_iter().collect()
    }

    /// All that it says on stdout, once it has ended.
    pub fn rest_of_stdout(&self) -> String {
        self.stdout.iter().collect::<Vec<_>>().join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("a signal");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a look").is_none()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a look") {
                return status;
            }
            assert!(std::time::Instant::now() < end, "it doesn't end");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Waits until something is said on stderr.
    pub async fn says(&self, text: &str) {
        eventually(text, async || self.stderr().contains(text).then_some(())).await;
    }
}

/// The address in a ready line.
pub fn address_in(line: &str) -> &str {
    let rest = line.split_once(" serving on ").expect("a ready line").1;
    rest.split_once(' ').expect("a ready line").0
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
