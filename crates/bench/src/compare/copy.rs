//! COPY into the same tables over one connection: the fastest that PostgreSQL takes rows in. A transaction raises the
//! counters of all its sessions, so that the ledger stays whole, and copies 10,000 rows in the binary format.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{Client, binary_copy::BinaryCopyInWriter, types::Type};
use uuid::Uuid;

use crate::{
    database::{BenchDatabase, told},
    halt::Halt,
    schedule::RunClock,
    workload::{MessageKey, Workload},
};

/// Rows of a transaction: many enough that its commit costs nothing.
pub(super) const ROWS: u32 = 10_000;

/// Raises the counters, in id order as everybody does. The messages' times are a microsecond apart, as the server
/// would have them.
const BUMP: &str = "WITH input AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS t (id, count)),
    locked AS MATERIALIZED (
        SELECT s.id FROM chat_sessions s JOIN input ON input.id = s.id ORDER BY s.id FOR NO KEY UPDATE OF s)
    UPDATE chat_sessions s SET last_seq = s.last_seq + input.count, updated_at = now(),
        last_message_at = greatest(now(), s.last_message_at + interval '1 microsecond')
            + input.count * interval '1 microsecond'
    FROM locked JOIN input ON input.id = locked.id WHERE s.id = locked.id
    RETURNING s.id, s.last_seq - input.count, s.last_message_at - input.count * interval '1 microsecond'";
const COPY: &str = "COPY messages (id, session_id, seq, role, content, created_at) FROM STDIN BINARY";
const TYPES: [Type; 6] = [
    Type::UUID,
    Type::UUID,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TIMESTAMPTZ,
];

/// Rows a second. Since a transaction is a large part of a round, its time is counted to the end of the last one.
#[allow(clippy::cast_precision_loss)]
pub(super) async fn rate(
    database: &BenchDatabase,
    workload: &Arc<Workload>,
    clock: RunClock,
    halt: &Halt,
) -> anyhow::Result<f64> {
    let mut client = database.client().await?;
    let mut number = 0;
    let (mut began, mut stored) = (Instant::now(), 0u64);
    loop {
        transaction(&mut client, workload, &mut number, ROWS).await?;
        let now = Instant::now();
        stored += u64::from(ROWS);
        if now >= clock.end || halt.is_asked() {
            return Ok(stored as f64 / (now - began).as_secs_f64());
        }
        if now < clock.measured_from {
            (began, stored) = (now, 0);
        }
    }
}

/// Stores the workload's next messages.
pub(super) async fn transaction(
    client: &mut Client,
    workload: &Workload,
    number: &mut u32,
    rows: u32,
) -> anyhow::Result<()> {
    let keys = (*number..*number + rows).map(|number| MessageKey { sender: 0, number });
    *number += rows;
    let messages: Vec<(MessageKey, Uuid)> = keys
        .map(|key| (key, workload.sessions()[workload.session_of(key)]))
        .collect();
    let stored = async {
        let transaction = client.transaction().await?;
        let mut places = bump(&transaction, &messages).await?;
        let sink = transaction.copy_in(COPY).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
        for (key, session) in messages {
            let Some((seq, time)) = places.get_mut(&session) else {
                continue; // every session was raised just before
            };
            *seq += 1;
            *time += SignedDuration::from_micros(1);
            writer
                .as_mut()
                .write(&[
                    &workload.id(key),
                    &session,
                    seq,
                    &"user",
                    &workload.content_of(key),
                    time,
                ])
                .await?;
        }
        writer.finish().await?;
        transaction.commit().await
    };
    stored.await.map_err(told)
}

/// The last seq and time of each session, before these messages.
async fn bump(
    transaction: &tokio_postgres::Transaction<'_>,
    messages: &[(MessageKey, Uuid)],
) -> Result<BTreeMap<Uuid, (i64, Timestamp)>, tokio_postgres::Error> {
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (_, session) in messages {
        *counts.entry(*session).or_default() += 1;
    }
    let (ids, counts): (Vec<Uuid>, Vec<i64>) = counts.into_iter().unzip();
    let rows = transaction.query(BUMP, &[&ids, &counts]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect())
}
