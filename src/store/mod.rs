//! The rows: one file a resource, with the functions that run its statements (`sql/`) and make domain types of their rows.
//!
//! Rows can be reached through a [`Caller`] only: [`Store::run`] binds the tenant and the end user of whoever calls, and
//! refuses what an end user may not do. Appends are in [`ledger`](crate::ledger).

mod access;
mod analytics;
mod audit;
mod citation;
mod database;
mod document;
mod error;
mod gate;
mod history;
mod message;
mod profile;
mod removal;
mod reports;
mod search;
mod session;
mod usage;
mod user;
mod watch;

use std::{pin::pin, sync::Arc};

use crate::{
    auth::Caller,
    domain::{Error, JsonMode, Limits, Result},
    fair::Holder,
    migrations::Scope,
    statements::{self, CallerFree, Mode, Statement, Viewer, read_all},
};
use chatledger_postgres::{Db, DbError, Tx};
use gate::Gate;

pub use access::KnownKey;
pub(crate) use error::{internal, is_refusal};
pub use history::{History, MessagePage, StoredRows};
pub use removal::UserContents;
pub use reports::{FoldRequest, Folded, KeptRows};
pub(crate) use search::RegConfig;
pub use watch::{LISTEN, News, NewsRequest, PageSize};

/// Everything that is stored.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    gate: Gate,
    limits: Arc<Limits>,
    scope: Scope,
    /// The text search configuration, such as `english`.
    search_config: Arc<str>,
    /// What there is to do for the reports that are kept.
    folding: Arc<reports::FoldingWork>,
}

impl Store {
    /// A store over a database that has the scope's schema.
    #[must_use]
    pub fn new(db: Db, limits: Arc<Limits>, scope: Scope, search_config: &str) -> Self {
        Store {
            gate: Gate::new(&db),
            db,
            limits,
            scope,
            search_config: Arc::from(search_config),
            folding: Arc::default(),
        }
    }

    /// The same over other connections.
    #[must_use]
    pub fn over(&self, db: Db) -> Self {
        Store {
            gate: Gate::new(&db),
            db,
            ..self.clone()
        }
    }

    /// The same, for work that no caller's deadline ends.
    #[must_use]
    pub fn limited(&self) -> Self {
        Store {
            db: self.db.limited(),
            ..self.clone()
        }
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Runs a statement for a caller.
    async fn run<S: Statement>(&self, caller: &Caller, statement: &S) -> Result<Vec<S::Row>> {
        self.run_or(caller, statement, Error::from).await
    }

    /// The first row of a statement, where it answers one or none.
    async fn first<S: Statement>(&self, caller: &Caller, statement: &S) -> Result<Option<S::Row>> {
        Ok(self.run(caller, statement).await?.into_iter().next())
    }

    /// Runs a statement for a caller, where its failures have a meaning of their own.
    async fn run_or<S: Statement>(
        &self,
        caller: &Caller,
        statement: &S,
        failed: impl FnOnce(DbError) -> Error,
    ) -> Result<Vec<S::Row>> {
        caller.permit(S::DESCRIPTION.action)?;
        let run = async {
            let _passage = self.gate.pass(&self.db, caller, S::DESCRIPTION.mode).await?;
            statements::run(&self.db, caller.deadline, &Viewer::from(caller), statement).await
        };
        run.await.map_err(failed)
    }

    /// Runs a statement of the server's own work, which binds nobody.
    async fn run_for_nobody<S: CallerFree>(&self, statement: &S) -> Result<Vec<S::Row>> {
        let (holder, mode) = (Holder::default(), S::DESCRIPTION.mode);
        let _passage = self.gate.pass_as(&self.db, holder, None, mode).await?;
        Ok(statements::run(&self.db, None, &Viewer::NOBODY, statement).await?)
    }

    /// Does some work in a transaction for a caller; it is committed if the work succeeds.
    async fn transaction<T>(
        &self,
        caller: &Caller,
        work: impl AsyncFnOnce(&CallerTransaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let _passage = self.gate.pass(&self.db, caller, Mode::Write).await?;
        self.db
            .transaction(caller.deadline, async |tx| {
                work(&CallerTransaction { tx, caller }).await
            })
            .await
    }
}

/// A transaction in which statements are run for its caller.
struct CallerTransaction<'a> {
    tx: &'a Tx,
    caller: &'a Caller,
}

impl CallerTransaction<'_> {
    /// Runs a statement.
    async fn run<S: Statement>(&self, statement: &S) -> Result<Vec<S::Row>> {
        self.caller.permit(S::DESCRIPTION.action)?;
        let viewer = Viewer::from(self.caller);
        let params = statement.params(&viewer);
        let run = pin!(self.tx.query(&S::DESCRIPTION.sql, &params));
        let rows = S::DESCRIPTION.follow(run).await?;
        Ok(read_all(statement, rows)?)
    }

    /// The first row of a statement, where it answers one or none.
    async fn first<S: Statement>(&self, statement: &S) -> Result<Option<S::Row>> {
        Ok(self.run(statement).await?.into_iter().next())
    }
}

/// The flag of a statement that merges or replaces JSON.
fn replaces(mode: JsonMode) -> bool {
    mode == JsonMode::Replace
}

/// A number of rows or bytes as SQL has it.
fn sql_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A number of rows that SQL has counted.
fn row_count(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
