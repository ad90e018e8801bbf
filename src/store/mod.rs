//! The rows: one file a resource, with its SQL, the functions that run it and the rows they return.
//!
//! Every statement takes the caller's tenant as `$1` and, where rows belong to users, the caller's end user
//! as `$2` (NULL: the caller is a service and sees every user's), and filters by them. Appends are in
//! [`ledger`](crate::ledger).

mod analytics;
mod citation;
mod document;
mod error;
mod message;
mod profile;
mod removal;
mod search;
mod session;
mod user;
mod watch;

use std::sync::Arc;

use tokio_postgres::Row;

use crate::{
    auth::Caller,
    domain::{JsonMode, Limits, Result},
    migrations::Scope,
};
use chatledger_postgres::{Db, Sql, db::Params};

pub(crate) use error::{internal, is_refusal};
pub use watch::{Asked, LISTEN, News, PageSize};

/// Everything that is stored.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    limits: Arc<Limits>,
    scope: Scope,
    /// The text search configuration, such as `english`.
    search_config: Arc<str>,
}

impl Store {
    /// A store over a database that has the scope's schema.
    #[must_use]
    pub fn new(db: Db, limits: Arc<Limits>, scope: Scope, search_config: &str) -> Self {
        Store {
            db,
            limits,
            scope,
            search_config: Arc::from(search_config),
        }
    }

    /// The same over other connections.
    #[must_use]
    pub fn over(&self, db: Db) -> Self {
        Store { db, ..self.clone() }
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    async fn read(&self, caller: &Caller, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>> {
        Ok(self.db.read(caller.deadline, sql, params).await?)
    }

    /// For statements whose filters decide how the rows are best found.
    async fn read_planned(&self, caller: &Caller, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>> {
        Ok(self.db.read_planned(caller.deadline, sql, params).await?)
    }

    async fn write(&self, caller: &Caller, sql: &Sql, params: &Params<'_>) -> Result<Vec<Row>> {
        Ok(self.db.write(caller.deadline, sql, params).await?)
    }
}

/// Every statement of the store, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    [
        user::ALL,
        profile::ALL,
        session::ALL,
        message::ALL,
        search::ALL,
        citation::ALL,
        document::ALL,
        removal::ALL,
        analytics::ALL,
        watch::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// SQL for a JSONB column after an update: `$value` (text or NULL, which keeps it), and whether to replace.
macro_rules! merged_json {
    ($column:literal, $value:literal, $replace:literal) => {
        concat!(
            "CASE WHEN ",
            $value,
            "::text IS NULL THEN ",
            $column,
            " WHEN ",
            $replace,
            "::boolean THEN ",
            $value,
            "::jsonb",
            " ELSE (",
            $column,
            " || ",
            $value,
            "::jsonb) - ARRAY(",
            "SELECT key FROM jsonb_each(",
            $value,
            "::jsonb) WHERE value = 'null') END"
        )
    };
}
pub(crate) use merged_json;

/// The flag that [`merged_json`] takes.
fn replaces(mode: JsonMode) -> bool {
    mode == JsonMode::Replace
}

/// The first row, where a statement answers one or none.
fn first(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}
