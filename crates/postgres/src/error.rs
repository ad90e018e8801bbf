//! Why a statement has no result.

use crate::connect;

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// All connections are in use.
    #[error("all connections are in use")]
    Busy,
    /// There is no connection to be had; the log says why.
    #[error("the database can't be reached: {0}")]
    Unavailable(String),
    /// The database answers, and has no connection left.
    #[error("the database has no connection left")]
    Full,
    /// The statement failed.
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
    /// The statement failed, and did nothing, since its connection was no longer what it had been. It isn't used again.
    #[error(transparent)]
    Stale(tokio_postgres::Error),
}

impl DbError {
    /// Whether the database was out of reach, before the statement or while it ran.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            DbError::Busy => false,
            DbError::Unavailable(_) | DbError::Full | DbError::Stale(_) => true,
            DbError::Sql(error) => connect::is_unavailable(error),
        }
    }
}
