//! The driver runs a migration in a transaction that waits for locks only briefly, and again and again.

use std::{collections::BTreeSet, fmt, future::Future, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_postgres::{
    Client,
    error::{ErrorPosition, SqlState},
};

use crate::{
    observer::{Observer, TableLock},
    privileges::{REMEMBER, REVOKE},
    progress::{MigrationEvent, MigrationListener},
    script::line_of,
};
use chatledger_postgres::connect::describe;

/// The way that migrations wait for locks. Whoever comes after a waiting ALTER TABLE waits behind it, readers too; so a
/// migration waits briefly, makes way, and comes again.
#[derive(Clone, Debug)]
pub struct LockPolicy {
    /// The longest wait for one lock.
    pub timeout: Duration,
    /// The number of times that a migration comes again.
    pub retries: usize,
}

impl Default for LockPolicy {
    fn default() -> Self {
        LockPolicy {
            // Other clients are held up for no longer at a time.
            timeout: Duration::from_secs(1),
            // All attempts, with the pauses between, take two or three minutes: longer than transactions of a service
            // last.
            retries: 30,
        }
    }
}

impl LockPolicy {
    /// The pauses grow from the first to the last, so that long transactions are outlived.
    fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .with_max_times(self.retries)
    }

    /// The limit as PostgreSQL reads it.
    pub(super) fn setting(&self) -> String {
        format!("{}ms", self.timeout.as_millis().max(1))
    }
}

/// The reason why a migration failed, in one line, with the line of the file where that is known.
#[derive(Clone, Debug)]
pub(crate) struct MigrationFailure {
    message: String,
    is_lock: bool,
}

impl fmt::Display for MigrationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MigrationFailure {}

impl MigrationFailure {
    /// `text` is what was run; `first_line` the file's line where it begins; `table_exists` what is said of a table
    /// that is there already.
    pub(super) fn new(
        error: &tokio_postgres::Error,
        text: &str,
        first_line: usize,
        table_exists: Option<&str>,
    ) -> MigrationFailure {
        let mut message = describe(error);
        if let Some(db) = error.as_db_error() {
            if let Some(ErrorPosition::Original(position)) = db.position() {
                let at = usize::try_from(*position).unwrap_or(1).saturating_sub(1);
                let offset = text
                    .char_indices()
                    .nth(at)
                    .map_or(text.len(), |(offset, _)| offset);
                message = format!("line {}: {message}", line_of(text, offset) + first_line - 1);
            }
            if let Some(what) = table_exists
                && error.code() == Some(&SqlState::DUPLICATE_TABLE)
            {
                message = format!("{message}; {what}");
            }
            if let Some(hint) = db.hint() {
                message = format!("{message}; hint: {hint}");
            }
        }
        MigrationFailure {
            message: message.replace('\n', " "),
            is_lock: matches!(
                error.code(),
                Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED)
            ),
        }
    }

    /// A failure that we found out ourselves.
    pub(super) fn because(message: String) -> MigrationFailure {
        MigrationFailure {
            message,
            is_lock: false,
        }
    }

    /// A failure that another attempt may not meet.
    pub(super) fn try_again(mut self) -> MigrationFailure {
        self.is_lock = true;
        self
    }

    pub(crate) fn of(error: tokio_postgres::Error) -> MigrationFailure {
        MigrationFailure::new(&error, "", 1, None)
    }
}

/// The connection that refinery runs migrations by.
pub(crate) struct Driver<'a> {
    pub(super) client: &'a Client,
    pub(super) locks: &'a LockPolicy,
    pub(super) listener: &'a MigrationListener,
    /// Sees what the client is doing, from another connection; needed without a transaction, and for rehearsals.
    pub(super) watch: Option<&'a Observer>,
    table_exists: &'static str,
    /// Whether what default privileges give of new tables is taken back: not of a team's own.
    revokes: bool,
    /// The failure of the last migration: refinery's own errors say less.
    pub failure: Option<MigrationFailure>,
    /// The locks that were seen, on relations that others can see.
    pub seen: BTreeSet<TableLock>,
}

impl<'a> Driver<'a> {
    /// A driver over a connection that does nothing else meanwhile.
    pub(crate) fn new(
        client: &'a Client,
        locks: &'a LockPolicy,
        listener: &'a MigrationListener,
        watch: Option<&'a Observer>,
        table_exists: &'static str,
        revokes: bool,
    ) -> Self {
        Driver {
            client,
            locks,
            listener,
            watch,
            table_exists,
            revokes,
            failure: None,
            seen: BTreeSet::new(),
        }
    }

    /// The failure of one of the migration's texts.
    pub(crate) fn failure_of(
        &self,
        error: &tokio_postgres::Error,
        text: &str,
        first_line: usize,
    ) -> MigrationFailure {
        MigrationFailure::new(error, text, first_line, Some(self.table_exists))
    }

    /// Runs some texts in one transaction.
    pub(crate) async fn run_in_transaction(&mut self, texts: &[&str]) -> Result<(), MigrationFailure> {
        let (driver, listener) = (&*self, self.listener);
        let seen = retried(driver.locks, listener, || {
            Box::pin(driver.try_in_transaction(texts))
        })
        .await?;
        self.seen.extend(seen);
        Ok(())
    }

    async fn try_in_transaction(&self, texts: &[&str]) -> Result<BTreeSet<TableLock>, MigrationFailure> {
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = '{}'; SET LOCAL statement_timeout = 0",
            self.locks.setting()
        );
        self.client
            .batch_execute(&begin)
            .await
            .map_err(MigrationFailure::of)?;
        let work = async {
            let (before, after) = if self.revokes {
                ([REMEMBER].as_slice(), [REVOKE].as_slice())
            } else {
                ([].as_slice(), [].as_slice())
            };
            for text in before.iter().chain(texts).chain(after) {
                let run = self.client.batch_execute(text);
                run.await.map_err(|error| self.failure_of(&error, text, 1))?;
            }
            Ok(match self.watch {
                Some(watch) => watch.locks().await,
                None => BTreeSet::new(),
            })
        };
        match ticking(work, self.listener, None).await {
            Ok(seen) => {
                self.client
                    .batch_execute("COMMIT")
                    .await
                    .map_err(MigrationFailure::of)?;
                Ok(seen)
            }
            Err(failure) => {
                // A failure of the ROLLBACK would hide the first one, and the connection is no good any more then.
                let _ = self.client.batch_execute("ROLLBACK").await;
                Err(failure)
            }
        }
    }
}

/// Runs `attempt`, and again where it couldn't get a lock.
pub(super) async fn retried<'a, T>(
    policy: &LockPolicy,
    listener: &MigrationListener,
    attempt: impl FnMut() -> BoxFuture<'a, Result<T, MigrationFailure>> + Send,
) -> Result<T, MigrationFailure> {
    let mut count = 0;
    let result = attempt
        .retry(policy.pauses())
        .when(|failure: &MigrationFailure| failure.is_lock)
        .notify(|failure, pause| {
            count += 1;
            listener(&MigrationEvent::Retrying {
                reason: failure.message.clone(),
                pause,
            });
        })
        .await;
    result.map_err(|mut failure| {
        if failure.is_lock {
            failure.message = format!(
                "{}: others held a lock that it needs, at each of {} attempts; try again when no long transaction \
                 runs, or with a longer --lock-timeout",
                failure.message,
                count + 1
            );
        }
        failure
    })
}

/// The time between two words to the listener that something is still going on.
const TICK: Duration = Duration::from_secs(1);

/// Runs something, and tells the listener now and then that it goes on, and how far it is.
pub(super) async fn ticking<T>(
    work: impl Future<Output = T>,
    listener: &MigrationListener,
    watch: Option<&Observer>,
) -> T {
    let began = Instant::now();
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(TICK, &mut work).await {
            Ok(result) => return result,
            Err(_) => {
                let detail = match watch {
                    Some(watch) => watch.progress().await,
                    None => None,
                };
                let elapsed = began.elapsed();
                listener(&MigrationEvent::Running { elapsed, detail });
            }
        }
    }
}
