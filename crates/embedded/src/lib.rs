//! A real PostgreSQL as a child process, for those who give no database URL.
//!
//! [`Cluster::start`] finds PostgreSQL's programs on the machine ([`find_binaries`]), makes a cluster in the data
//! directory when there is none, and runs `postgres` on a unix socket that only this user can reach. The rest of the
//! server needs to know nothing of this: it gets a [URL](Cluster::url) like any other.
//!
//! ```text
//! <data directory>/lock           held while a server owns the directory; says where its PostgreSQL listens
//!                  pg/            the cluster (PGDATA)
//!                  socket/        elsewhere, when the path would be too long for a socket
//!                  postgres.log   what PostgreSQL says
//! ```
//!
//! ```no_run
//! # async fn f() -> Result<(), chatledger_embedded::EmbeddedError> {
//! use chatledger_embedded::{Cluster, ClusterOptions, default_data_dir};
//!
//! let options = ClusterOptions { data_dir: default_data_dir()?, pg_bin: None, settings: Vec::new() };
//! let cluster = Cluster::start(&options).await?;
//! println!("PostgreSQL {} at {}", cluster.version(), cluster.url());
//! cluster.stop().await?;
//! # Ok(()) }
//! ```
//!
//! The walk of a start (`cluster`): a thread of its own takes the data directory (`data_dir`), finds the programs (`binaries`)
//! and the user that runs them (`account`), makes the cluster where there is none (`create`), clears away what a killed server
//! has left (`leftovers`), and runs `postgres` (`child`). `error` says what can go wrong, and what to do about it.
//!
//! The promises, and what keeps them:
//! - **PostgreSQL never outlives the server.** Stopped with it, and after kill -9 by the kernel (`child`, the only
//!   `unsafe` of the library). Where that isn't possible (macOS), or the old one is still ending, the next start waits
//!   for it (`leftovers`).
//! - **No half-made cluster.** It is made under another name and renamed (`create`).
//! - **One owner.** The file `lock` is locked first of all (`data_dir`); a second server is told the owner's URL.
//! - **Nothing is lost.** fsync stays on; a crash is recovered from by PostgreSQL itself.
//! - **Nobody else gets in.** No TCP, and a socket in a directory with mode 0700.
//! - **The server is no superuser.** Its role owns the database, and may create scratch databases (`create`).
//! - **Root may start it**, although PostgreSQL refuses to run as root (`account`).

mod account;
mod binaries;
mod child;
mod cluster;
mod create;
mod data_dir;
mod error;
mod leftovers;

pub use binaries::{Binaries, SUPPORTED, find_binaries};
pub use child::{SignalTarget, die_with_us};
pub use cluster::{Cluster, ClusterOptions};
pub use data_dir::default_data_dir;
pub use error::EmbeddedError;
