//! The contents of the simulated database, and what its statements do to it, each in one moment.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::database::ATTEMPT_LIMIT;
use crate::{
    domain::{Error, Shortage},
    ledger::{
        database::{AppendedRow, AppendedRows, DatabaseFailure, Remedy},
        decide::{IdLookup, LockedSession, StoredMessage},
    },
};

/// The content of messages that somebody's own trigger refuses.
pub(super) const POISON: &str = "poison";
/// The content of messages that somebody's own INSERT has stored.
pub(super) const BY_HAND: &str = "by hand";
/// The time after which PostgreSQL lets go of the locks of somebody who has fallen silent, in milliseconds.
const IDLE_IN_TRANSACTION: u64 = 10_000;

/// The content of messages for which somebody's own trigger wants a lock that isn't to be had.
pub(super) const ENTANGLED: &str = "entangled";

/// The whole simulated database.
pub(super) struct WorldState {
    pub(super) chats: BTreeMap<Uuid, Chat>,
    /// The owner of each row id, also rows of transactions that haven't ended.
    ids: HashMap<Uuid, (Uuid, Option<u64>)>,
    open: BTreeMap<u64, Vec<(Uuid, ChatRow)>>,
    last_tx: u64,
    /// How often the server has been killed.
    pub(super) kills: u64,
    rng: fastrand::Rng,
    /// The share of calls that fail, in percent.
    pub(super) trouble: u8,
    pub(super) disk_is_full: bool,
    pub(super) is_down: bool,
    began: Instant,
}

/// A session, and its messages by seq.
#[derive(Default)]
pub(super) struct Chat {
    pub(super) last_seq: i64,
    pub(super) rows: Vec<ChatRow>,
    has_given_ids: bool,
    locked_by: Option<u64>,
}

/// A stored message.
#[derive(Clone, Debug)]
pub(super) struct ChatRow {
    pub(super) id: Uuid,
    pub(super) message_id: Uuid,
    pub(super) seq: i64,
    pub(super) content: String,
    pub(super) created_at: Timestamp,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is gone, and nobody knows what happened.
    Lost,
    /// No connection is to be had.
    Down,
    Deadlock,
    DiskFull,
    IdStored,
    SeqTaken,
    Refused,
    LockTimeout,
}

/// The fate of a call.
pub(super) enum Fate {
    Answered,
    /// The call never arrives.
    LostBefore,
    /// The call takes effect, a while later, and the answer is lost.
    LostAfter(Duration),
    Aborted,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl DatabaseFailure for Trouble {
    fn remedy(&self) -> Remedy {
        match self {
            Trouble::Lost | Trouble::Deadlock => Remedy::Again,
            Trouble::Down | Trouble::DiskFull => Remedy::GiveUp,
            Trouble::IdStored => Remedy::Slowly,
            Trouble::SeqTaken => Remedy::RaiseLastSeq,
            Trouble::Refused => Remedy::Divide,
            Trouble::LockTimeout => Remedy::Blocked,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Trouble::Lost | Trouble::Down | Trouble::DiskFull => Error::DatabaseUnavailable,
            Trouble::Refused => Error::DatabaseRefused { constraint: None },
            Trouble::Deadlock | Trouble::LockTimeout | Trouble::IdStored | Trouble::SeqTaken => {
                Error::Overloaded(Shortage::Queue)
            }
        }
    }
}

impl WorldState {
    pub(super) fn new(seed: u64, sessions: &[Uuid], trouble: u8) -> WorldState {
        WorldState {
            chats: sessions.iter().map(|&id| (id, Chat::default())).collect(),
            ids: HashMap::new(),
            open: BTreeMap::new(),
            last_tx: 0,
            kills: 0,
            rng: fastrand::Rng::with_seed(seed),
            trouble,
            disk_is_full: false,
            is_down: false,
            began: Instant::now(),
        }
    }

    pub(super) fn begin(&mut self) -> u64 {
        self.last_tx += 1;
        self.open.insert(self.last_tx, Vec::new());
        self.last_tx
    }

    /// Whether the transaction has the session's lock now; `None` where the session or the transaction isn't there.
    pub(super) fn try_lock(&mut self, tx: u64, id: Uuid) -> Option<bool> {
        if !self.open.contains_key(&tx) {
            return None;
        }
        let chat = self.chats.get_mut(&id)?;
        let owner = *chat.locked_by.get_or_insert(tx);
        Some(owner == tx)
    }

    /// Takes a key; `None` while a transaction that hasn't ended has it.
    pub(super) fn reserve(&mut self, tx: u64, id: Uuid, session_id: Uuid) -> Option<Result<(), Trouble>> {
        if !self.is_open(tx) {
            return Some(Err(Trouble::Lost));
        }
        match self.ids.get(&id) {
            Some((_, Some(other))) if *other != tx => None,
            Some(_) => Some(Err(Trouble::IdStored)),
            None => {
                self.ids.insert(id, (session_id, Some(tx)));
                Some(Ok(()))
            }
        }
    }

    pub(super) fn insert(
        &mut self,
        tx: u64,
        plan: Vec<(Uuid, Vec<ChatRow>)>,
    ) -> Result<AppendedRows, Trouble> {
        if self.disk_is_full {
            return Err(Trouble::DiskFull);
        }
        let now = self.now();
        let Some(open) = self.open.get_mut(&tx) else {
            return Err(Trouble::Lost);
        };
        let mut next: HashMap<Uuid, (i64, Timestamp)> = HashMap::new();
        let mut appended = Vec::new();
        for (session_id, rows) in plan {
            let chat = &self.chats[&session_id];
            assert_eq!(chat.locked_by, Some(tx), "rows for a session that isn't locked");
            for mut row in rows {
                let last = chat
                    .rows
                    .last()
                    .map_or(Timestamp::UNIX_EPOCH, |row| row.created_at);
                let (seq, at) = next.entry(session_id).or_insert((chat.last_seq, now.max(last)));
                *seq += 1;
                *at += Duration::from_micros(1);
                (row.seq, row.created_at) = (*seq, *at);
                match row.content.as_str() {
                    POISON => return Err(Trouble::Refused),
                    ENTANGLED => return Err(Trouble::LockTimeout),
                    _ if chat.rows.iter().any(|other| other.seq == row.seq) => return Err(Trouble::SeqTaken),
                    _ => {}
                }
                appended.push(AppendedRow {
                    id: row.id,
                    session_id,
                    seq: row.seq,
                    created_at: row.created_at,
                });
                open.push((session_id, row));
            }
        }
        Ok(appended.into_iter().collect())
    }

    pub(super) fn commit(&mut self, tx: u64) -> Result<(), Trouble> {
        let rows = self.open.remove(&tx).ok_or(Trouble::Lost)?;
        for (session_id, row) in rows {
            self.ids.insert(row.id, (session_id, None));
            let chat = self.chats.get_mut(&session_id).expect("sessions stay");
            chat.has_given_ids |= row.id != row.message_id;
            if row.content != BY_HAND {
                chat.last_seq = row.seq;
            }
            chat.rows.push(row);
        }
        self.release(tx);
        Ok(())
    }

    pub(super) fn is_open(&self, tx: u64) -> bool {
        self.open.contains_key(&tx)
    }

    pub(super) fn has_given_ids(&self, session_id: Uuid) -> bool {
        self.chats[&session_id].has_given_ids
    }

    pub(super) fn raise_last_seq(&mut self, session_id: Uuid) {
        if let Some(chat) = self.chats.get_mut(&session_id) {
            chat.last_seq = chat.last_seq.max(chat.rows.last().map_or(0, |row| row.seq));
        }
    }

    /// How long a statement works.
    pub(super) fn work(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(100..20_000))
    }

    /// How long the server waits for somebody who is gone.
    pub(super) fn idleness(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(0..IDLE_IN_TRANSACTION))
    }

    /// Ends all transactions, and takes no new ones.
    pub(super) fn kill(&mut self) {
        self.is_down = true;
        self.kills += 1;
        while let Some((tx, _)) = self.open.pop_first() {
            self.release(tx);
        }
    }

    pub(super) fn abort(&mut self, tx: u64) {
        if self.open.remove(&tx).is_some() {
            self.release(tx);
        }
    }

    fn release(&mut self, tx: u64) {
        self.ids.retain(|_, (_, owner)| *owner != Some(tx));
        for chat in self.chats.values_mut() {
            if chat.locked_by == Some(tx) {
                chat.locked_by = None;
            }
        }
    }

    /// Somebody's own INSERT with a seq by hand, which the counter doesn't hear of.
    pub(super) fn insert_by_hand(&mut self, tx: u64, session_id: Uuid, id: Uuid) {
        let created_at = self.now();
        let Some(open) = self.open.get_mut(&tx) else {
            return;
        };
        let chat = &self.chats[&session_id];
        let last = chat.rows.last().map_or(0, |row| row.seq).max(chat.last_seq);
        self.ids.insert(id, (session_id, Some(tx)));
        open.push((
            session_id,
            ChatRow {
                id,
                message_id: id,
                seq: last + 1,
                content: BY_HAND.to_owned(),
                created_at,
            },
        ));
    }

    /// Microseconds of the schedule's own clock.
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(1_700_000_000_000_000 + elapsed).expect("within a day of it")
    }

    /// The fate of a call, how long its way takes, and how long a lost answer is waited for.
    pub(super) fn fate(&mut self) -> (Fate, Duration, Duration) {
        let rng = &mut self.rng;
        let way = Duration::from_micros(rng.u64(50..3000));
        // A connection that is reset is noticed at once, a silent one isn't.
        let silence = if rng.bool() { Duration::ZERO } else { ATTEMPT_LIMIT };
        let fate = if rng.u8(0..100) >= self.trouble {
            Fate::Answered
        } else {
            match rng.u8(0..4) {
                0 => Fate::LostBefore,
                1 => Fate::LostAfter(Duration::ZERO),
                2 => Fate::LostAfter(Duration::from_millis(rng.u64(0..6000))),
                _ => Fate::Aborted,
            }
        };
        (fate, way, silence)
    }

    pub(super) fn look_up(&self, wanted: &[WantedMessage]) -> IdLookup {
        let mut lookup = IdLookup::default();
        for wanted in wanted {
            let place = wanted.place;
            lookup.spare.insert(place, row_id(wanted.session_id, wanted.id));
            let chat = self.chats.get(&wanted.session_id);
            let row = chat.and_then(|chat| chat.rows.iter().find(|row| row.message_id == wanted.id));
            if let Some(row) = row {
                let stored = StoredMessage {
                    seq: row.seq,
                    created_at: row.created_at,
                    deleted: false,
                    same: row.content == wanted.content,
                };
                lookup.stored.insert(place, stored);
            }
            if let Some((owner, None)) = self.ids.get(&wanted.id)
                && *owner != wanted.session_id
            {
                lookup.elsewhere.insert(place);
            }
        }
        lookup
    }

    pub(super) fn sessions(&self, ids: &[Uuid]) -> HashMap<Uuid, LockedSession> {
        let sessions = ids.iter().map(|id| {
            let session = LockedSession {
                tenant: "default".to_owned(),
                user_id: None,
                last_seq: self.chats[id].last_seq,
            };
            (*id, session)
        });
        sessions.collect()
    }
}

/// A message that is looked up.
pub(super) struct WantedMessage {
    pub(super) place: (usize, usize),
    pub(super) session_id: Uuid,
    pub(super) id: Uuid,
    pub(super) content: String,
}

/// The id that the schema's `message_row_id` gives.
pub(super) fn row_id(session_id: Uuid, id: Uuid) -> Uuid {
    Uuid::new_v5(&session_id, id.as_bytes())
}
