//! The statements of imports, of which the build makes a struct each, as of the service's own
//! ([`chatledger::statements`]).

use jiff::Timestamp;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use chatledger::{
    auth::{Action, Caller},
    statements::{Binding, CallerFree, Description, FromRow, Mode, Statement, Viewer, read_all},
};
use chatledger_postgres::{Db, DbError, Sql};

include!(concat!(env!("OUT_DIR"), "/statements.rs"));

/// Runs a statement for an import's caller, with all the time that it takes.
pub(crate) async fn run<S: Statement>(
    db: &Db,
    caller: &Caller,
    statement: &S,
) -> Result<Vec<S::Row>, DbError> {
    let viewer = Viewer::from(caller);
    let params = statement.params(&viewer);
    let sql = S::DESCRIPTION.begin();
    let rows = match S::DESCRIPTION.mode {
        Mode::Read | Mode::ReadPlanned => db.read(None, sql, &params).await?,
        Mode::Write => db.write(None, sql, &params).await?,
    };
    Ok(read_all(statement, rows)?)
}
