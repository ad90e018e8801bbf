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
    statements::{self, Binding, CallerFree, Description, FromRow, Mode, Statement, Viewer},
};
use chatledger_postgres::{Db, DbError, Sql};

include!(concat!(env!("OUT_DIR"), "/statements.rs"));

/// Runs a statement for an import's caller, with all the time that it takes.
pub(crate) async fn run<S: Statement>(
    db: &Db,
    caller: &Caller,
    statement: &S,
) -> Result<Vec<S::Row>, DbError> {
    statements::run(db, None, &Viewer::from(caller), statement).await
}
