//! A connection of a command's own, and what its errors say.

use std::time::Duration;

use anyhow::Context;
use backon::Retryable;
use tokio::time::{self, Instant};
use tokio_postgres::Client;

use chatledger_postgres::connect::{self, Connector, describe};

/// The oldest PostgreSQL whose SQL the migrations and the statements are written in, as `server_version_num` has it.
const OLDEST: u32 = 140_000;

pub(crate) fn check_version(number: u32) -> anyhow::Result<()> {
    anyhow::ensure!(
        number >= OLDEST,
        "PostgreSQL {}.{} is too old: 14 or newer is needed; nothing was changed",
        number / 10_000,
        number % 10_000
    );
    Ok(())
}

/// How long an attempt to connect that began in time may take when the time is over: enough for TLS to the
/// other side of the world.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// A connection is tried again for as long as `patience` lasts.
pub(crate) async fn connect(connector: &Connector, patience: Duration) -> anyhow::Result<Client> {
    let end = Instant::now() + patience;
    let mut reason = "no answer".to_owned();
    let attempts = (|| connector.connect())
        .retry(connect::pauses())
        .sleep(move |pause| time::sleep_until(end.min(Instant::now() + pause)))
        .when(|error| connect::may_succeed_later(error) && Instant::now() < end)
        .notify(|error, _| reason = describe(error));
    match time::timeout_at(end + LAST_ATTEMPT, attempts).await {
        Ok(Ok((client, _))) => return Ok(client),
        Ok(Err(error)) => reason = describe(&error),
        Err(_) => {}
    }
    anyhow::bail!("can't connect: {reason}")
}

/// A database's error with its causes: its own `Display` leaves them out.
pub(crate) fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!(describe(&error))
}

/// The first column of the first row, where a statement answers one.
pub(crate) async fn text_of(client: &Client, sql: &str) -> anyhow::Result<String> {
    let rows = client.query_typed(sql, &[]).await.map_err(explain)?;
    rows.first()
        .map(|row| row.get(0))
        .context("the database answered nothing")
}

#[cfg(test)]
mod tests {
    #[test]
    fn postgresql_13_is_too_old() {
        for number in [0, 90_624, 130_023] {
            assert!(super::check_version(number).is_err(), "{number}");
        }
        for number in [140_000, 150_018, 180_001] {
            assert!(super::check_version(number).is_ok(), "{number}");
        }
    }
}
