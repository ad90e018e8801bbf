//! Sessions that are there to be read, or that are large, made before anything is measured.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::{copy, options::CompareOptions};
use crate::{
    database::BenchDatabase,
    progress::BenchProgress,
    target,
    workload::{MessageKey, Workload},
};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

/// The messages of a page.
pub(super) const PAGE: u32 = 50;
/// The messages of a session of some weeks, of which teams show the first or the last page.
const LONG_SESSION: u32 = 170;
/// How many histories there are of a kind: together more than a processor's caches hold.
const HISTORIES: u32 = 20;
/// Citations of each message that has some.
pub(super) const CITATIONS: usize = 2;
/// Sessions that are filled at a time.
const FILLED_AT_A_TIME: usize = 16;
/// The most messages of a batch.
const BATCH: u32 = 500;

/// The sessions that are read.
pub(super) struct ReadSessions {
    /// Sessions of a page.
    pub(super) pages: Arc<FilledSessions>,
    /// Sessions of 170 messages.
    pub(super) long: Arc<FilledSessions>,
    /// Sessions with a long history of messages without citations.
    pub(super) histories: Arc<FilledSessions>,
    /// And with citations.
    pub(super) cited_histories: Arc<FilledSessions>,
}

impl ReadSessions {
    /// Makes them through the service; `cited` has citations.
    pub(super) async fn make(
        channel: &ServerChannel,
        workload: &Workload,
        cited: &Workload,
        options: &CompareOptions,
    ) -> anyhow::Result<Self> {
        let (pages, messages) = (options.page_sessions, options.history_messages);
        Ok(ReadSessions {
            pages: FilledSessions::make(channel, cited, pages, PAGE).await?,
            long: FilledSessions::make(channel, cited, pages, LONG_SESSION).await?,
            histories: FilledSessions::make(channel, workload, HISTORIES, messages).await?,
            cited_histories: FilledSessions::make(channel, cited, HISTORIES, messages).await?,
        })
    }

    /// The ids of all of them.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        let all = [&self.pages, &self.long, &self.histories, &self.cited_histories];
        all.into_iter()
            .flat_map(|sessions| sessions.ids.clone())
            .collect()
    }
}

/// Sessions with so many messages each.
pub(super) struct FilledSessions {
    pub(super) ids: Vec<Uuid>,
    /// Messages of each.
    pub(super) each: u32,
}

impl FilledSessions {
    /// Makes some through the service, with the citations of the workload.
    pub(super) async fn make(
        channel: &ServerChannel,
        workload: &Workload,
        sessions: u32,
        each: u32,
    ) -> anyhow::Result<Arc<Self>> {
        let ids: Vec<Uuid> = (0..sessions).map(|_| Uuid::now_v7()).collect();
        let workload = workload.over(ids.clone());
        target::create_sessions(channel, &workload).await?;
        stream::iter((0..sessions).zip(&ids))
            .map(|(place, id)| fill(channel, &workload, *id, place * each..(place + 1) * each))
            .buffer_unordered(FILLED_AT_A_TIME)
            .try_collect::<()>()
            .await
            .map_err(|status| chatledger_client::explain(&status))?;
        Ok(Arc::new(FilledSessions { ids, each }))
    }
}

async fn fill(
    channel: &ServerChannel,
    workload: &Workload,
    id: Uuid,
    numbers: std::ops::Range<u32>,
) -> Result<(), tonic::Status> {
    let mut client = target::messages(channel);
    for first in numbers.clone().step_by(BATCH as usize) {
        let keys = (first..numbers.end.min(first + BATCH)).map(|number| MessageKey { sender: 0, number });
        let request = pb::BatchAppendMessagesRequest {
            session_id: id.to_string(),
            messages: keys.map(|key| workload.message(key)).collect(),
            expected_last_seq: None,
        };
        client.batch_append_messages(request).await?;
    }
    Ok(())
}

/// Makes the large session, by COPY.
pub(super) async fn make_large(
    channel: &ServerChannel,
    database: &BenchDatabase,
    workload: &Workload,
    options: &CompareOptions,
) -> anyhow::Result<Uuid> {
    let session = Uuid::now_v7();
    let workload = workload.over(vec![session]);
    target::create_sessions(channel, &workload).await?;
    let mut client = database.client().await?;
    let progress = BenchProgress::counted("filling the large session", options.large_session_messages);
    let (mut left, mut number) = (options.large_session_messages, 0);
    while left > 0 {
        let rows = copy::ROWS.min(u32::try_from(left).unwrap_or(u32::MAX));
        copy::transaction(&mut client, &workload, &mut number, rows).await?;
        left -= u64::from(rows);
        progress.add(rows.into());
    }
    progress.clear();
    Ok(session)
}
