//! A connection that is checked out of the pool: statements and transactions on it, and what becomes of those that are
//! abandoned.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::{FutureExt, StreamExt, future::join3};
use tokio::time::{self, Instant};
use tokio_postgres::{
    Row, RowStream,
    types::{ToSql, Type},
};

use super::{
    DbError, Sql, connect,
    db::{Db, Params},
    metrics::metrics,
};

/// A lock that somebody else holds is waited for this long in a transaction: long enough for any append,
/// short enough that a forgotten `BEGIN` somewhere doesn't use up the pool.
/// And where we are cut off in the middle, the server lets our locks go soon after the next statement should have come.
const BEGIN: &str =
    "BEGIN; SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// The beginning of a transaction that sees one snapshot, for statements over however many rows: each is planned for its parameters,
/// and not compiled, which takes longer than running it over few.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off";

/// The beginning of a transaction for statements whose plan should know their parameters. They aren't compiled: that is decided by the
/// rows that are expected, takes up to seconds, and is of use to none of them.
const PLAN_EACH: &str = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off";

/// A connection, checked out of the pool.
///
/// When it is dropped while a statement or a transaction is under way (the caller's deadline has passed, or
/// the caller is gone), the statement is cancelled and the connection closed ([`end_statement`]): the next user would wait
/// behind it. Behind a pooler the connection is only closed, and PgBouncer closes the server's: the driver doesn't wait for
/// an answer to its cancel requests, and PgBouncer 1.18 (Debian 12's) ends with a FATAL error when one's sender is gone too
/// early.
pub struct Conn {
    /// Taken only in `drop`.
    object: Option<Object>,
    db: Db,
    /// Whether it isn't fit for use any more.
    is_stale: AtomicBool,
    /// Whether a statement had no answer in time: nothing else is asked of it, a rollback neither.
    is_silent: AtomicBool,
    /// Statements whose result hasn't come, and transactions that haven't ended.
    unfinished: AtomicUsize,
}

impl Conn {
    pub(super) fn new(object: Object, db: Db) -> Self {
        Conn {
            object: Some(object),
            db,
            is_stale: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            unfinished: AtomicUsize::new(0),
        }
    }

    /// Runs a statement and reads all its rows.
    ///
    /// # Errors
    /// Whatever the database says, and a broken connection.
    pub async fn query(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        StatementTimer::time(sql, async {
            if self.db.is_pooled() {
                return self.query_typed(sql, params).await;
            }
            self.watched(async |client| {
                let statement = client.prepare_typed_cached(sql.text, sql.params).await?;
                client.query(&statement, params).await
            })
            .await
        })
        .await
    }

    /// Runs a statement whose rows are read as they come.
    pub(super) async fn stream(self, sql: &Sql, params: &Params<'_>) -> Result<Rows, DbError> {
        let begun = self.watched(async |client| {
            if self.db.is_pooled() {
                return client.query_typed_raw(sql.text, typed(sql, params)).await;
            }
            let statement = client.prepare_typed_cached(sql.text, sql.params).await?;
            client.query_raw(&statement, params.iter().copied()).await
        });
        // Until it has begun: how fast its rows are taken is up to the client.
        let streamed = StatementTimer::time(sql, begun).await;
        match streamed {
            Ok(rows) => {
                self.unfinished.fetch_add(1, Ordering::Relaxed);
                let rows = Box::pin(rows);
                Ok(Rows { conn: self, rows })
            }
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Without preparing it.
    async fn query_typed(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let typed = typed(sql, params);
        self.watched(async |client| client.query_typed(sql.text, &typed).await)
            .await
    }

    /// Planned for its parameters, in spite of `PLAN_ONCE`, which holds for statements without a name as well.
    pub(super) async fn query_planned(
        &self,
        sql: &Sql,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.db.is_pooled() {
            return StatementTimer::time(sql, self.query_typed(sql, params)).await;
        }
        let typed = typed(sql, params);
        let run = self.watched(async |client| {
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
        });
        StatementTimer::time(sql, run).await
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
        let limit = self.db.limit.unwrap_or(Duration::MAX);
        if self.is_silent.load(Ordering::Relaxed) {
            return Err(connect::timed_out(limit, "no answer").await);
        }
        let _attempt = self.db.attempt();
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        // Dropped here, the count stays above 0.
        let Ok(result) = time::timeout(limit, run(object)).await else {
            // The statement is still under way, and so the connection leaves the pool.
            self.is_silent.store(true, Ordering::Relaxed);
            self.db.lost();
            return Err(connect::timed_out(limit, "no answer").await);
        };
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = &result {
            if connect::is_unavailable(error) {
                self.db.lost();
            }
            if connect::is_stale(error) && was_used(object) {
                self.is_stale.store(true, Ordering::Relaxed);
                self.db.close_idle();
            }
        }
        result
    }

    /// What a failed statement's error means on this connection.
    pub(super) fn explain(&self, error: tokio_postgres::Error) -> DbError {
        if self.is_stale.load(Ordering::Relaxed) {
            DbError::Stale(error)
        } else {
            DbError::Sql(error)
        }
    }
}

/// The time of a statement, which is counted also where nobody waits for its end.
struct StatementTimer {
    name: &'static str,
    began: Instant,
    has_failed: bool,
}

impl StatementTimer {
    async fn time<T, E>(sql: &Sql, run: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut timer = StatementTimer {
            name: sql.name,
            began: Instant::now(),
            has_failed: true,
        };
        let result = run.await;
        timer.has_failed = result.is_err();
        result
    }
}

impl Drop for StatementTimer {
    fn drop(&mut self) {
        metrics().ran(self.name, self.began.elapsed(), self.has_failed);
    }
}

/// Whether somebody has used it before. What fails on a connection that has just been made will fail on the next.
fn was_used(object: &Object) -> bool {
    Object::metrics(object).recycle_count > 0
}

/// The parameters with their types.
fn typed<'a>(sql: &Sql, params: &Params<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().copied().zip(sql.params.iter().cloned()).collect()
}

impl Drop for Conn {
    fn drop(&mut self) {
        let is_unfinished = *self.unfinished.get_mut() > 0;
        if !is_unfinished && !*self.is_stale.get_mut() {
            return;
        }
        let Some(object) = self.object.take() else { return };
        let client = Object::take(object);
        if self.db.is_pooled() || !is_unfinished {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(end_statement(client, self.db.clone()));
        }
    }
}

/// How often a cancel request is sent, and how long its effect is waited for each time. One that comes too early (the
/// statement, with a large parameter, hasn't arrived yet) does nothing. Whatever is left then, the server ends by itself
/// when it sees that the connection is closed.
const CANCELS: usize = 5;
const CANCEL_PAUSE: Duration = Duration::from_secs(1);

/// Cancels what a connection is doing until it does nothing, and closes it. Not before: the server's process may be
/// another connection's then.
async fn end_statement(client: ClientWrapper, db: Db) {
    // Answered when all that was sent before has ended. An error is that of the connection, which has ended then.
    let mut idle = pin!(client.batch_execute(""));
    for cancels in 1..=CANCELS {
        match time::timeout(CANCEL_PAUSE, db.connector.cancel(client.cancel_token())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an abandoned statement could not be cancelled"),
            Err(_) => tracing::debug!("no answer to the cancelling of an abandoned statement"),
        }
        if time::timeout(CANCEL_PAUSE, &mut idle).await.is_ok() {
            return;
        }
        if cancels == 1 {
            // Mostly not the statement is slow, the connection is silent.
            db.lost();
        }
    }
}

/// The rows of a statement, which are read as they come: as long as nobody asks for more, PostgreSQL waits. Where they are
/// dropped before their end, the statement is cancelled and the connection closed.
pub struct Rows {
    conn: Conn,
    rows: Pin<Box<RowStream>>,
}

impl Rows {
    /// The next row; `None` at the end, when the connection can be given back.
    ///
    /// # Errors
    /// As [`Conn::query`].
    pub async fn next(&mut self) -> Result<Option<Row>, DbError> {
        let Rows { conn, rows } = self;
        let next = match rows.next().now_or_never() {
            Some(next) => next.transpose(),
            None => conn.watched(async |_| rows.next().await.transpose()).await,
        };
        if !matches!(next, Ok(Some(_))) && !conn.is_silent.load(Ordering::Relaxed) {
            conn.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
        next.map_err(|error| conn.explain(error))
    }
}

/// A transaction.
pub struct Tx {
    conn: Conn,
}

impl Tx {
    /// READ COMMITTED, with a limit on waiting for locks.
    pub(super) async fn begin(conn: Conn) -> Result<Tx, tokio_postgres::Error> {
        Self::begin_by(conn, BEGIN).await
    }

    /// REPEATABLE READ, likewise.
    pub(super) async fn begin_snapshot(conn: Conn) -> Result<Tx, tokio_postgres::Error> {
        Self::begin_by(conn, BEGIN_SNAPSHOT).await
    }

    async fn begin_by(conn: Conn, text: &str) -> Result<Tx, tokio_postgres::Error> {
        conn.batch(text).await?;
        conn.unfinished.fetch_add(1, Ordering::Relaxed);
        Ok(Tx { conn })
    }

    /// Runs a statement and reads all its rows.
    ///
    /// # Errors
    /// As [`Conn::query`].
    pub async fn query(&self, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>, DbError> {
        self.conn
            .query(sql, params)
            .await
            .map_err(|error| self.conn.explain(error))
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
