//! How a pool of connections behaves.

use std::time::Duration;

/// How the pool behaves.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// The most connections.
    pub pool_size: usize,
    /// How long a request waits for a connection when all are in use.
    pub wait_timeout: Duration,
    /// How long a request goes on trying to connect while the database is away or waking up.
    pub connect_for: Duration,
    /// Whether the endpoint is a transaction pooler.
    pub pooled: bool,
    /// How long a statement of background work may take: that of lanes and watches, which nobody's deadline ends. Past it
    /// the connection is dropped, and the work done again on another.
    pub attempt_limit: Duration,
}

impl DbOptions {
    /// Longer than a lock is waited for, and than the largest batch takes on a slow disk; with another attempt after it, a
    /// connection that has fallen silent holds nobody up for more than some 10 seconds.
    pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);

    /// How much before a caller's deadline connecting is given up, or a tenth of the time if that is less: the answer that
    /// says UNAVAILABLE must leave before the caller stops listening.
    pub const ANSWER_MARGIN: Duration = Duration::from_millis(50);
}
