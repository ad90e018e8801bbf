//! A lane: takes all units that wait for its sessions and commits them together. While it commits, the next
//! batch gathers: group commit without a timer, so a lone append pays no delay.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    Unit,
    append::{append, append_free},
    queue::{Queued, Room, Size, Ticket},
};
use crate::{postgres::Db, watch::Hub};

/// One lane.
pub(super) struct Lane {
    pub(super) number: usize,
    pub(super) queue: mpsc::UnboundedReceiver<Queued>,
    /// The lane's own connection comes from here.
    pub(super) db: Db,
    pub(super) aside: Aside,
    pub(super) batch_cap: Size,
    pub(super) room: Room,
    pub(super) hub: Hub,
}

impl Lane {
    /// Appends until nobody can queue units any more, and all are answered.
    pub(super) async fn run(mut self) {
        let mut next = None;
        loop {
            let Some(first) = (match next.take() {
                Some(queued) => Some(queued),
                None => self.queue.recv().await,
            }) else {
                return;
            };
            let batch;
            (batch, next) = self.gather(first);
            if !batch.is_empty() {
                self.commit(batch).await;
            }
        }
    }

    /// A batch of what waits, from `first` on, and the unit that didn't fit any more.
    fn gather(&mut self, first: Queued) -> (Vec<Queued>, Option<Queued>) {
        let mut batch = Vec::new();
        let mut size = Size::default();
        let mut next = Some(first);
        while let Some(queued) = next {
            let with_it = size.plus(queued.size);
            if !batch.is_empty() && !with_it.fits(self.batch_cap) {
                return (batch, Some(queued));
            }
            // Nobody would hear of an abandoned unit, and nobody has been promised anything. A unit whose
            // predecessors were set aside goes behind them.
            if !queued.ticket.is_abandoned()
                && let Some(queued) = self.aside.follow(queued)
            {
                size = with_it;
                batch.push(queued);
            }
            next = self.queue.try_recv().ok();
        }
        (batch, None)
    }

    async fn commit(&self, batch: Vec<Queued>) {
        let began = Instant::now();
        let waited = batch
            .iter()
            .map(|queued| began - queued.since)
            .max()
            .unwrap_or_default();
        let rows: usize = batch.iter().map(|queued| queued.size.rows).sum();
        let units: Vec<&Unit> = batch.iter().map(|queued| &queued.unit).collect();
        let outcomes = append_free(&self.db, &units, None).await;
        let mut stored = Vec::with_capacity(batch.len());
        let mut skipped = 0_usize;
        for (queued, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Some(outcome) => {
                    if outcome.is_ok() {
                        stored.push(queued.unit.session_id);
                    }
                    queued.ticket.answer(outcome);
                }
                None => {
                    skipped += 1;
                    self.aside.set(queued);
                }
            }
        }
        self.hub.changed(&stored);
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

/// Units of sessions that somebody else has locked (or that don't exist). Each such session is waited for
/// by a task of its own, while the lane goes on; its later units line up behind the first.
#[derive(Clone)]
pub(super) struct Aside {
    /// The tasks' connections come from here: they may be held for long.
    db: Db,
    sessions: Arc<Mutex<HashMap<Uuid, Vec<Queued>>>>,
    hub: Hub,
}

impl Aside {
    pub(super) fn new(db: Db, hub: Hub) -> Aside {
        Aside {
            db,
            sessions: Arc::default(),
            hub,
        }
    }

    /// Takes a unit whose session is set aside, or gives it back.
    fn follow(&self, queued: Queued) -> Option<Queued> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match sessions.get_mut(&queued.unit.session_id) {
            Some(line) => {
                line.push(queued);
                None
            }
            None => Some(queued),
        }
    }

    /// Sets a unit aside.
    fn set(&self, queued: Queued) {
        let session_id = queued.unit.session_id;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match sessions.entry(session_id) {
            Entry::Occupied(mut line) => line.get_mut().push(queued),
            Entry::Vacant(line) => {
                line.insert(vec![queued]);
                tokio::spawn(self.clone().serve(session_id));
            }
        }
    }

    /// Appends the units of a session until none is left.
    async fn serve(self, session_id: Uuid) {
        while let Some(line) = self.next_line(session_id) {
            let (units, mut tickets) = Queued::split(line);
            let borrowed: Vec<&Unit> = units.iter().collect();
            tokio::select! {
                outcomes = append(&self.db, &borrowed, None) => {
                    for (ticket, outcome) in tickets.into_iter().zip(outcomes) {
                        ticket.answer(outcome);
                    }
                    self.hub.changed(&[session_id]);
                }
                // Then the wait for the session is given up as well.
                () = all_abandoned(&mut tickets) => {}
            }
        }
    }

    /// What has lined up meanwhile. Where that is nothing, the session is no longer set aside.
    fn next_line(&self, session_id: Uuid) -> Option<Vec<Queued>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let line = sessions.get_mut(&session_id)?;
        if line.is_empty() {
            sessions.remove(&session_id);
            return None;
        }
        Some(std::mem::take(line))
    }
}

async fn all_abandoned(tickets: &mut [Ticket]) {
    for ticket in tickets {
        ticket.abandoned().await;
    }
}
