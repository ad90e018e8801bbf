//! The statements: text with parameters by name, in `store/sql` and `ledger/sql`, of which the build makes a struct each
//! ([`chatledger_statements`](../chatledger_statements/index.html) tells how they are written).
//!
//! Each says what is done by it ([`Action`]) and what it binds of its caller ([`Binding`]). [`Store`](crate::store::Store)
//! runs them for a caller, and nothing else does, but for the few that serve several callers at once.

use std::pin::{Pin, pin};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::auth::{Action, Caller};
use crate::store::RegConfig;
use crate::telemetry::StatementSpan;
use chatledger_postgres::{Db, DbError, Sql, Time};

/// A statement with the values of its parameters, but for those of its caller.
pub trait Statement {
    /// What each of its rows is taken as.
    type Row: TakeRow;
    /// What is known of it without its values.
    const DESCRIPTION: &'static Description;
    /// All values, in the order of their places.
    fn params<'p>(&'p self, viewer: &'p Viewer<'p>) -> Vec<&'p (dyn ToSql + Sync)>;
}

/// A statement that binds nothing of its caller, and so can be run without one.
pub trait CallerFree: Statement {}

/// What a statement is, without its values.
#[derive(Debug)]
pub struct Description {
    /// The text, the types of its parameters, and the name: the file and the name in it, such as `session.Get`.
    pub sql: Sql,
    /// The columns of its rows.
    pub columns: &'static [(&'static str, Type)],
    /// How it is run.
    pub mode: Mode,
    /// What is done by it, which not everybody may do.
    pub action: Action,
    /// What it binds of its caller.
    pub binding: Binding,
}

impl Description {
    /// Follows a run of the statement. The event and the span by which it can be followed have the name, and no values. The run
    /// is pinned by its caller: as an argument it would take its room twice.
    pub(crate) async fn follow<T>(
        &'static self,
        run: Pin<&mut impl Future<Output = Result<T, DbError>>>,
    ) -> Result<T, DbError> {
        tracing::trace!(statement = self.sql.name, "runs");
        let span = StatementSpan::begin(self.sql.name);
        let result = run.await;
        if let Some(span) = span {
            span.end(result.as_ref().err());
        }
        result
    }
}

/// How a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It only reads, and is run again where the connection turns out to be broken.
    Read,
    /// The same, with a plan for its parameters: its filters decide how the rows are best found.
    ReadPlanned,
    /// It writes, and is run once.
    Write,
}

/// What a statement binds of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Tenant and end user: it sees an end user's own rows only.
    EndUser,
    /// Only the tenant, for this reason.
    Tenant(&'static str),
    /// Neither, for this reason.
    Nothing(&'static str),
}

/// Whose rows a statement is run for.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The end user, where the caller is one.
    pub end_user: Option<Uuid>,
}

impl Viewer<'_> {
    /// The viewer of a statement that doesn't look at it.
    pub const NOBODY: Viewer<'static> = Viewer {
        tenant: "",
        end_user: None,
    };
}

impl<'a> From<&'a Caller> for Viewer<'a> {
    fn from(caller: &'a Caller) -> Self {
        Viewer {
            tenant: &caller.tenant,
            end_user: caller.end_user,
        }
    }
}

/// What a row is taken as: it is read at once ([`FromRow`]), or kept to be read from.
pub trait TakeRow: Sized {
    /// Takes the row.
    fn take(row: Row) -> Result<Self, tokio_postgres::Error>;
}

impl<R: FromRow> TakeRow for R {
    fn take(row: Row) -> Result<Self, tokio_postgres::Error> {
        R::read(&row, 0)
    }
}

/// What is read of a row, or of a part of its columns.
pub trait FromRow: Sized {
    /// Reads the columns from the place `first` on.
    fn read(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error>;
}

/// A row of which nobody wants to know more than that it is there.
impl FromRow for () {
    fn read(_: &Row, _: usize) -> Result<Self, tokio_postgres::Error> {
        Ok(())
    }
}

macro_rules! one_column {
    ($($of:ty),*) => { $(
        impl FromRow for $of {
            fn read(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {
                row.try_get(first)
            }
        }
    )* };
}
one_column!(Uuid, String, bool, i32, i64, u32);

/// Columns that are absent where the first is null, as an outer join makes them.
fn read_optional<R: FromRow>(row: &Row, first: usize) -> Result<Option<R>, tokio_postgres::Error> {
    match row.try_get::<_, Option<IsThere>>(first)? {
        Some(IsThere) => R::read(row, first).map(Some),
        None => Ok(None),
    }
}

/// A value of any type, which is not looked at.
struct IsThere;

impl<'a> tokio_postgres::types::FromSql<'a> for IsThere {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IsThere)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The rows of a statement, read one by one, so that what a row takes is given back as soon as it is read.
pub(crate) fn read_all<S: Statement>(_: &S, rows: Vec<Row>) -> Result<Vec<S::Row>, tokio_postgres::Error> {
    rows.into_iter().map(S::Row::take).collect()
}

/// Runs a statement for a viewer, in the way that it says, on whichever connection is free.
///
/// # Errors
/// As [`Db::read`] and [`Db::write`].
pub async fn run<S: Statement>(
    db: &Db,
    deadline: Option<Instant>,
    viewer: &Viewer<'_>,
    statement: &S,
) -> Result<Vec<S::Row>, DbError> {
    let params = statement.params(viewer);
    let sql = &S::DESCRIPTION.sql;
    let run = pin!(async {
        match S::DESCRIPTION.mode {
            Mode::Read => db.read(deadline, sql, &params).await,
            Mode::ReadPlanned => db.read_planned(deadline, sql, &params).await,
            Mode::Write => db.write(deadline, sql, &params).await,
        }
    });
    let rows = S::DESCRIPTION.follow(run).await?;
    Ok(read_all(statement, rows)?)
}

include!(concat!(env!("OUT_DIR"), "/statements.rs"));

/// Every statement of the service, for the tests that look at them all.
pub fn all() -> impl Iterator<Item = &'static Description> {
    ALL.iter().copied()
}
