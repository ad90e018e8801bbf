//! One PostgreSQL cluster for the whole run, also when the runner starts a process for each test. A
//! detached keeper runs it, and stops it when no test has used it for a while.

use std::{
    env, fs,
    fs::File,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::PATIENCE;

/// Where a cluster is, and the files that processes meet at.
pub struct ClusterDir {
    pub dir: PathBuf,
}

impl ClusterDir {
    /// By user and PostgreSQL, so that neither shares a cluster with the other.
    fn find() -> ClusterDir {
        let uid = nix::unistd::getuid();
        let binaries = env::var("CHATLEDGER_PG_BIN").unwrap_or_default();
        let tag = binaries
            .bytes()
            .fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
        ClusterDir {
            dir: env::temp_dir().join(format!("chatledger-test-cluster-{uid}-{tag:08x}")),
        }
    }

    pub fn url_file(&self) -> PathBuf {
        self.dir.join("url")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Held shared by every process that uses the cluster; the keeper takes it to stop.
    pub fn users(&self) -> File {
        open(&self.dir.join("users.lock"))
    }

    /// Held by the keeper.
    pub fn keeper(&self) -> File {
        open(&self.dir.join("keeper.lock"))
    }
}

fn open(path: &Path) -> File {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .expect("a lock file")
}

/// The URL of the shared cluster's maintenance database.
pub fn url() -> &'static str {
    static URL: OnceLock<(String, File)> = OnceLock::new();
    &URL.get_or_init(join).0
}

/// Joins the cluster's users, for as long as the file is open, and starts a keeper if there is none.
fn join() -> (String, File) {
    let place = ClusterDir::find();
    fs::create_dir_all(&place.dir).expect("a directory for the cluster");
    // As root, PostgreSQL runs as another user, who must be able to enter.
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let users = place.users();
    users.lock_shared().expect("the users' lock");

    let starting = open(&place.dir.join("start.lock"));
    starting.lock().expect("the starters' lock");
    let keeper = place.keeper();
    if keeper.try_lock().is_ok() {
        drop(fs::remove_file(place.url_file()));
        keeper.unlock().expect("the keeper's lock");
        spawn_keeper(&place);
    }
    let end = Instant::now() + PATIENCE;
    let url = loop {
        match fs::read_to_string(place.url_file()) {
            Ok(url) if url.ends_with('\n') => break url.trim().to_owned(),
            _ => {}
        }
        assert!(
            Instant::now() < end,
            "the test cluster did not start; see {}",
            place.dir.join("keeper.log").display()
        );
        thread::sleep(Duration::from_millis(5));
    };
    (url, users)
}

fn spawn_keeper(place: &ClusterDir) {
    let log = File::create(place.dir.join("keeper.log")).expect("the keeper's log");
    let keeper = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", super::keeper::TEST, "--ignored", "--nocapture"])
        .env(super::keeper::VARIABLE, &place.dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the keeper's log"))
        .stderr(log)
        // Of its own, so that what ends the tests doesn't end it.
        .process_group(0)
        .spawn();
    // Not waited for: it outlives this process.
    drop(keeper.expect("the keeper"));
}
