//! The lock that lets one at a time migrate, however many servers boot.
//!
//! It is an advisory lock of a transaction, on a connection of its own: a session's lock would leak through a
//! pooler. It is polled: a lock that waits holds a snapshot, and CREATE INDEX CONCURRENTLY waits for those. For the
//! same reason each look is a transaction of its own: were the snapshot of a look met by CONCURRENTLY, it would wait
//! for that look's transaction to end, and a transaction that goes on looking would never. Once it has the lock, the
//! connection runs nothing until it gives it back.

use std::time::Duration;

use tokio::time::{self, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    client::{connect, explain},
    program::Program,
};
use chatledger_postgres::connect::Connector;

/// The advisory lock's key: the first eight letters of the program's name as ASCII, so that it can be told apart in
/// `pg_locks`.
fn key(program: &Program) -> i64 {
    let mut bytes = [0; 8];
    for (byte, letter) in bytes.iter_mut().zip(program.name.bytes()) {
        *byte = letter;
    }
    i64::from_be_bytes(bytes)
}

/// The pause between two looks at the lock: a migration takes longer than this, and eight servers that boot together
/// ask no more than a few hundred times a second.
const POLL: Duration = Duration::from_millis(25);

/// The time between two words on who is waited for.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Says who holds the lock. By the simple protocol, as all that happens here while somebody may build an index
/// concurrently.
async fn tell_whom(client: &Client, key: i64) -> anyhow::Result<()> {
    // A key of 64 bits is shown in two halves.
    let sql = format!(
        "SELECT a.pid, a.application_name, a.client_addr, date_trunc('second', now() - a.xact_start)
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (l.classid::bigint << 32 | l.objid::bigint) = {key}"
    );
    for answer in client.simple_query(&sql).await.map_err(explain)? {
        if let SimpleQueryMessage::Row(row) = answer {
            tracing::info!(
                pid = row.get(0),
                application = row.get(1),
                address = row.get(2),
                held_for = row.get(3),
                "waiting for somebody else's migrations"
            );
        }
    }
    Ok(())
}

/// The lock, held until it is released or dropped.
pub(crate) struct MigrationLock {
    client: Client,
}

impl MigrationLock {
    /// Waits for it.
    pub(crate) async fn acquire(
        connector: &Connector,
        program: &Program,
        patience: Duration,
    ) -> anyhow::Result<MigrationLock> {
        let client = connect(connector, patience).await?;
        let key = key(program);
        // A provider may end transactions that idle or last, but must not end this one: a migration can take hours.
        let attempt = format!(
            "BEGIN; SELECT set_config(name, '0', true) FROM pg_settings
                WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout');
            SELECT pg_try_advisory_xact_lock({key})"
        );
        let mut told: Option<Instant> = None;
        loop {
            let answers = client.simple_query(&attempt).await.map_err(explain)?;
            let rows = answers.iter().filter_map(|answer| match answer {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            if rows.last().is_some_and(|row| row.get(0) == Some("t")) {
                return Ok(MigrationLock { client });
            }
            client.batch_execute("ROLLBACK").await.map_err(explain)?;
            if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                tell_whom(&client, key).await?;
            }
            time::sleep(POLL).await;
        }
    }

    /// Fails if the connection, and the lock with it, is gone. Without a statement: see above.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.client.is_closed(),
            "the connection that held the migration lock was lost; run it again"
        );
        Ok(())
    }

    /// Gives it back.
    pub(crate) async fn release(self) -> anyhow::Result<()> {
        self.client.batch_execute("COMMIT").await.map_err(explain)
    }
}
