//! Reaching PostgreSQL: URLs as people paste them, TLS, connecting through outages, and a pool. Nothing here knows what is
//! stored.
//!
//! - [`url`] reads what people paste, as libpq would; [`tls`] does what each `sslmode` means.
//! - [`connect`] makes a connection of it: over several hosts, again and again while a server is away; and says what an
//!   error means.
//! - [`db`] is the pool, and the only way to run a statement ([`Sql`]), on a connection ([`Conn`](conn::Conn)) or in a transaction
//!   ([`Tx`]). What is abandoned is cancelled, and a connection that fell silent is left.
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use std::time::Duration;
//!
//! use chatledger_postgres::{Db, DbOptions, Sql, connect::Connector, url::DatabaseUrl};
//!
//! static NOW: Sql = Sql { name: "example.Now", text: "SELECT now()::text", params: &[] };
//!
//! let url = DatabaseUrl::parse("postgresql://me@db.example/app?sslmode=verify-full")?;
//! let options = DbOptions {
//!     pool_size: 8,
//!     wait_timeout: Duration::from_secs(5),
//!     connect_for: Duration::from_secs(15),
//!     pooled: false,
//!     attempt_limit: DbOptions::ATTEMPT_LIMIT,
//! };
//! let db = Db::new(Connector::new(&url)?, options)?;
//! let rows = db.read(None, &NOW, &[]).await?;
//! println!("{}", rows[0].get::<_, String>(0));
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! - A URL that a provider's console shows works as pasted; what would be unsafe to ignore is refused, and no error shows a
//!   value of it.
//! - A read is run again where its connection turns out to be broken; a write never is.
//! - A statement that nobody waits for any more is cancelled in the server.

mod attempts;
mod conn;
pub mod connect;
mod connecting;
pub mod db;
mod error;
pub mod metrics;
mod options;
mod pools;
pub mod sql;
mod tls;
pub mod url;

pub use conn::{Rows, Tx};
pub use db::Db;
pub use error::DbError;
pub use options::DbOptions;
pub use pools::PoolStatus;
pub use sql::{Sql, Time};
pub use tls::TlsError;
