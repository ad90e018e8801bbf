//! A schedule: servers over one database, clients that stream, append, go away and come back, others that lock
//! sessions and write by hand, and what goes wrong meanwhile; all of it as a seed says.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};
use uuid::Uuid;

use super::{
    clients::{ClientStream, ScheduleClient, StreamEntry, UnitAttempt, UnitClient},
    database::{PATIENCE, World},
    promises::{self, ClientRecords},
    state::{ENTANGLED, POISON},
};
use crate::{
    auth::Caller,
    domain::{
        JsonObject,
        message::{NewMessage, Role},
    },
    fair::Holder,
    ledger::{AppendSize, Ledger, LedgerOptions, LedgerParts, Unit, database::LockWait},
};

/// The time within which everything is over after the last fault: a silent connection's limit, a lock's, and once more
/// each for what had waited behind them.
const RECOVERY: Duration = Duration::from_secs(40);

/// Runs a seed's schedule, panics where a promise is broken, and answers a digest of what is stored.
pub(super) fn run(seed: u64) -> u64 {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        time::timeout(PATIENCE, SimulationSchedule::new(seed).run())
            .await
            .expect("everybody is answered")
    })
}

struct SimulationSchedule {
    rng: fastrand::Rng,
    world: World,
    servers: Vec<Ledger>,
    sessions: Vec<Uuid>,
    /// The sessions whose watchers have been woken.
    woken: Arc<Mutex<HashSet<Uuid>>>,
    clients: u64,
    units: Vec<JoinHandle<UnitAttempt>>,
}

impl SimulationSchedule {
    fn new(seed: u64) -> SimulationSchedule {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sessions: Vec<Uuid> = (0..rng.usize(1..5)).map(|_| uuid(&mut rng)).collect();
        let trouble = *rng.choice(&[0, 2, 10, 25]).unwrap_or(&0);
        let world = World::new(rng.u64(..), &sessions, trouble);
        let woken = Arc::new(Mutex::new(HashSet::new()));
        let servers = (0..rng.usize(1..3))
            .map(|_| server(&mut rng, &world, &woken))
            .collect();
        SimulationSchedule {
            rng,
            world,
            servers,
            sessions,
            woken,
            clients: 0,
            units: Vec::new(),
        }
    }

    async fn run(mut self) -> u64 {
        let streams: Vec<_> = (0..self.rng.usize(1..4)).map(|_| self.stream()).collect();
        for _ in 0..self.rng.usize(0..6) {
            self.append();
        }
        for _ in 0..self.rng.usize(0..3) {
            tokio::spawn(lock_now_and_then(
                self.world.clone(),
                self.sessions.clone(),
                self.rng.fork(),
            ));
        }
        let calm = tokio::spawn(go_wrong(self.world.clone(), self.rng.fork()))
            .await
            .expect("faults don't panic");

        let mut records = ClientRecords::default();
        for stream in streams {
            records.streams.push(stream.await.expect("a stream's promises"));
        }
        for unit in std::mem::take(&mut self.units) {
            records.units.push(unit.await.expect("a unit's promises"));
        }
        let late = calm.elapsed();
        assert!(late <= RECOVERY, "still at work {late:?} after the last fault");
        // What clients have left behind ends as well.
        time::sleep(RECOVERY).await;
        for server in &self.servers {
            assert_eq!(server.room.rows_taken(), 0, "room that nobody gave back");
        }
        promises::check(&self.world, &records, &self.woken.lock().expect("not poisoned"))
    }

    fn client(&mut self) -> ScheduleClient {
        self.clients += 1;
        ScheduleClient {
            holder: Holder::of(0, self.clients),
            servers: self.servers.clone(),
            rng: self.rng.fork(),
        }
    }

    fn stream(&mut self) -> JoinHandle<ClientStream> {
        let script = (0..self.rng.usize(1..25))
            .map(|n| {
                let content = if self.rng.u8(0..30) == 0 { POISON } else { "" };
                let session_id = self.session();
                StreamEntry {
                    session_id,
                    message: self.message(content, n),
                }
            })
            .collect();
        tokio::spawn(ClientStream::run(self.client(), script))
    }

    /// A unit, or two that have something in common.
    fn append(&mut self) {
        let session_id = self.session();
        let count = self.rng.usize(1..4);
        let messages: Vec<NewMessage> = (0..count).map(|n| self.message("", n)).collect();
        let unit = Unit {
            caller: Caller::local_service(None),
            session_id,
            messages,
            expected_last_seq: None,
        };
        let mut other = unit.clone();
        match self.rng.u8(0..7) {
            0 => other.expected_last_seq = Some(self.rng.i64(0..20)),
            // Somebody else's retry.
            1 => self.send(unit),
            // The same ids with other contents: one of them wins.
            2 => {
                other
                    .messages
                    .iter_mut()
                    .for_each(|message| message.content.push('!'));
                self.send(unit);
            }
            // The same ids in another session are other messages.
            3 => {
                other.session_id = self.session();
                if other.session_id != session_id {
                    self.send(unit);
                }
            }
            4 => POISON.clone_into(&mut other.messages[count - 1].content),
            5 => ENTANGLED.clone_into(&mut other.messages[0].content),
            _ => {}
        }
        self.send(other);
    }

    fn send(&mut self, unit: Unit) {
        let client = self.client();
        self.units.push(tokio::spawn(UnitClient::run(client, unit)));
    }

    fn session(&mut self) -> Uuid {
        self.sessions[self.rng.usize(..self.sessions.len())]
    }

    fn message(&mut self, content: &str, n: usize) -> NewMessage {
        let id = uuid(&mut self.rng);
        NewMessage {
            id,
            id_is_given: true,
            role: Role::User,
            content: if content.is_empty() {
                format!("{n} of {id}")
            } else {
                content.to_owned()
            },
            selected_text: None,
            metadata: JsonObject::default(),
            payload: None,
            citations: Vec::new(),
            created_at: None,
        }
    }
}

/// A server with as many lanes, as much room and as large batches as the seed says.
fn server(rng: &mut fastrand::Rng, world: &World, woken: &Arc<Mutex<HashSet<Uuid>>>) -> Ledger {
    let woken = Arc::clone(woken);
    let parts = LedgerParts {
        lanes: world.clone(),
        aside: world.clone(),
        on_change: Arc::new(move |ids| woken.lock().expect("not poisoned").extend(ids)),
        key: rng.u64(..),
        batch_cap: AppendSize {
            rows: rng.usize(1..20),
            bytes: 1 << 20,
        },
        reachable: watch::Sender::new(true).subscribe(),
    };
    let options = LedgerOptions {
        lanes: rng.usize(1..4),
        queue_rows: rng.usize(8..64),
        ..LedgerOptions::default()
    };
    Ledger::of(&parts, &options)
}

fn uuid(rng: &mut fastrand::Rng) -> Uuid {
    Uuid::from_u128(rng.u128(..))
}

/// Everything that goes wrong with the server as a whole. Answers when that was over.
async fn go_wrong(world: World, mut rng: fastrand::Rng) -> Instant {
    for _ in 0..rng.usize(0..4) {
        time::sleep(Duration::from_millis(rng.u64(0..4000))).await;
        if rng.bool() {
            world.kill();
        } else {
            world.change(|state| state.disk_is_full = true);
        }
        time::sleep(Duration::from_millis(rng.u64(0..6000))).await;
        world.change(|state| (state.is_down, state.disk_is_full) = (false, false));
    }
    world.change(|state| state.trouble = 0);
    Instant::now()
}

/// Somebody who locks sessions for longer than is waited for, and writes by hand.
async fn lock_now_and_then(world: World, sessions: Vec<Uuid>, mut rng: fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        time::sleep(Duration::from_millis(rng.u64(0..3000))).await;
        let tx = world.begin();
        let session_id = sessions[rng.usize(..sessions.len())];
        let locked = world.lock(tx, &[session_id], LockWait::Wait).await;
        if locked.is_ok_and(|locked| !locked.is_empty()) {
            time::sleep(Duration::from_millis(rng.u64(0..7000))).await;
            if rng.bool() {
                world.state().insert_by_hand(tx, session_id, uuid(&mut rng));
                // A server that was killed meanwhile has ended the transaction.
                let _ = world.commit(tx);
            }
        }
        world.abort(tx);
    }
}
