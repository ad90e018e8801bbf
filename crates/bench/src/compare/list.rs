//! Pages of 50 messages with two citations each: through the service, and by the SELECT that an application would
//! write, with its rows decoded. Both with the same number of readers.

use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row, Statement};
use tonic::transport::Channel;
use uuid::Uuid;

use super::database::{BenchDatabase, told};
use crate::{
    halt::Halt,
    schedule::RunClock,
    target,
    workload::{MessageKey, Workload},
};
use chatledger_protocol as pb;

/// The messages of a page, and of each session.
const PAGE: u32 = 50;
/// How many sessions are read: more than fit into anybody's cache of plans or pages by accident, few enough to fill.
const SESSIONS: u32 = 200;
/// Readers at a time: more than there are processors, so that none is idle.
const READERS: u32 = 8;
/// Sessions that are filled at a time.
const FILLED_AT_A_TIME: usize = 16;

/// The same columns that the service answers; a message's citations as arrays, one row.
const SELECT: &str = "SELECT m.id, m.seq, m.role, m.content, m.selected_text, m.metadata::text, m.payload, m.created_at,
        c.documents, c.chunks, c.scores, c.indexes
    FROM messages m LEFT JOIN LATERAL (
        SELECT array_agg(document_id ORDER BY citation_index) AS documents,
            array_agg(chunk_id ORDER BY citation_index) AS chunks,
            array_agg(score ORDER BY citation_index) AS scores, array_agg(citation_index ORDER BY citation_index) AS indexes
        FROM message_citations WHERE message_id = m.id
    ) c ON true
    WHERE m.session_id = $1 AND m.deleted_at IS NULL ORDER BY m.seq LIMIT 50";

/// Sessions with a page of messages each.
pub(super) struct ListedSessions {
    ids: Arc<Vec<Uuid>>,
}

impl ListedSessions {
    pub(super) async fn prepare(channel: &Channel, cited: &Workload) -> anyhow::Result<Self> {
        let ids: Vec<Uuid> = (0..SESSIONS).map(|_| Uuid::now_v7()).collect();
        let workload = cited.over(ids.clone());
        target::create_sessions(channel, &workload).await?;
        stream::iter((0..SESSIONS).zip(&ids))
            .map(|(place, id)| {
                let keys = (place * PAGE..(place + 1) * PAGE).map(|number| MessageKey { sender: 0, number });
                let request = pb::BatchAppendMessagesRequest {
                    session_id: id.to_string(),
                    messages: keys.map(|key| workload.message(key)).collect(),
                    expected_last_seq: None,
                };
                let mut client = target::messages(channel);
                async move { client.batch_append_messages(request).await.map(drop) }
            })
            .buffer_unordered(FILLED_AT_A_TIME)
            .try_collect::<()>()
            .await
            .map_err(|status| target::told(&status))?;
        Ok(ListedSessions { ids: Arc::new(ids) })
    }

    pub(super) fn sessions(&self) -> &[Uuid] {
        &self.ids
    }

    /// Pages a second.
    pub(super) async fn through_service(
        &self,
        channels: &[Channel],
        clock: RunClock,
        halt: &Halt,
    ) -> anyhow::Result<f64> {
        let mut readers = JoinSet::new();
        for reader in 0..READERS {
            let client = target::messages(&channels[reader as usize % channels.len()]);
            let ids = Arc::clone(&self.ids);
            let halt = halt.clone();
            readers.spawn(async move {
                read(reader, &ids, clock, &halt, async |id| {
                    let request = pb::ListMessagesRequest {
                        session_id: id.to_string(),
                        page_size: PAGE.cast_signed(),
                        ..Default::default()
                    };
                    let answer = client.clone().list_messages(request).await;
                    let page = answer.map_err(|status| target::told(&status))?.into_inner();
                    Ok(black_box(page).messages.len())
                })
                .await
            });
        }
        rate(readers, clock).await
    }

    /// Pages a second.
    pub(super) async fn by_select(
        &self,
        database: &BenchDatabase,
        clock: RunClock,
        halt: &Halt,
    ) -> anyhow::Result<f64> {
        // Connecting takes a part of the warm-up.
        let mut readers = JoinSet::new();
        for reader in 0..READERS {
            let client = database.client().await?;
            let statement = client.prepare(SELECT).await.map_err(told)?;
            let ids = Arc::clone(&self.ids);
            let halt = halt.clone();
            readers.spawn(async move {
                read(reader, &ids, clock, &halt, async |id| {
                    select(&client, &statement, id).await.map_err(told)
                })
                .await
            });
        }
        rate(readers, clock).await
    }
}

#[allow(clippy::cast_precision_loss)]
async fn rate(mut readers: JoinSet<anyhow::Result<u64>>, clock: RunClock) -> anyhow::Result<f64> {
    let mut pages = 0;
    while let Some(reader) = readers.join_next().await {
        pages += reader??;
    }
    Ok(pages as f64 / (clock.end - clock.measured_from).as_secs_f64())
}

/// Reads page after page, and answers how many were read in the measured time.
async fn read<F: Future<Output = anyhow::Result<usize>>>(
    reader: u32,
    ids: &[Uuid],
    clock: RunClock,
    halt: &Halt,
    page: impl Fn(Uuid) -> F,
) -> anyhow::Result<u64> {
    let mut rng = fastrand::Rng::with_seed(reader.into());
    let mut pages = 0;
    loop {
        let messages = page(ids[rng.usize(..ids.len())]).await?;
        ensure!(
            messages == PAGE as usize,
            "a page of {messages} messages instead of {PAGE}"
        );
        let now = Instant::now();
        if now >= clock.end || halt.is_asked() {
            return Ok(pages);
        }
        pages += u64::from(now >= clock.measured_from);
    }
}

async fn select(client: &Client, statement: &Statement, id: Uuid) -> Result<usize, tokio_postgres::Error> {
    let rows = client.query(statement, &[&id]).await?;
    for row in &rows {
        black_box(DecodedMessage::from(row));
    }
    Ok(rows.len())
}

/// What an application would make of a row.
#[allow(dead_code)] // decoding is what is measured
struct DecodedMessage {
    id: Uuid,
    seq: i64,
    role: String,
    content: String,
    selected_text: Option<String>,
    metadata: String,
    payload: Option<Vec<u8>>,
    created_at: Timestamp,
    documents: Option<Vec<String>>,
    chunks: Option<Vec<Option<String>>>,
    scores: Option<Vec<Option<f64>>>,
    indexes: Option<Vec<i32>>,
}

impl From<&Row> for DecodedMessage {
    fn from(row: &Row) -> Self {
        DecodedMessage {
            id: row.get(0),
            seq: row.get(1),
            role: row.get(2),
            content: row.get(3),
            selected_text: row.get(4),
            metadata: row.get(5),
            payload: row.get(6),
            created_at: row.get(7),
            documents: row.get(8),
            chunks: row.get(9),
            scores: row.get(10),
            indexes: row.get(11),
        }
    }
}
