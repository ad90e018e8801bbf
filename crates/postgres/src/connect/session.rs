//! `target_session_attrs`: whether a server is of the kind that is wanted.

use std::io;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::fail::io_error;
use super::{RawConnection, SessionAttrs};

/// Fails if the server isn't what is wanted.
pub(super) async fn check(
    wanted: SessionAttrs,
    client: &Client,
    connection: &mut RawConnection,
) -> Result<(), Error> {
    let (fits, unfit) = match wanted {
        SessionAttrs::Any | SessionAttrs::PreferStandby => return Ok(()),
        SessionAttrs::ReadWrite => (
            !is_read_only(client, connection).await?,
            "the server is read-only",
        ),
        SessionAttrs::ReadOnly => (
            is_read_only(client, connection).await?,
            "the server isn't read-only",
        ),
        SessionAttrs::Primary => (!is_standby(client, connection).await?, "the server is a standby"),
        SessionAttrs::Standby => (
            is_standby(client, connection).await?,
            "the server isn't a standby",
        ),
    };
    // An `Other`, so that it counts as something that waiting helps with: a failover may be going
    // on.
    if fits {
        Ok(())
    } else {
        Err(io_error(io::Error::other(unfit)).await)
    }
}

async fn is_standby(client: &Client, connection: &mut RawConnection) -> Result<bool, Error> {
    // PostgreSQL 14 and later say it at the start of a connection, poolers don't pass it on.
    match connection.parameter("in_hot_standby") {
        Some(reported) => Ok(reported == "on"),
        None => ask(client, connection, "SELECT pg_is_in_recovery()").await,
    }
}

async fn is_read_only(client: &Client, connection: &mut RawConnection) -> Result<bool, Error> {
    let reported = (
        connection.parameter("default_transaction_read_only"),
        connection.parameter("in_hot_standby"),
    );
    match reported {
        (Some(by_default), Some(standby)) => Ok(by_default == "on" || standby == "on"),
        _ => ask(client, connection, "SHOW transaction_read_only").await,
    }
}

/// The answer to a yes-or-no question. The connection is driven meanwhile, since no task does so
/// yet.
async fn ask(client: &Client, connection: &mut RawConnection, question: &str) -> Result<bool, Error> {
    let rows = tokio::select! {
        rows = client.simple_query(question) => rows?,
        ended = connection => {
            ended?;
            return Err(io_error(io::ErrorKind::UnexpectedEof.into()).await);
        }
    };
    Ok(rows
        .iter()
        .any(|row| matches!(row, SimpleQueryMessage::Row(row) if matches!(row.get(0), Some("t" | "on")))))
}
