//! Which errors mean that the database is away, which may be gone at the next try, and what the log says of
//! them.

use std::error::Error as _;
use std::io::{self, ErrorKind};

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// Whether the database can't be reached, is starting, stopping or out of connections, or the
/// connection broke: that is, the request wasn't at fault. A statement that was under way may or
/// may not have taken effect.
///
/// SQLSTATEs are those of "PostgreSQL Error Codes" in the manual; of PgBouncer, Neon's proxy
/// and Supabase's pooler, which have few codes of their own, the messages are looked at.
#[must_use]
pub fn is_unavailable(error: &Error) -> bool {
    if error.is_closed() {
        return true;
    }
    let Some(source) = error.source() else {
        return false;
    };
    if let Some(refusal) = source.downcast_ref::<DbError>() {
        return is_outage(refusal);
    }
    // Also what broke inside of TLS; a certificate that wasn't accepted is `InvalidData`, and so is
    // what isn't PostgreSQL.
    source.downcast_ref::<io::Error>().is_some_and(|error| {
        !matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Unsupported
        )
    })
}

/// Whether a connection is no longer what it was when its statements were prepared: the server has become read-only
/// (a fail-over), a plan no longer fits its table, a statement is no longer there (a pooler, `DEALLOCATE`), or our tables
/// aren't (another `search_path`). The statement did nothing, and on a new connection it may do.
pub(crate) fn is_stale(error: &Error) -> bool {
    let Some(refusal) = error.as_db_error() else {
        return false;
    };
    let code = refusal.code();
    let of_connection = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::INVALID_SQL_STATEMENT_NAME,
    ];
    let of_schema = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    of_connection.contains(code)
        // What a function or a trigger doesn't find, it won't find on another connection either.
        || (of_schema.contains(code) && refusal.where_().is_none())
        // "cached plan must not change result type", in whatever language the server speaks.
        || (*code == SqlState::FEATURE_NOT_SUPPORTED && refusal.routine() == Some("RevalidateCachedQuery"))
}

/// Whether it makes sense to try to connect again. Not with a wrong password, for a database that
/// doesn't exist, with a certificate that isn't trusted, or for a socket that one isn't allowed to
/// open. A name that DNS doesn't know may be one that isn't known yet.
#[must_use]
pub fn may_succeed_later(error: &Error) -> bool {
    let not_allowed = |source: &(dyn std::error::Error + 'static)| {
        source
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    is_unavailable(error) && !error.source().is_some_and(not_allowed)
}

/// An error with its causes, for the log. A statement's parameters are never part of it, nor is Postgres'
/// DETAIL, which quotes rows.
#[must_use]
pub fn describe(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn is_outage(refusal: &DbError) -> bool {
    let code = refusal.code();
    let went_away = [
        SqlState::TOO_MANY_CONNECTIONS,
        // The server ended a transaction that nothing came for (we were stopped for a while), or that lasted too long.
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::from_code("25P04"),
    ];
    went_away.contains(code)
        // The server starts, stops or has crashed; or it ended the connection.
        || code.code().starts_with("57P")
        || (code.code().starts_with("08") && !is_refused_by_pooler(refusal.message()))
        || (*code == SqlState::INTERNAL_ERROR && is_proxy_outage(refusal.message()))
}

/// PgBouncer answers nearly everything with 08P01: "server login has been failing"
/// (`server_login_retry`), `query_wait_timeout`, "no more connections allowed", "server conn
/// crashed?", but also these, which another try doesn't change (`disconnect_client` in its sources;
/// newer versions have 28P01 and 3D000 for some).
fn is_refused_by_pooler(message: &str) -> bool {
    const FINAL: [&str; 9] = [
        "authentication failed",
        "auth failed",
        "no such user",
        "no such database",
        "does not exist",
        "is disabled",
        "unsupported startup parameter",
        "not allowed",
        "ssl required",
    ];
    // "no more connections allowed" isn't "not allowed".
    contains_one(message, &FINAL)
}

/// Neon's proxy (`proxy/src/control_plane/errors.rs` in its sources, and
/// <https://neon.com/docs/connect/connection-errors>) while it wakes a compute, and Supabase's
/// pooler, answer XX000. Quotas that are used up, and endpoints that are disabled or don't exist,
/// come with the same code and stay.
fn is_proxy_outage(message: &str) -> bool {
    const PASSING: [&str; 8] = [
        "couldn't connect to compute node",
        "control plane request failed",
        "failed to acquire permit",
        "too many connections attempts",
        "endpoint is temporarily unavailable",
        "max clients reached",
        "max client connections reached",
        "check out",
    ];
    const FINAL: [&str; 2] = ["endpoint is disabled", "endpoint cannot be found"];
    contains_one(message, &PASSING) && !contains_one(message, &FINAL)
}

fn contains_one(message: &str, parts: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    parts.iter().any(|part| message.contains(part))
}

/// Whether the database answered that it has no connection left.
pub(crate) fn is_full(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::io_error;

    #[test]
    fn poolers_are_told_apart_by_their_messages() {
        assert!(!is_refused_by_pooler(
            "server login has been failing, try again later (server_login_retry)"
        ));
        assert!(!is_refused_by_pooler(
            "no more connections allowed (max_client_conn)"
        ));
        assert!(!is_refused_by_pooler("query_wait_timeout"));
        assert!(is_refused_by_pooler("no such database: chat"));
        assert!(is_refused_by_pooler("Unsupported startup parameter: options"));
        assert!(is_refused_by_pooler(
            "server login has been failing, cached error: password authentication failed"
        ));
        assert!(is_proxy_outage("Couldn't connect to compute node"));
        assert!(is_proxy_outage("Control plane request failed"));
        assert!(!is_proxy_outage(
            "Control plane request failed: endpoint is disabled"
        ));
        assert!(!is_proxy_outage("Tenant or user not found"));
    }

    #[tokio::test]
    async fn transport_errors_are_outages_and_wrong_data_is_not() {
        let cases = [
            (ErrorKind::ConnectionRefused, true, true),
            (ErrorKind::TimedOut, true, true),
            (ErrorKind::UnexpectedEof, true, true),
            (ErrorKind::NotFound, true, true),
            (ErrorKind::PermissionDenied, true, false),
            (ErrorKind::InvalidData, false, false),
        ];
        for (kind, unavailable, later) in cases {
            let error = io_error(kind.into()).await;
            assert_eq!(
                (is_unavailable(&error), may_succeed_later(&error)),
                (unavailable, later),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_mistake_in_the_configuration_is_no_outage() {
        let error = "nonsense".parse::<tokio_postgres::Config>().unwrap_err();
        assert!(!is_unavailable(&error));
    }
}
