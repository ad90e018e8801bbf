//! A lane: takes all units that wait for its sessions and commits them together. While it commits, the next
//! batch gathers: group commit without a timer, so a lone append pays no delay.

use std::{panic::AssertUnwindSafe, pin::pin};

use futures_util::FutureExt;
use opentelemetry::KeyValue;
use tokio::{sync::mpsc, time::Instant};

use super::{
    ChangeHook, Unit,
    append::append_free,
    aside::Aside,
    backlog::Backlog,
    database::Database,
    queue::{AppendSize, QueuedUnit, Room, Turn},
};
use crate::{metrics::metrics, supervise::panic_text, telemetry::BatchSpan};

/// A lane, which commits the units of its sessions, batch after batch.
pub(super) struct Lane<D> {
    pub(super) number: usize,
    pub(super) queue: mpsc::UnboundedReceiver<QueuedUnit>,
    pub(super) backlog: Backlog<QueuedUnit>,
    /// The lane's own connection comes from here.
    pub(super) db: D,
    pub(super) aside: Aside<D>,
    pub(super) batch_cap: AppendSize,
    pub(super) room: Room,
    pub(super) on_change: ChangeHook,
}

impl<D: Database> Lane<D> {
    /// Appends until nobody can queue units any more, and all are answered. A panic ends the batch, whose callers
    /// hear of it, and nothing else.
    pub(super) async fn run(mut self) {
        loop {
            let batch = self.gather();
            if !batch.is_empty() {
                if let Err(panic) = AssertUnwindSafe(self.commit(batch)).catch_unwind().await {
                    tracing::error!(lane = self.number, panic = panic_text(&panic), "a batch panicked");
                }
                continue;
            }
            match self.queue.recv().await {
                Some(queued) => self.backlog.push(queued.holder, queued),
                None => return,
            }
        }
    }

    /// A batch of what waits; empty where nothing does.
    fn gather(&mut self) -> Vec<Turn> {
        while let Ok(queued) = self.queue.try_recv() {
            self.backlog.push(queued.holder, queued);
        }
        let mut batch = Vec::new();
        let mut size = AppendSize::default();
        while let Some(queued) = self.backlog.pop() {
            // A unit whose predecessors were set aside goes behind them.
            let Some(turn) = self.aside.follow(queued).and_then(QueuedUnit::take) else {
                continue;
            };
            let with_it = size.plus(turn.size());
            if !batch.is_empty() && !with_it.fits(self.batch_cap) {
                let queued = turn.wait_again();
                self.backlog.push_front(queued.holder, queued);
                break;
            }
            size = with_it;
            batch.push(turn);
        }
        batch
    }

    async fn commit(&self, batch: Vec<Turn>) {
        let began = Instant::now();
        let waited = batch
            .iter()
            .map(|turn| began - turn.since())
            .max()
            .unwrap_or_default();
        let rows: usize = batch.iter().map(|turn| turn.size().rows).sum();
        let units: Vec<&Unit> = batch.iter().map(Turn::unit).collect();
        let span = batch_span(&batch, false);
        let outcomes = BatchSpan::around(span, pin!(append_free(&self.db, &units))).await;
        let counted = &metrics().append;
        let mut stored = Vec::with_capacity(batch.len());
        let mut skipped = 0_usize;
        for (turn, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Some(outcome) => {
                    if let Ok(receipts) = &outcome {
                        counted.stored(receipts);
                        stored.push(turn.unit().session_id);
                    }
                    turn.split().1.answer(outcome);
                }
                None => {
                    skipped += 1;
                    counted.set_aside.inc();
                    self.aside.set(turn.wait_again());
                }
            }
        }
        if !stored.is_empty() {
            counted.committed();
        }
        (self.on_change)(&stored);
        tracing::debug!(
            lane = self.number,
            rows,
            skipped,
            waiting_rows = self.room.rows_taken(),
            elapsed = ?began.elapsed(),
            ?waited,
            "committed a batch"
        );
    }
}

/// The span of a batch, where one of its units has one.
pub(super) fn batch_span(batch: &[Turn], is_aside: bool) -> Option<BatchSpan> {
    BatchSpan::begin(batch.iter().map(Turn::span), || {
        let rows = batch.iter().map(|turn| turn.size().rows).sum();
        vec![
            KeyValue::new("chatledger.append.rows", attribute(rows)),
            KeyValue::new("chatledger.append.units", attribute(batch.len())),
            KeyValue::new("chatledger.append.aside", is_aside),
        ]
    })
}

/// A number as spans have it.
fn attribute(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
