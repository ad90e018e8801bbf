//! A database in memory that fails by plan: replies come late or never, connections are lost before or after a
//! statement took effect, a lost COMMIT may take effect seconds later, the server is killed and comes back, its disk
//! is full, and transactions are aborted for no reason of the caller's. What it keeps of PostgreSQL is what the append
//! path relies on: row locks, unique keys, statements and transactions that happen as a whole or not at all.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{self, Instant},
};
use uuid::Uuid;

use super::state::{ChatRow, Fate, Trouble, WantedMessage, WorldState};
use crate::ledger::{
    Unit,
    database::{AppendedRows, Database, LockWait, Transaction},
    decide::{IdLookup, Insertion, LockedSession},
};

/// How long a connection without an answer is waited for, as in [`DbOptions`](chatledger_postgres::DbOptions).
pub(super) const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);
/// How long a transaction waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting to a server that is down is tried.
const CONNECT_FOR: Duration = Duration::from_secs(3);
/// A time that is longer than any schedule lasts.
pub(super) const PATIENCE: Duration = Duration::from_mins(20);
/// The wait after which PostgreSQL looks for deadlocks.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// The database, to which all servers of a schedule connect.
#[derive(Clone)]
pub(super) struct World(Arc<SharedWorld>);

struct SharedWorld {
    state: Mutex<WorldState>,
    /// Something that is waited for may have changed: a lock, a key, whether the server is up.
    changed: Notify,
}

impl World {
    pub(super) fn new(seed: u64, sessions: &[Uuid], trouble: u8) -> World {
        World(Arc::new(SharedWorld {
            state: Mutex::new(WorldState::new(seed, sessions, trouble)),
            changed: Notify::new(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, WorldState> {
        self.0.state.lock().expect("no panic under the lock")
    }

    /// The server is killed: all transactions end, all connections are lost, and none is to be had.
    pub(super) fn kill(&self) {
        self.change(WorldState::kill);
    }

    /// Changes what is wrong with the server.
    pub(super) fn change(&self, change: impl FnOnce(&mut WorldState)) {
        change(&mut self.state());
        self.0.changed.notify_waiters();
    }

    pub(super) fn begin(&self) -> u64 {
        self.state().begin()
    }

    pub(super) fn abort(&self, tx: u64) {
        self.change(|state| state.abort(tx));
    }

    /// Waits until `look` finds something, as long as the transaction is open.
    async fn wait<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&mut WorldState) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + patience;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.state()) {
                return Some(found);
            }
            time::timeout_at(end, changed).await.ok()?;
        }
    }

    /// Locks sessions in id order. Those that don't exist are left out, and those that somebody else has, if so asked.
    pub(super) async fn lock(
        &self,
        tx: u64,
        ids: &[Uuid],
        lock_wait: LockWait,
    ) -> Result<Vec<Uuid>, Trouble> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut locked = Vec::new();
        for id in ids {
            let is_locked = match lock_wait {
                LockWait::Skip => self.state().try_lock(tx, id),
                LockWait::Wait => {
                    let wait = self.wait(LOCK_TIMEOUT, |state| match state.try_lock(tx, id) {
                        Some(false) => None,
                        found => Some(found),
                    });
                    wait.await.ok_or(Trouble::LockTimeout)?
                }
            };
            match is_locked {
                Some(true) => locked.push(id),
                Some(false) => {}
                None if self.state().is_open(tx) => {}
                None => return Err(Trouble::Lost),
            }
        }
        Ok(locked)
    }

    /// Inserts messages at the ends of sessions that the transaction has locked.
    async fn insert(&self, tx: u64, plan: Vec<(Uuid, Vec<ChatRow>)>) -> Result<AppendedRows, Trouble> {
        for (session_id, rows) in &plan {
            for row in rows {
                // A key of a transaction that hasn't ended is waited for.
                let key = self.wait(DEADLOCK_TIMEOUT, |state| state.reserve(tx, row.id, *session_id));
                key.await.unwrap_or(Err(Trouble::Deadlock))?;
            }
        }
        self.state().insert(tx, plan)
    }

    pub(super) fn commit(&self, tx: u64) -> Result<(), Trouble> {
        let result = self.state().commit(tx);
        self.0.changed.notify_waiters();
        result
    }

    /// Sends something to the server and waits for the answer, with what happens on the way. What the server does,
    /// it does also when its client is gone. `tx` ends when the connection is lost; sooner or later.
    async fn call<T: Send + 'static>(
        &self,
        tx: u64,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (fate, way, silence) = self.state().fate();
        let kills = self.state().kills;
        let killed = self.wait(PATIENCE, |state| (state.kills > kills).then_some(()));
        let on_its_way = UnsentCall(self, tx);
        time::sleep(way).await;
        std::mem::forget(on_its_way);
        let answer = match fate {
            Fate::Answered => self.serve(tx, Duration::ZERO, work),
            Fate::Aborted => {
                self.abort(tx);
                return Err(Trouble::Deadlock);
            }
            Fate::LostBefore => {
                self.abandon(tx);
                time::sleep(silence).await;
                return Err(Trouble::Lost);
            }
            Fate::LostAfter(pause) => {
                drop(self.serve(tx, pause, work));
                time::sleep(silence).await;
                return Err(Trouble::Lost);
            }
        };
        tokio::select! {
            biased;
            _ = killed => Err(Trouble::Lost),
            answer = answer => {
                time::sleep(way).await;
                answer.unwrap_or(Err(Trouble::Lost))
            }
        }
    }

    /// Runs what was sent, whether or not somebody waits for it. A failure ends the transaction, and so does, later,
    /// a client that is gone.
    fn serve<T: Send + 'static>(
        &self,
        tx: u64,
        pause: Duration,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, Trouble>> {
        let (reply, answer) = oneshot::channel();
        let world = self.clone();
        tokio::spawn(async move {
            time::sleep(pause).await;
            let result = work.await;
            if result.is_err() {
                world.abort(tx);
            }
            if reply.send(result).is_err() {
                world.abandon(tx);
            }
        });
        answer
    }

    /// A transaction whose client is gone ends, at the latest when the server has been told to wait no longer.
    fn abandon(&self, tx: u64) {
        let world = self.clone();
        let pause = self.state().idleness();
        // There is none when a schedule has ended.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                time::sleep(pause).await;
                world.abort(tx);
            });
        }
    }

    /// A new connection, or a transaction on one.
    async fn connected(&self) -> Result<u64, Trouble> {
        self.wait(CONNECT_FOR, |state| (!state.is_down).then(|| state.begin()))
            .await
            .ok_or(Trouble::Down)
    }
}

/// A unit's messages under these row ids. Their places are given when they are stored.
fn rows(unit: &Unit, row_ids: impl IntoIterator<Item = Uuid>) -> (Uuid, Vec<ChatRow>) {
    let rows = unit.messages.iter().zip(row_ids).map(|(message, id)| ChatRow {
        id,
        message_id: message.id,
        seq: 0,
        content: message.content.clone(),
        created_at: Timestamp::UNIX_EPOCH,
    });
    (unit.session_id, rows.collect())
}

/// A call whose client may be gone before it has been sent.
struct UnsentCall<'a>(&'a World, u64);

impl Drop for UnsentCall<'_> {
    fn drop(&mut self) {
        self.0.abandon(self.1);
    }
}

impl Database for World {
    type Failure = Trouble;
    type Tx = OpenTx;

    async fn append(&self, units: &[&Unit]) -> Result<AppendedRows, Trouble> {
        let tx = self.connected().await?;
        let plan: Vec<_> = units
            .iter()
            .map(|unit| rows(unit, unit.messages.iter().map(|message| message.id)))
            .collect();
        let world = self.clone();
        let work = async move {
            let ids: Vec<Uuid> = plan.iter().map(|(session_id, _)| *session_id).collect();
            let mut locked: HashSet<Uuid> = world.lock(tx, &ids, LockWait::Skip).await?.into_iter().collect();
            locked.retain(|id| !world.state().has_given_ids(*id));
            let pause = world.state().work();
            time::sleep(pause).await;
            let plan = plan
                .into_iter()
                .filter(|(session_id, _)| locked.contains(session_id));
            let appended = world.insert(tx, plan.collect()).await?;
            world.commit(tx)?;
            Ok(appended)
        };
        self.call(tx, work).await
    }

    async fn raise_last_seq(&self, units: &[&Unit]) -> Result<(), Trouble> {
        let tx = self.connected().await?;
        let world = self.clone();
        let ids: Vec<Uuid> = units.iter().map(|unit| unit.session_id).collect();
        let work = async move {
            for id in world.lock(tx, &ids, LockWait::Wait).await? {
                world.state().raise_last_seq(id);
            }
            world.commit(tx)
        };
        self.call(tx, work).await
    }

    async fn begin(&self) -> Result<OpenTx, Trouble> {
        let tx = self.connected().await?;
        let open = OpenTx {
            world: self.clone(),
            tx,
            has_ended: false,
        };
        self.call(tx, async { Ok(()) }).await?;
        Ok(open)
    }
}

/// A transaction, as its client has it.
pub(super) struct OpenTx {
    world: World,
    tx: u64,
    has_ended: bool,
}

impl Drop for OpenTx {
    fn drop(&mut self) {
        if !self.has_ended {
            self.world.abandon(self.tx);
        }
    }
}

impl Transaction for OpenTx {
    type Failure = Trouble;

    async fn lock(
        &self,
        units: &[&Unit],
        lock_wait: LockWait,
    ) -> Result<HashMap<Uuid, LockedSession>, Trouble> {
        let ids: Vec<Uuid> = units.iter().map(|unit| unit.session_id).collect();
        let (world, tx) = (self.world.clone(), self.tx);
        let work = async move {
            let locked = world.lock(tx, &ids, lock_wait).await?;
            Ok(world.state().sessions(&locked))
        };
        self.world.call(tx, work).await
    }

    async fn look_up(&self, units: &[&Unit]) -> Result<IdLookup, Trouble> {
        let wanted: Vec<WantedMessage> = units
            .iter()
            .enumerate()
            .flat_map(|(u, unit)| {
                unit.messages
                    .iter()
                    .enumerate()
                    .map(move |(m, message)| WantedMessage {
                        place: (u, m),
                        session_id: unit.session_id,
                        id: message.id,
                        content: message.content.clone(),
                    })
            })
            .collect();
        let world = self.world.clone();
        let work = async move { Ok(world.state().look_up(&wanted)) };
        self.world.call(self.tx, work).await
    }

    async fn insert(&self, insertions: &[Insertion<'_>]) -> Result<AppendedRows, Trouble> {
        let plan = insertions
            .iter()
            .map(|insertion| rows(insertion.unit, insertion.row_ids.iter().copied()))
            .collect();
        let (world, tx) = (self.world.clone(), self.tx);
        self.world
            .call(tx, async move { world.insert(tx, plan).await })
            .await
    }

    async fn end<T: Send>(mut self, result: Result<T, Trouble>) -> Result<T, Trouble> {
        let value = result?;
        let (world, tx) = (self.world.clone(), self.tx);
        // Whatever becomes of it: a lost COMMIT isn't taken back.
        self.has_ended = true;
        self.world.call(tx, async move { world.commit(tx) }).await?;
        Ok(value)
    }
}
