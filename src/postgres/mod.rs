//! Getting at PostgreSQL: URLs, TLS, connections, the pool, and a cluster of our own.
//!
//! - [`url`] reads what people paste, [`tls`] and [`connect`] make a connection of it.
//! - [`db`] is the pool, and the only way that the rest of the service runs a statement ([`sql`]), on a [`conn`].
//! - [`embedded`] runs a real PostgreSQL as a child process when there is no URL.

mod conn;
pub mod connect;
mod connecting;
pub mod db;
pub mod embedded;
pub mod sql;
pub mod tls;
pub mod url;

pub use conn::{Conn, Tx};
pub use db::{Db, DbError, DbOptions};
pub use sql::{Sql, Time};
