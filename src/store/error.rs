//! What the database's errors mean. A constraint is mapped to a domain error by its name.

use std::fmt::Display;

use tokio_postgres::error::SqlState;

use crate::domain::{Error, Resource, Shortage};
use chatledger_postgres::{
    DbError,
    connect::{self, describe},
};

impl From<DbError> for Error {
    fn from(error: DbError) -> Error {
        match error {
            DbError::Busy => Error::Overloaded(Shortage::Pool),
            DbError::Unavailable(_) | DbError::Full => Error::DatabaseUnavailable,
            DbError::Sql(error) => from_sql(&error),
            DbError::Stale(error) => {
                tracing::warn!(
                    error = describe(&error),
                    "a connection to the database was no longer what it had been"
                );
                Error::DatabaseUnavailable
            }
        }
    }
}

/// A row that isn't as its statement says: the test of all statements should have found that.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        from_sql(&error)
    }
}

fn from_sql(error: &tokio_postgres::Error) -> Error {
    if connect::is_unavailable(error) {
        tracing::warn!(error = describe(error), "lost the database");
        return Error::DatabaseUnavailable;
    }
    let constraint = error.as_db_error().and_then(|error| error.constraint());
    if let Some(known) = constraint.and_then(constraint_error) {
        return known;
    }
    let Some(code) = error.code() else {
        return internal(describe(error));
    };
    match *code {
        // The locks were held by others for longer than we wait, or again and again.
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE => {
            return Error::Overloaded(Shortage::Locks);
        }
        // A primary that became a standby, as in a fail-over.
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            tracing::warn!("the database is read-only");
            return Error::DatabaseUnavailable;
        }
        _ => {}
    }
    if is_exhausted(code) {
        tracing::warn!(
            error = describe(error),
            "the database can't do more at the moment"
        );
        return Error::DatabaseUnavailable;
    }
    if is_refusal(code) {
        // Not its text: a trigger may quote the row.
        tracing::warn!(
            code = code.code(),
            constraint,
            "a trigger or constraint refused a row"
        );
        return Error::DatabaseRefused {
            constraint: constraint.map(str::to_owned),
        };
    }
    internal(describe(error))
}

/// Whether the database lacks something that will be there again: room on its disk, memory or connections (53), time (57:
/// an administrator, or a `statement_timeout` of theirs, has ended the statement), or what the system around it does (58:
/// an I/O error).
fn is_exhausted(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("53" | "57" | "58"))
}

/// Whether somebody's own trigger or constraint doesn't want the row: a RAISE (class P0), a constraint of
/// class 23 that isn't one of ours, or a privilege that a trigger lacks.
pub(crate) fn is_refusal(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("P0" | "23")) || *code == SqlState::INSUFFICIENT_PRIVILEGE
}

fn constraint_error(name: &str) -> Option<Error> {
    Some(match name {
        "users_email_key" => Error::EmailTaken,
        "users_external_id_key" => Error::ExternalIdTaken,
        "users_pkey" | "users_tenant_id_key" => Error::IdTaken(Resource::User),
        "chat_sessions_pkey" => Error::IdTaken(Resource::Session),
        "chat_sessions_user_fkey" | "user_profiles_user_fkey" => Error::NotFound(Resource::User),
        "messages_session_fkey" => Error::NotFound(Resource::Session),
        "message_citations_message_fkey" => Error::NotFound(Resource::Message),
        // The append path has run the batch again and again.
        "messages_pkey" | "messages_session_seq_key" => Error::Overloaded(Shortage::Locks),
        _ => return None,
    })
}

/// An error that the caller can do nothing about: told to the log, not to the caller.
pub(crate) fn internal(what: impl Display) -> Error {
    tracing::error!(error = %what, "internal error");
    Error::Internal
}
