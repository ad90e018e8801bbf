//! Units of sessions that somebody else has locked (or that don't exist). Each such session is waited for by a
//! task of its own, while the lane goes on; its later units line up behind the first. Callers who don't see the same have
//! a line each: to whom a session isn't there, its lock isn't either.

use std::{
    collections::{HashMap, hash_map::Entry},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt;
use uuid::Uuid;

use super::{
    ChangeHook, Unit, UnitLine,
    append::append,
    database::Database,
    lane::batch_span,
    queue::{QueuedUnit, Ticket, Turn},
};
use crate::{metrics::metrics, supervise::panic_text, telemetry::BatchSpan};

/// The sessions that a lane has set aside.
#[derive(Clone)]
pub(super) struct Aside<D> {
    /// The tasks' connections come from here: they may be held for long.
    db: D,
    lines: Arc<Mutex<HashMap<UnitLine, Vec<QueuedUnit>>>>,
    on_change: ChangeHook,
}

impl<D: Database> Aside<D> {
    pub(super) fn new(db: D, on_change: ChangeHook) -> Aside<D> {
        Aside {
            db,
            lines: Arc::default(),
            on_change,
        }
    }

    /// Takes a unit whose session is set aside, or gives it back.
    pub(super) fn follow(&self, queued: QueuedUnit) -> Option<QueuedUnit> {
        match self.lines().get_mut(&queued.line) {
            Some(line) => {
                line.push(queued);
                None
            }
            None => Some(queued),
        }
    }

    /// Sets a unit aside.
    pub(super) fn set(&self, queued: QueuedUnit) {
        let line = queued.line.clone();
        match self.lines().entry(line.clone()) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push(queued),
            Entry::Vacant(waiting) => {
                waiting.insert(vec![queued]);
                tokio::spawn(self.clone().serve(line));
            }
        }
    }

    /// Appends the units of a line until none is left. A panic ends those that it was about.
    async fn serve(self, line: UnitLine) {
        let session_id = line.session_id;
        while let Some(waiting) = self.next_line(&line) {
            let turns: Vec<Turn> = waiting.into_iter().filter_map(QueuedUnit::take).collect();
            if turns.is_empty() {
                continue;
            }
            if let Err(panic) = AssertUnwindSafe(self.append(session_id, turns))
                .catch_unwind()
                .await
            {
                tracing::error!(panic = panic_text(&panic), "appending to a session panicked");
            }
        }
    }

    async fn append(&self, session_id: Uuid, turns: Vec<Turn>) {
        let span = batch_span(&turns, true);
        let (units, mut tickets): (Vec<Unit>, Vec<Ticket>) = turns.into_iter().map(Turn::split).unzip();
        let units: Vec<&Unit> = units.iter().collect();
        let work = pin!(append(&self.db, &units));
        tokio::select! {
            // What has been stored is answered.
            biased;
            outcomes = BatchSpan::around(span, work) => {
                for (ticket, outcome) in tickets.into_iter().zip(outcomes) {
                    if let Ok(receipts) = &outcome {
                        metrics().append.stored(receipts);
                        metrics().append.committed();
                    }
                    ticket.answer(outcome);
                }
                (self.on_change)(&[session_id]);
            }
            // Then the wait for the session is given up as well.
            () = all_abandoned(&mut tickets) => {}
        }
    }

    /// The units that have lined up meanwhile. Where there are none, the session is no longer set aside.
    fn next_line(&self, line: &UnitLine) -> Option<Vec<QueuedUnit>> {
        let mut lines = self.lines();
        let waiting = lines.get_mut(line)?;
        if waiting.is_empty() {
            lines.remove(line);
            return None;
        }
        Some(std::mem::take(waiting))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<UnitLine, Vec<QueuedUnit>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn all_abandoned(tickets: &mut [Ticket]) {
    for ticket in tickets {
        ticket.abandoned().await;
    }
}
