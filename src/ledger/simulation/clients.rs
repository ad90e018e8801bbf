//! The clients of a schedule: they stream and append, are cut off or leave, and come back, to any server, with what
//! hasn't been answered, until they know what became of all they had.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{self, Instant};
use uuid::Uuid;

use super::state::ENTANGLED;
use crate::{
    auth::Caller,
    domain::{Error, message::NewMessage},
    fair::Holder,
    ledger::{Ledger, Outcome, PendingOutcome, StreamOrder, Unit},
};

/// The attempts after which a client believes that its errors don't pass, where that is so.
const MOST_ATTEMPTS: usize = 5;

/// A client's connection, to any of the servers.
pub(super) struct ScheduleClient {
    pub(super) holder: Holder,
    pub(super) servers: Vec<Ledger>,
    pub(super) rng: fastrand::Rng,
}

impl ScheduleClient {
    fn server(&mut self) -> Ledger {
        self.servers[self.rng.usize(..self.servers.len())].clone()
    }

    fn caller(&self, deadline: Option<Instant>) -> Caller {
        Caller {
            holder: self.holder,
            ..Caller::local_service(deadline)
        }
    }

    /// A random time: of a batch, of a slow one, of a stall.
    fn some_time(&mut self) -> Duration {
        let most = *self.rng.choice(&[5_000, 60_000, 10_000_000]).unwrap_or(&1);
        Duration::from_micros(self.rng.u64(0..most))
    }
}

/// An entry of a stream.
pub(super) struct StreamEntry {
    pub(super) session_id: Uuid,
    pub(super) message: NewMessage,
}

/// The entries that a stream's client wanted to append, in this order, and what it knows of it.
pub(super) struct ClientStream {
    pub(super) script: Vec<StreamEntry>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// Whether the client was cut off and didn't come back.
    pub(super) has_left: bool,
}

impl ClientStream {
    /// Streams a script, as often as it takes.
    pub(super) async fn run(mut client: ScheduleClient, script: Vec<StreamEntry>) -> ClientStream {
        let mut stream = ClientStream {
            outcomes: vec![None; script.len()],
            script,
            has_left: false,
        };
        while stream.outcomes.iter().any(Option::is_none) {
            let cut = client.rng.bool().then(|| client.some_time());
            let mut in_flight = InFlight::default();
            let sending = stream.send(
                &mut in_flight,
                client.server(),
                client.caller(None),
                client.rng.fork(),
            );
            let was_cut = match cut {
                Some(after) => time::timeout(after, sending).await.is_err(),
                None => {
                    sending.await;
                    false
                }
            };
            in_flight.drop_one_by_one(&mut client.rng).await;
            if was_cut && client.rng.u8(0..10) == 0 {
                stream.has_left = true;
                break;
            }
            time::sleep(client.some_time().min(Duration::from_millis(500))).await;
        }
        stream
    }

    /// One stream, of all that hasn't been answered.
    async fn send(
        &mut self,
        in_flight: &mut InFlight,
        server: Ledger,
        caller: Caller,
        mut rng: fastrand::Rng,
    ) {
        let window = rng.usize(1..20);
        let unanswered: Vec<usize> = (0..self.script.len())
            .filter(|&n| self.outcomes[n].is_none())
            .collect();
        for n in unanswered {
            if rng.u8(0..5) == 0 {
                time::sleep(Duration::from_micros(rng.u64(0..20_000))).await;
            }
            let unit = Unit {
                caller: caller.clone(),
                session_id: self.script[n].session_id,
                messages: vec![self.script[n].message.clone()],
                expected_last_seq: None,
            };
            let pending = server.submit(unit, &in_flight.order).await;
            in_flight.pending.push_back((n, pending));
            while in_flight.pending.len() >= window {
                self.hear(in_flight).await;
            }
        }
        while !in_flight.pending.is_empty() {
            self.hear(in_flight).await;
        }
    }

    /// The next answer. One that passes is no answer: the entry is sent again by the next stream.
    async fn hear(&mut self, in_flight: &mut InFlight) {
        let Some((n, pending)) = in_flight.pending.front_mut() else {
            return;
        };
        let outcome = pending.await;
        let n = *n;
        in_flight.pending.pop_front();
        if is_final(&outcome) {
            self.outcomes[n] = Some(outcome);
        }
    }
}

fn is_final(outcome: &Outcome) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => {
            assert!(!matches!(error, Error::Internal), "an internal error");
            !error.is_passing()
        }
    }
}

/// A stream's entries that haven't been answered.
#[derive(Default)]
struct InFlight {
    order: Arc<StreamOrder>,
    pending: VecDeque<(usize, PendingOutcome)>,
}

impl InFlight {
    /// The end of a stream that was cut off, at the server: its tasks drop the entries one after the other, while the
    /// lanes go on.
    async fn drop_one_by_one(&mut self, rng: &mut fastrand::Rng) {
        if rng.bool() {
            self.order.leave();
        }
        let from_the_back = rng.bool();
        while !self.pending.is_empty() {
            let dropped = if from_the_back {
                self.pending.pop_back()
            } else {
                self.pending.pop_front()
            };
            drop(dropped);
            if rng.bool() {
                time::sleep(Duration::from_micros(rng.u64(0..5_000))).await;
            }
        }
    }
}

/// A unit, and what its client knows of it.
pub(super) struct UnitAttempt {
    pub(super) unit: Unit,
    pub(super) outcome: Option<Outcome>,
}

/// The client of a unit.
pub(super) struct UnitClient;

impl UnitClient {
    /// Appends a unit, as often as it takes.
    pub(super) async fn run(mut client: ScheduleClient, unit: Unit) -> UnitAttempt {
        let mut attempt = UnitAttempt { unit, outcome: None };
        let is_entangled = attempt
            .unit
            .messages
            .iter()
            .any(|message| message.content == ENTANGLED);
        let most = if is_entangled { MOST_ATTEMPTS } else { usize::MAX };
        for _ in 0..most {
            time::sleep(client.some_time().min(Duration::from_secs(1))).await;
            let patience = client.some_time();
            let deadline = client.rng.bool().then(|| Instant::now() + patience);
            let unit = Unit {
                caller: client.caller(deadline),
                ..attempt.unit.clone()
            };
            let server = client.server();
            let appending = server.append(unit);
            let outcome = if client.rng.u8(0..4) == 0 {
                time::timeout(patience, appending).await.ok()
            } else {
                Some(appending.await)
            };
            if let Some(outcome) = outcome.filter(is_final) {
                attempt.outcome = Some(outcome);
                break;
            }
        }
        attempt
    }
}
