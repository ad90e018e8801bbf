//! The pool: a connection when one is to be had, statements run on it, and what becomes of it afterwards.
//!
//! Two kinds of endpoint are served by one switch: directly, statements are prepared once a connection;
//! behind a transaction pooler (PgBouncer, Neon's `-pooler` hosts) they are sent with their types, since
//! nothing may be kept in a session there.

use std::{fmt, sync::Arc, time::Duration};

use backon::Retryable;
use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_postgres::{Row, types::ToSql};

use super::{
    DbError, DbOptions, Sql, Tx,
    conn::{Conn, Rows},
    connect::{self, Connector},
    connecting::PoolConnector,
    metrics::metrics,
    pools::{PoolQueue, PoolStatus, Siblings},
};
use crate::attempts::{AttemptRecord, OpenAttempt};

/// The parameters of a statement.
pub type Params<'a> = [&'a (dyn ToSql + Sync)];

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

/// A failure to connect within less time than this says more about the caller's patience than about the database.
const EVIDENCE: Duration = Duration::from_secs(1);

/// What [`Db::another`]'s work asks for is always found by an index. A plan that was made while a table was
/// small must not read it from one end to the other when it has grown.
const BY_INDEX: &str = "SET enable_seqscan = off";

/// The database.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    pub(super) connector: Connector,
    options: Arc<DbOptions>,
    /// Whether the database answered when it was last asked.
    reachable: Arc<watch::Sender<bool>>,
    /// How long a statement may take, where nobody's deadline ends it: that of background work.
    pub(super) limit: Option<Duration>,
    /// What background work asks of the database, by which health sees that it gets nowhere.
    progress: AttemptRecord,
    /// Whether what is asked here is part of that.
    is_followed: bool,
    /// All pools to the same database: where it has no connection left, what is idle in one gives way to another.
    siblings: Siblings,
    /// Those who wait for their turn to ask this pool.
    queue: PoolQueue,
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
        let pool = Self::pool_of(&connector, &options, PLAN_ONCE.to_owned())?;
        let siblings = Siblings::default();
        Ok(Db {
            queue: siblings.add("requests", &pool),
            siblings,
            pool,
            connector,
            options: Arc::new(options),
            reachable: Arc::new(watch::Sender::new(true)),
            limit: None,
            progress: AttemptRecord::default(),
            is_followed: false,
        })
    }

    /// Another pool to the same database, of this name, for work that must not wait for other work's connections, and
    /// whose statements find all their rows by indexes.
    ///
    /// # Errors
    /// A pool size of 0.
    pub fn another(&self, name: &'static str, pool_size: usize) -> anyhow::Result<Self> {
        let other = self.sibling(name, pool_size, format!("{PLAN_ONCE}; {BY_INDEX}"))?;
        Ok(Db {
            limit: Some(other.options.attempt_limit),
            is_followed: true,
            ..other
        })
    }

    /// Another pool to the same database, of this name, for work that may take long, and whose failures say nothing about the database.
    ///
    /// # Errors
    /// A pool size of 0.
    pub fn beside(&self, name: &'static str, pool_size: usize) -> anyhow::Result<Self> {
        self.sibling(name, pool_size, PLAN_ONCE.to_owned())
    }

    fn sibling(&self, name: &'static str, pool_size: usize, settings: String) -> anyhow::Result<Self> {
        let options = DbOptions {
            pool_size,
            ..DbOptions::clone(&self.options)
        };
        let pool = Self::pool_of(&self.connector, &options, settings)?;
        Ok(Db {
            queue: self.siblings.add(name, &pool),
            pool,
            limit: None,
            is_followed: false,
            options: Arc::new(options),
            ..self.clone()
        })
    }

    /// The same pool, for work that may wait for somebody else's locks: that says nothing about the database.
    #[must_use]
    pub fn unfollowed(&self) -> Self {
        Db {
            is_followed: false,
            ..self.clone()
        }
    }

    /// The same pool, for work that no caller's deadline ends.
    #[must_use]
    pub fn limited(&self) -> Self {
        Db {
            limit: Some(self.options.attempt_limit),
            ..self.clone()
        }
    }

    /// How long a statement of background work may take.
    #[must_use]
    pub fn attempt_limit(&self) -> Duration {
        self.options.attempt_limit
    }

    /// What background work is asking of the database.
    #[must_use]
    pub fn progress(&self) -> &AttemptRecord {
        &self.progress
    }

    pub(super) fn attempt(&self) -> Option<OpenAttempt> {
        self.is_followed.then(|| self.progress.begin())
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.options.pooled
    }

    /// A connection broke, or is silent: the database may be away. Whatever has befallen one connection has mostly
    /// befallen all, and the work that is run again must not find that out one by one.
    pub(super) fn lost(&self) {
        self.reachable.send_replace(false);
        self.close_idle();
    }

    /// Closes this pool's connections that nobody uses.
    pub fn close_own_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Closes the connections that nobody uses, of all pools to this database.
    pub(crate) fn close_idle(&self) {
        self.siblings.close_idle();
    }

    /// The connections of all pools to this database at this moment.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolStatus> {
        self.siblings.statuses()
    }

    fn pool_of(connector: &Connector, options: &DbOptions, settings: String) -> anyhow::Result<Pool> {
        anyhow::ensure!(
            options.pool_size > 0,
            "the pool must have at least one connection"
        );
        let config = ManagerConfig {
            // No query before a use: a closed connection is known as closed, and a read is run again.
            recycling_method: RecyclingMethod::Fast,
        };
        let connecting = PoolConnector {
            connector: connector.clone(),
            // Behind a pooler nothing may be set in a session, and nothing is prepared.
            settings: if options.pooled { String::new() } else { settings },
        };
        let manager = Manager::from_connect(connector.config().clone(), connecting, config);
        Ok(Pool::builder(manager)
            .max_size(options.pool_size)
            .runtime(Runtime::Tokio1)
            .build()?)
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
        let _attempt = self.attempt();
        let began = Instant::now();
        let answer_by = answer_by(deadline, began);
        let patience = answer_by.map_or(self.options.connect_for, |answer_by| {
            answer_by
                .saturating_duration_since(began)
                .min(self.options.connect_for)
        });
        let end = began + patience;
        let last_chance = began + patience.saturating_sub(LAST_ATTEMPT.min(patience / 2));
        let attempt = || async {
            // An attempt that has begun may go through all hosts, each of which has its own time.
            let end = if self.connector.is_bounded() {
                answer_by
            } else {
                Some(end)
            };
            let timeouts = Timeouts {
                wait: Some(self.options.wait_timeout.min(patience)),
                create: end.map(|end| end.saturating_duration_since(Instant::now())),
                recycle: Some(self.options.wait_timeout),
            };
            let found = self.pool.timeout_get(&timeouts).await;
            match &found {
                // It answers; and what is idle elsewhere makes room.
                Err(PoolError::Backend(error)) if connect::is_full(error) => self.close_idle(),
                // Said at once, and not when patience has run out: health looks for itself then.
                Err(PoolError::Backend(error)) if connect::is_unavailable(error) => {
                    self.reachable.send_replace(false);
                }
                _ => {}
            }
            found
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
        let waited = began.elapsed().as_secs_f64();
        metrics().wait.with_label_values(&["connection"]).observe(waited);
        match found {
            Ok(object) => {
                self.set_reachable();
                Ok(Conn::new(object, self.clone()))
            }
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(self.waited_in_vain()),
            Err(PoolError::Backend(error)) if connect::is_full(&error) => {
                tracing::warn!(
                    reason = connect::describe(&error),
                    "can't connect to the database"
                );
                Err(DbError::Full)
            }
            Err(error) => {
                if patience >= EVIDENCE {
                    self.reachable.send_replace(false);
                }
                let reason = match error {
                    PoolError::Backend(error) => connect::describe(&error),
                    PoolError::Timeout(TimeoutType::Create) => "no connection in time".to_owned(),
                    error => error.to_string(),
                };
                tracing::warn!(reason, "can't connect to the database");
                Err(DbError::Unavailable(reason))
            }
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
        // A connection is given back before another is asked for.
        let attempt = async || {
            let conn = self.connection(deadline).await?;
            conn.query(sql, params).await.map_err(|error| conn.explain(error))
        };
        match attempt().await {
            Err(DbError::Stale(_)) => attempt().await,
            result => result,
        }
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
            let conn = self.connection(deadline).await?;
            conn.query_planned(sql, params)
                .await
                .map_err(|error| conn.explain(error))
        };
        match attempt().await {
            Err(DbError::Stale(_)) => attempt().await,
            Err(DbError::Sql(error)) if connect::is_unavailable(&error) => attempt().await,
            result => result,
        }
    }

    /// Does some work in a transaction ([`Db::begin`]), which is committed if the work succeeds.
    ///
    /// # Errors
    /// As [`Db::begin`]; the work's; and the COMMIT's, after which it isn't known whether it took effect.
    pub async fn transaction<T, E: From<DbError>>(
        &self,
        deadline: Option<Instant>,
        work: impl AsyncFnOnce(&Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let tx = self.begin(deadline).await?;
        let result = work(&tx).await;
        tx.end(result).await
    }

    /// Runs one statement that only reads, whose rows are read as they come.
    ///
    /// # Errors
    /// As [`Db::write`], for what happens before the first row.
    pub async fn stream(
        &self,
        deadline: Option<Instant>,
        sql: &Sql,
        params: &Params<'_>,
    ) -> Result<Rows, DbError> {
        self.connection(deadline).await?.stream(sql, params).await
    }

    /// Waits for something that whoever wants a connection has to have before, for no longer than for the connection itself.
    ///
    /// # Errors
    /// Those of a wait for a connection that was too long.
    pub async fn wait_for<T>(
        &self,
        deadline: Option<Instant>,
        wait: impl Future<Output = T>,
    ) -> Result<T, DbError> {
        let began = Instant::now();
        let longest = began + self.options.wait_timeout;
        let until = answer_by(deadline, began).map_or(longest, |by| by.min(longest));
        let waited = self.queue.during(time::timeout_at(until, wait)).await;
        let seconds = began.elapsed().as_secs_f64();
        metrics().wait.with_label_values(&["turn"]).observe(seconds);
        waited.map_err(|_| self.waited_in_vain())
    }

    /// The end of a wait for those who have the connections.
    fn waited_in_vain(&self) -> DbError {
        metrics().timeouts.inc();
        if *self.reachable.borrow() {
            return DbError::Busy;
        }
        // The others aren't at work, they are trying to connect as well.
        DbError::Unavailable("others are waiting for it".to_owned())
    }

    /// The most connections that there are.
    #[must_use]
    pub fn pool_size(&self) -> usize {
        self.options.pool_size
    }

    /// Does some work in a transaction whose statements all see the same, each planned for its parameters; it is committed if the
    /// work succeeds. What somebody else has changed since is a serialization failure.
    ///
    /// # Errors
    /// As [`Db::transaction`].
    pub async fn snapshot<T, E: From<DbError>>(
        &self,
        deadline: Option<Instant>,
        work: impl AsyncFnOnce(&Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let conn = self.connection(deadline).await?;
        let tx = Tx::begin_snapshot(conn).await.map_err(DbError::Sql)?;
        let result = work(&tx).await;
        tx.end(result).await
    }

    /// Begins a transaction: READ COMMITTED, with a limit on waiting for locks.
    ///
    /// # Errors
    /// As [`Db::connection`] and [`Conn::query`].
    pub async fn begin(&self, deadline: Option<Instant>) -> Result<Tx, DbError> {
        Ok(Tx::begin(self.connection(deadline).await?).await?)
    }
}

/// When somebody who waits since `began` gives up, so that the caller hears why before the deadline.
fn answer_by(deadline: Option<Instant>, began: Instant) -> Option<Instant> {
    // Of a short time, only a small part is set aside.
    let left = deadline?.saturating_duration_since(began);
    Some(began + left.saturating_sub(DbOptions::ANSWER_MARGIN.min(left / 10)))
}
