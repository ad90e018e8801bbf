//! Whole histories: ReadMessages beside a SELECT of the same rows, over one connection each, in turn.

use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::ensure;
use uuid::Uuid;

use super::{
    metric::Metric,
    parts::ComparisonParts,
    select::JoinedSelect,
    sessions::{CITATIONS, FilledSessions},
};
use crate::{target, turns::TurnTimer};
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

/// A whole history, with how many messages and citations it has.
async fn read(channel: &ServerChannel, session: Uuid) -> anyhow::Result<(usize, usize)> {
    let request = pb::ReadMessagesRequest {
        session_id: session.to_string(),
        ..Default::default()
    };
    let reading = async {
        let mut frames = target::messages(channel)
            .read_messages(request)
            .await?
            .into_inner();
        let mut messages = Vec::new();
        while let Some(frame) = frames.message().await? {
            messages.extend(frame.messages);
        }
        Ok(messages)
    };
    let messages: Vec<pb::Message> = reading
        .await
        .map_err(|status| chatledger_client::explain(&status))?;
    let citations = messages.iter().map(|message| message.citations.len()).sum();
    Ok((black_box(messages).len(), citations))
}

impl ComparisonParts {
    /// Histories of messages without citations.
    pub(super) async fn histories(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let select = JoinedSelect::of_histories(self.database.client().await?).await?;
        let metrics = [Metric::ReadP50, Metric::HistorySelectP50];
        self.in_turn(&self.read.histories, metrics, 0, async |session| {
            Ok((select.read(session).await?, 0))
        })
        .await
    }

    /// Histories of messages with citations.
    pub(super) async fn histories_with_citations(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let select = JoinedSelect::of_histories(self.database.client().await?).await?;
        let metrics = [
            Metric::ReadWithCitationsP50,
            Metric::HistorySelectWithCitationsP50,
        ];
        self.in_turn(&self.read.cited_histories, metrics, CITATIONS, async |session| {
            select.read_with_citations(session).await
        })
        .await
    }

    /// One through the service, the same by SELECT, and again with another session. Who is first changes each time, since
    /// the first one finds less in the processor's caches.
    async fn in_turn(
        &self,
        sessions: &Arc<FilledSessions>,
        [read_p50, select_p50]: [Metric; 2],
        citations: usize,
        select: impl AsyncFn(Uuid) -> anyhow::Result<(usize, usize)>,
    ) -> anyhow::Result<Vec<(Metric, f64)>> {
        let each = sessions.each as usize;
        let clock = self.clock();
        let [mut reads, mut selects] = [0, 1].map(|_| TurnTimer::new(clock));
        let mut sessions = sessions.ids.iter().cycle();
        let mut reads_first = true;
        while let Some(session) = sessions.next()
            && Instant::now() < clock.end
            && !self.halt.is_asked()
        {
            let (read_counts, select_counts) = if reads_first {
                let counts = reads.time(read(&self.channels[0], *session)).await?;
                (counts, selects.time(select(*session)).await?)
            } else {
                let counts = selects.time(select(*session)).await?;
                (reads.time(read(&self.channels[0], *session)).await?, counts)
            };
            reads_first = !reads_first;
            let expected = (each, each * citations);
            ensure!(
                read_counts == expected && select_counts == expected,
                "histories of {read_counts:?} and {select_counts:?} messages and citations instead of {expected:?}"
            );
        }
        let [reads, selects] = [reads.finish().await, selects.finish().await];
        Ok(vec![
            (read_p50, reads.millis(50.0)),
            (select_p50, selects.millis(50.0)),
        ])
    }
}
