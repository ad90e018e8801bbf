//! Where everything is: the data directory, what is in it, and the directory of the socket.

use super::account::SystemAccount;
use crate::error::EmbeddedError;
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The file name that `postgres` gives its socket: the port is always 5432.
pub(super) const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// Linux allows 107 bytes for a socket's path and macOS 103; PostgreSQL needs some for the end of the string.
const LONGEST_SOCKET: usize = 100;

/// A log this big is put aside at the next start: PostgreSQL itself never shortens it, and a quiet server writes a
/// few lines a day.
const LOG_LIMIT: u64 = 8 << 20;

/// An owner that was just killed keeps the lock until the kernel has taken it apart: some milliseconds, or more when
/// the machine is busy. Only after this long is the lock that of somebody alive.
const DYING: Duration = Duration::from_millis(500);
/// How often to try: short against the 50 ms of a start.
const PAUSE: Duration = Duration::from_millis(5);

/// The default data directory: `/var/lib/chatledger` for root, else `$XDG_DATA_HOME/chatledger`, else
/// `~/.local/share/chatledger`.
///
/// # Errors
/// When neither variable is set.
pub fn default_data_dir() -> Result<PathBuf, EmbeddedError> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/lib/chatledger")); // root's home is closed to the user that runs PostgreSQL
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map(|share| share.join("chatledger"))
        .ok_or(EmbeddedError::NoDataDir)
}

/// A data directory, made and free of symbolic links.
#[derive(Clone, Debug)]
pub(super) struct DataDir {
    /// The data directory.
    pub dir: PathBuf,
    /// The cluster, PGDATA.
    pub(crate) pgdata: PathBuf,
    /// PostgreSQL's own messages.
    pub log: PathBuf,
    /// Who runs PostgreSQL here.
    pub account: SystemAccount,
}

impl DataDir {
    /// Makes the data directory where it doesn't exist.
    pub(crate) fn prepare(data_dir: &Path) -> Result<Self, EmbeddedError> {
        if data_dir.join("PG_VERSION").exists() {
            let reason = "is itself a PostgreSQL cluster, which chatledger leaves alone".to_owned();
            return Err(EmbeddedError::NotOurs {
                dir: data_dir.to_path_buf(),
                reason,
            });
        }
        let account = SystemAccount::for_cluster(&data_dir.join("pg"))?;
        // Before anything is made, so that a wrong place that was named stays as it is.
        let absolute = std::path::absolute(data_dir).map_err(EmbeddedError::io("find", data_dir))?;
        let there = absolute
            .ancestors()
            .find(|dir| dir.is_dir())
            .unwrap_or(Path::new("/"));
        account.check_way_to(&there.canonicalize().map_err(EmbeddedError::io("find", there))?)?;
        create_private(&absolute)?;
        let dir = absolute
            .canonicalize()
            .map_err(EmbeddedError::io("find", data_dir))?;
        Ok(Self {
            pgdata: dir.join("pg"),
            log: dir.join("postgres.log"),
            dir,
            account,
        })
    }

    /// Takes the data directory for this process, until the file is unlocked or the process ends.
    pub(crate) fn lock(&self, socket_dir: &Path) -> Result<File, EmbeddedError> {
        let path = self.dir.join("lock");
        let mut file = private(OpenOptions::new().read(true).write(true))
            .open(&path)
            .map_err(EmbeddedError::io("open", &path))?;
        let start = Instant::now();
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(error) => return Err(EmbeddedError::io("lock", &path)(error)),
                TryLockError::WouldBlock if start.elapsed() < DYING => thread::sleep(PAUSE),
                TryLockError::WouldBlock => {
                    // The owner wrote its URL: ours may differ, by another environment.
                    let mut url = String::new();
                    let _ = file.read_to_string(&mut url);
                    let url = if url.trim().is_empty() {
                        self::url(socket_dir)
                    } else {
                        url.trim().to_owned()
                    };
                    return Err(EmbeddedError::InUse {
                        dir: self.dir.clone(),
                        url,
                    });
                }
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", url(socket_dir)))
            .map_err(EmbeddedError::io("write to", &path))?;
        Ok(file)
    }

    /// Opens the log for appending, and tells where this run's messages will begin.
    pub(crate) fn open_log(&self) -> Result<(File, u64), EmbeddedError> {
        if fs::symlink_metadata(&self.log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
            let aside = self.dir.join("postgres.log.old");
            fs::rename(&self.log, &aside).map_err(EmbeddedError::io("rename", &self.log))?;
        }
        let mut file = private(OpenOptions::new().append(true))
            .open(&self.log)
            .map_err(EmbeddedError::io("open", &self.log))?;
        let end = file
            .seek(std::io::SeekFrom::End(0))
            .map_err(EmbeddedError::io("read", &self.log))?;
        Ok((file, end))
    }

    /// The line after `start` that best says why PostgreSQL failed: the last fatal one, else the last.
    pub(crate) fn last_words(&self, start: u64) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(std::io::SeekFrom::Start(start))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => last_words(&String::from_utf8_lossy(&bytes)),
            Err(error) => error.to_string(),
        }
    }

    /// Makes the directory of the socket: in the data directory, or where that has too long a path, a directory
    /// named after it among the run-time or temporary files.
    pub(crate) fn socket_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let own = self.dir.join("socket");
        if fits(&own) {
            return Ok(own);
        }
        let name = format!("chatledger-{:016x}", fnv1a(self.dir.as_os_str().as_bytes()));
        // Root's run-time directory is closed to the user that runs PostgreSQL, and /run is there for such things.
        let runtime = if Uid::effective().is_root() {
            Some("/run".into())
        } else {
            env::var_os("XDG_RUNTIME_DIR")
        };
        runtime
            .map(PathBuf::from)
            .into_iter()
            .chain([env::temp_dir(), PathBuf::from("/tmp")])
            .filter(|dir| dir.is_absolute() && dir.is_dir() && self.account.check_way_to(dir).is_ok())
            .map(|dir| dir.join(&name))
            .find(|dir| fits(dir))
            .ok_or_else(|| EmbeddedError::NoSocketDir {
                dir: self.dir.clone(),
            })
    }
}

/// Makes a directory that only `account` may enter, or takes over one that it made earlier. In a public directory
/// such as /tmp someone else may have been quicker with the name.
pub(super) fn make_socket_dir(dir: &Path, account: &SystemAccount) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(EmbeddedError::io("create", dir)(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(dir).map_err(EmbeddedError::io("look at", dir))?;
    let ours = [account.uid, Uid::effective()]
        .iter()
        .any(|uid| uid.as_raw() == found.uid());
    if !found.is_dir() || !ours {
        let reason = "is where the socket should be, and belongs to somebody else".to_owned();
        return Err(EmbeddedError::NotOurs {
            dir: dir.to_path_buf(),
            reason,
        });
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(EmbeddedError::io("close", dir))?;
    account.own(dir)?;
    account.check_way_to(dir)
}

/// The role that owns the database, and is no superuser.
const OWNER: &str = "chatledger";
/// The role that looks after the cluster.
pub(super) const SUPERUSER: &str = "postgres";

/// The URL of the database behind the socket in `socket_dir`, as its owner.
pub(super) fn url(socket_dir: &Path) -> String {
    url_as(OWNER, socket_dir)
}

/// The same, as the cluster's superuser.
pub(super) fn superuser_url(socket_dir: &Path) -> String {
    url_as(SUPERUSER, socket_dir)
}

fn url_as(role: &str, socket_dir: &Path) -> String {
    let host = percent_encode(socket_dir.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    format!("postgresql://{role}@/chatledger?host={host}")
}

/// Picks out of PostgreSQL's messages the one that says why it failed, on one line and without its time stamp.
pub(super) fn last_words(messages: &str) -> String {
    let markers = ["PANIC:", "FATAL:", "error:", "ERROR:"];
    let fatal = |line: &&str| markers.iter().any(|marker| line.contains(marker));
    let lines = || messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(line) = lines().rfind(fatal).or_else(|| lines().next_back()) else {
        return "it said nothing".to_owned();
    };
    let start = markers
        .iter()
        .filter_map(|marker| line.find(marker))
        .min()
        .unwrap_or(0);
    let words = line[start..].split_whitespace().collect::<Vec<_>>().join(" ");
    words.trim_end_matches('.').to_owned()
}

/// Creates `dir` and what is missing above it: for us alone, or when root passes PostgreSQL on to another user, for
/// that one to pass through.
fn create_private(dir: &Path) -> Result<(), EmbeddedError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_private(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()), // another start made it
        result => result.map_err(EmbeddedError::io("create", dir))?,
    }
    if Uid::effective().is_root() {
        let passage = Permissions::from_mode(0o711); // set here, because a umask would take it from the mode above
        fs::set_permissions(dir, passage).map_err(EmbeddedError::io("open the way to", dir))?;
    }
    Ok(())
}

/// Creates files for us alone, and doesn't follow a link that somebody put in the place of one.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
}

fn fits(socket_dir: &Path) -> bool {
    socket_dir.join(SOCKET_NAME).as_os_str().len() <= LONGEST_SOCKET
}

/// A short name for a long path; the same with every compiler, unlike std's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> DataDir {
        let (uid, gid) = (Uid::effective(), nix::unistd::Gid::effective());
        let account = SystemAccount {
            name: "us".into(),
            uid,
            gid,
            switch: false,
        };
        DataDir {
            pgdata: dir.join("pg"),
            log: dir.join("postgres.log"),
            dir: dir.to_path_buf(),
            account,
        }
    }

    #[test]
    fn the_url_survives_odd_paths() {
        assert_eq!(
            url(Path::new("/a b/ü?&")),
            "postgresql://chatledger@/chatledger?host=%2Fa%20b%2F%C3%BC%3F%26"
        );
    }

    #[test]
    fn the_last_words_are_the_fatal_ones() {
        let log = "2026-01-01 10:00:00.000 UTC [7] LOG:  starting\n2026-01-01 UTC [7] FATAL:  could not  map memory.\n\
                   2026-01-01 UTC [7] HINT:  less memory\n2026-01-01 UTC [7] LOG:  database system is shut down\n";
        assert_eq!(last_words(log), "FATAL: could not map memory");
        assert_eq!(last_words("one\ntwo\n\n"), "two");
        assert_eq!(last_words(""), "it said nothing");
        assert_eq!(
            last_words("running ... initdb: error: no space\nremoving it"),
            "error: no space"
        );
    }

    #[test]
    fn a_long_path_gets_a_short_socket_directory() {
        let place = |dir: &str| place(Path::new(dir));
        assert_eq!(place("/srv/x").socket_dir().unwrap(), Path::new("/srv/x/socket"));
        let long = place(&format!("/srv/{}", "x".repeat(90))).socket_dir().unwrap();
        assert!(fits(&long) && !long.starts_with("/srv"), "{}", long.display());
        let other = place(&format!("/srv/{}", "y".repeat(90))).socket_dir().unwrap();
        assert_ne!(long, other);
    }

    #[test]
    fn a_second_lock_is_refused_with_the_owners_url() {
        let top = tempfile::tempdir().unwrap();
        let place = place(top.path());
        let lock = place.lock(Path::new("/owner")).unwrap();
        let error = place.lock(Path::new("/second")).unwrap_err().to_string();
        assert!(
            error.contains("--database-url 'postgresql://chatledger@/chatledger?host=%2Fowner'"),
            "{error}"
        );
        lock.unlock().unwrap();
        place.lock(Path::new("/second")).unwrap();
    }

    #[test]
    fn a_cluster_is_not_taken_for_a_data_directory() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(
            DataDir::prepare(top.path()),
            Err(EmbeddedError::NotOurs { .. })
        ));
    }

    #[test]
    fn a_log_that_grew_is_put_aside() {
        let top = tempfile::tempdir().unwrap();
        let place = place(top.path());
        File::create(&place.log).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        let (mut log, start) = place.open_log().unwrap();
        assert_eq!(start, 0);
        writeln!(log, "a line").unwrap();
        assert_eq!(place.last_words(start), "a line");
        assert!(place.dir.join("postgres.log.old").exists());
    }
}
