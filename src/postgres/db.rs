//! The pool: a connection when one is to be had, statements run on it, and what becomes of it afterwards.
//!
//! Two kinds of endpoint are served by one switch: directly, statements are prepared once a connection;
//! behind a transaction pooler (PgBouncer, Neon's `-pooler` hosts) they are sent with their types, since
//! nothing may be kept in a session there.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backon::Retryable;
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use futures_util::future::{BoxFuture, join3};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_postgres::{
    Client, Config, Row,
    types::{ToSql, Type},
};

use super::{
    Sql,
    connect::{self, Connector},
};

/// The parameters of a statement.
pub type Params<'a> = [&'a (dyn ToSql + Sync)];

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
}

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// All connections are in use.
    #[error("all connections are in use")]
    Busy,
    /// There is no connection to be had; the log says why.
    #[error("the database can't be reached: {0}")]
    Unavailable(String),
    /// The statement failed.
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
}

impl DbError {
    /// Whether the database was out of reach, before the statement or while it ran.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            DbError::Busy => false,
            DbError::Unavailable(_) => true,
            DbError::Sql(error) => connect::is_unavailable(error),
        }
    }
}

/// A lock that somebody else holds is waited for this long in a transaction: long enough for any append,
/// short enough that a forgotten `BEGIN` somewhere doesn't use up the pool.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '5s'";

/// An answer that says UNAVAILABLE must leave before the caller stops listening.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);

/// Connecting takes a few milliseconds on a network nearby, and with TLS some more: the last attempt before
/// a deadline begins as late as that allows.
const LAST_ATTEMPT: Duration = Duration::from_millis(50);

/// A connection that has been unused for this long is closed: a serverless database then has none.
const MAX_IDLE: Duration = Duration::from_mins(5);
/// A connection is not used for longer than this, so that a fleet follows a moved DNS name.
const MAX_AGE: Duration = Duration::from_mins(30);

/// Prepared statements are planned once a connection, not each time: planning the append statement takes
/// longer than running it for one message, and PostgreSQL by itself would do so for ever, since it expects
/// fewer elements in arrays that it doesn't see. Every prepared statement finds its rows by keys, whatever
/// its parameters are.
const PLAN_ONCE: &str = "SET plan_cache_mode = force_generic_plan";

/// For statements whose plan should know their parameters.
const PLAN_EACH: &str = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan";

/// What [`Db::another`]'s work asks for is always found by an index. A plan that was made while a table was
/// small must not read it from one end to the other when it has grown.
const BY_INDEX: &str = "SET enable_seqscan = off";

/// The database.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    connector: Connector,
    options: Arc<DbOptions>,
    /// Whether the database answered when it was last asked.
    reachable: Arc<watch::Sender<bool>>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// A pool that connects when it is first used.
    ///
    /// # Errors
    /// A pool size of 0.
    pub fn new(connector: Connector, options: DbOptions) -> anyhow::Result<Self> {
        let reachable = Arc::new(watch::Sender::new(true));
        Self::pool(connector, options, reachable, PLAN_ONCE.to_owned())
    }

    /// Another pool to the same database, for work that must not wait for other work's connections, and
    /// whose statements find all their rows by indexes.
    ///
    /// # Errors
    /// A pool size of 0.
    pub fn another(&self, pool_size: usize) -> anyhow::Result<Self> {
        let options = DbOptions {
            pool_size,
            ..DbOptions::clone(&self.options)
        };
        let reachable = Arc::clone(&self.reachable);
        Self::pool(
            self.connector.clone(),
            options,
            reachable,
            format!("{PLAN_ONCE}; {BY_INDEX}"),
        )
    }

    fn pool(
        connector: Connector,
        options: DbOptions,
        reachable: Arc<watch::Sender<bool>>,
        settings: String,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            options.pool_size > 0,
            "the pool must have at least one connection"
        );
        let config = ManagerConfig {
            // No query before a use: a closed connection is known as closed, and a read is run again.
            recycling_method: RecyclingMethod::Fast,
        };
        let connecting = Connecting {
            connector: connector.clone(),
            // Behind a pooler nothing may be set in a session, and nothing is prepared.
            settings: if options.pooled { String::new() } else { settings },
        };
        let manager = Manager::from_connect(connector.config().clone(), connecting, config);
        let pool = Pool::builder(manager)
            .max_size(options.pool_size)
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Db {
            pool,
            connector,
            options: Arc::new(options),
            reachable,
        })
    }

    /// Tells of every change between "the database answers" and "it doesn't".
    #[must_use]
    pub fn reachable(&self) -> watch::Receiver<bool> {
        self.reachable.subscribe()
    }

    /// Says that the database answers again, after somebody has tried.
    pub fn set_reachable(&self) {
        self.reachable
            .send_if_modified(|reachable| !std::mem::replace(reachable, true));
    }

    /// Closes the connections that have been unused for long, or are old.
    pub fn prune(&self) {
        self.pool
            .retain(|_, metrics| metrics.last_used() < MAX_IDLE && metrics.age() < MAX_AGE);
    }

    /// A connection. While the database is away or waking up, connecting is tried again, with growing
    /// pauses, until shortly before the deadline.
    ///
    /// # Errors
    /// [`DbError::Busy`] or [`DbError::Unavailable`].
    pub async fn connection(&self, deadline: Option<Instant>) -> Result<Conn, DbError> {
        let patience = deadline.map_or(self.options.connect_for, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Of a short time, only a small part is set aside.
            let margin = ANSWER_MARGIN.min(left / 10);
            left.saturating_sub(margin).min(self.options.connect_for)
        });
        let began = Instant::now();
        let end = began + patience;
        let last_chance = began + patience.saturating_sub(LAST_ATTEMPT.min(patience / 2));
        let attempt = || async {
            let timeouts = Timeouts {
                wait: Some(self.options.wait_timeout.min(patience)),
                create: Some(end.saturating_duration_since(Instant::now())),
                recycle: Some(self.options.wait_timeout),
            };
            self.pool.timeout_get(&timeouts).await
        };
        let found = attempt
            .retry(connect::pauses())
            // A pause that the deadline cuts short is followed by an attempt like any other.
            .sleep(move |pause| time::sleep_until(last_chance.min(Instant::now() + pause)))
            .when(|error| {
                let passing = matches!(error, PoolError::Backend(error) if connect::may_succeed_later(error));
                passing && Instant::now() < last_chance
            })
            .await;
        match found {
            Ok(object) => Ok(self.checked_out(object)),
            Err(PoolError::Timeout(TimeoutType::Wait)) if *self.reachable.borrow() => Err(DbError::Busy),
            // The others aren't at work, they are trying to connect as well.
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                Err(DbError::Unavailable("others are waiting for it".to_owned()))
            }
            Err(error) => {
                self.reachable.send_replace(false);
                let reason = match error {
                    PoolError::Backend(error) => connect::describe(&error),
                    error => error.to_string(),
                };
                tracing::warn!(reason, "can't connect to the database");
                Err(DbError::Unavailable(reason))
            }
        }
    }

    fn checked_out(&self, object: Object) -> Conn {
        self.set_reachable();
        Conn {
            object: Some(object),
            connector: self.connector.clone(),
            pooled: self.options.pooled,
            reachable: Arc::clone(&self.reachable),
            unfinished: AtomicUsize::new(0),
        }
    }

    /// Runs one statement that only reads. Where the connection turns out to be broken, it is run again on
    /// another.
    ///
    /// # Errors
    /// As [`Db::connection`] and [`Conn::query`].
    pub async fn read(
        &self,
        deadline: Option<Instant>,
        sql: &Sql,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, DbError> {
        match self.write(deadline, sql, params).await {
            Err(DbError::Sql(error)) if connect::is_unavailable(&error) => {
                self.write(deadline, sql, params).await
            }
            result => result,
        }
    }

    /// Runs one statement that writes, in a transaction of its own, once.
    ///
    /// # Errors
    /// As [`Db::connection`] and [`Conn::query`]. After a lost connection it isn't known whether the
    /// statement took effect.
    pub async fn write(
        &self,
        deadline: Option<Instant>,
        sql: &Sql,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, DbError> {
        let conn = self.connection(deadline).await?;
        Ok(conn.query(sql, params).await?)
    }

    /// As [`Db::read`], for a statement whose best plan depends on its parameters: it is planned for them.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub async fn read_planned(
        &self,
        deadline: Option<Instant>,
        sql: &Sql,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, DbError> {
        let attempt = async || {
            Ok(self
                .connection(deadline)
                .await?
                .query_planned(sql, params)
                .await?)
        };
        match attempt().await {
            Err(DbError::Sql(error)) if connect::is_unavailable(&error) => attempt().await,
            result => result,
        }
    }

    /// Begins a transaction: READ COMMITTED, with a limit on waiting for locks.
    ///
    /// # Errors
    /// As [`Db::connection`] and [`Conn::query`].
    pub async fn begin(&self, deadline: Option<Instant>) -> Result<Tx, DbError> {
        let conn = self.connection(deadline).await?;
        conn.batch(BEGIN).await?;
        conn.unfinished.fetch_add(1, Ordering::Relaxed);
        Ok(Tx { conn })
    }
}

/// Makes a pool's connections.
struct Connecting {
    connector: Connector,
    /// What each runs first.
    settings: String,
}

/// What [`Manager::from_connect`] takes. The manager's own `Config` isn't used: it can't say all that the URL
/// does.
impl deadpool_postgres::Connect for Connecting {
    fn connect(
        &self,
        _config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async {
            let (client, driving) = self.connector.connect().await?;
            if !self.settings.is_empty() {
                client.batch_execute(&self.settings).await?;
            }
            Ok((client, driving))
        })
    }
}

/// A connection, checked out of the pool.
///
/// When it is dropped while a statement or a transaction is under way (the caller's deadline has passed, or
/// the caller is gone), the statement is cancelled and the connection closed: the next user would wait
/// behind it. Behind a pooler the connection is only closed, and PgBouncer closes the server's: the driver
/// doesn't wait for an answer to its cancel requests, and PgBouncer 1.18 (Debian 12's) ends with a FATAL
/// error when one's sender is gone too early.
pub struct Conn {
    /// Taken only in `drop`.
    object: Option<Object>,
    connector: Connector,
    pooled: bool,
    reachable: Arc<watch::Sender<bool>>,
    /// Statements whose result hasn't come, and transactions that haven't ended.
    unfinished: AtomicUsize,
}

impl Conn {
    /// Runs a statement and reads all its rows.
    ///
    /// # Errors
    /// Whatever the database says, and a broken connection.
    pub async fn query(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.pooled {
            return self.query_typed(sql, params).await;
        }
        self.watched(async |client| {
            let statement = client.prepare_typed_cached(sql.text, sql.params).await?;
            client.query(&statement, params).await
        })
        .await
    }

    /// Without preparing it.
    async fn query_typed(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let typed = typed(sql, params);
        self.watched(async |client| client.query_typed(sql.text, &typed).await)
            .await
    }

    /// Planned for its parameters, in spite of [`PLAN_ONCE`], which holds for statements without a name as well.
    async fn query_planned(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.pooled {
            return self.query_typed(sql, params).await;
        }
        let typed = typed(sql, params);
        self.watched(async |client| {
            // Sent together, in this order: one round trip. After a failure, COMMIT rolls back.
            let (begun, rows, ended) = join3(
                client.batch_execute(PLAN_EACH),
                client.query_typed(sql.text, &typed),
                client.batch_execute("COMMIT"),
            )
            .await;
            begun?;
            let rows = rows?;
            ended?;
            Ok(rows)
        })
        .await
    }

    async fn batch(&self, text: &str) -> Result<(), tokio_postgres::Error> {
        self.watched(async |client| client.batch_execute(text).await)
            .await
    }

    async fn watched<'a, T, F>(
        &'a self,
        run: impl FnOnce(&'a Object) -> F,
    ) -> Result<T, tokio_postgres::Error>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let object = self.object.as_ref().expect("taken only in drop"); // nobody has it after drop
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        // Dropped here, the count stays above 0.
        let result = run(object).await;
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = &result
            && connect::is_unavailable(error)
        {
            self.reachable.send_replace(false);
        }
        result
    }
}

/// The parameters with their types.
fn typed<'a>(sql: &Sql, params: &Params<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().copied().zip(sql.params.iter().cloned()).collect()
}

impl Drop for Conn {
    fn drop(&mut self) {
        if *self.unfinished.get_mut() == 0 {
            return;
        }
        let Some(object) = self.object.take() else { return };
        let client = Object::take(object);
        if self.pooled {
            return;
        }
        let token = client.cancel_token();
        let connector = self.connector.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Closed only then: afterwards the server's process may be another connection's.
                let _client = client;
                if let Err(error) = connector.cancel(token).await {
                    tracing::debug!(%error, "an abandoned statement could not be cancelled");
                }
            });
        }
    }
}

/// A transaction.
pub struct Tx {
    conn: Conn,
}

impl Tx {
    /// Runs a statement and reads all its rows.
    ///
    /// # Errors
    /// As [`Conn::query`].
    pub async fn query(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, DbError> {
        Ok(self.conn.query(sql, params).await?)
    }

    /// Commits if `result` is good, and rolls back otherwise. PostgreSQL answers the COMMIT of a failed
    /// transaction with ROLLBACK and no error, so `result` must be an error if any statement had one.
    ///
    /// # Errors
    /// `result`'s, or the COMMIT's, after which it isn't known whether it took effect.
    pub async fn end<T, E: From<DbError>>(self, result: Result<T, E>) -> Result<T, E> {
        let text = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.conn.batch(text).await;
        if ended.is_ok() {
            self.conn.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
        let value = result?;
        ended.map_err(|error| E::from(DbError::Sql(error)))?;
        Ok(value)
    }
}
