//! What the database's errors mean. A constraint is mapped to a domain error by its name.

use std::fmt::Display;

use tokio_postgres::error::SqlState;

use crate::{
    domain::{Error, Resource},
    postgres::{
        DbError,
        connect::{self, describe},
    },
};

impl From<DbError> for Error {
    fn from(error: DbError) -> Error {
        match error {
            DbError::Busy => Error::Overloaded("all database connections are in use"),
            DbError::Unavailable(_) => Error::DatabaseUnavailable,
            DbError::Sql(error) => from_sql(&error),
        }
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
    match error.code() {
        // The locks were held by others for longer than we wait, or again and again.
        Some(
            &SqlState::LOCK_NOT_AVAILABLE
            | &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::T_R_SERIALIZATION_FAILURE,
        ) => Error::Overloaded("another writer holds what this request needs"),
        // A primary that became a standby, as in a fail-over.
        Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
            tracing::warn!("the database is read-only");
            Error::DatabaseUnavailable
        }
        _ => internal(describe(error)),
    }
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
        _ => return None,
    })
}

/// An error that the caller can do nothing about: told to the log, not to the caller.
pub(crate) fn internal(what: impl Display) -> Error {
    tracing::error!(error = %what, "internal error");
    Error::Internal
}
