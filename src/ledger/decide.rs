//! The decisions of the append path, without a database: what becomes of units, one after the other, given their
//! sessions as they are under their locks and what is stored of their messages.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Outcome, Unit,
    database::{AppendedRows, LockWait},
};
use crate::domain::{Error, Resource, Result, message::Receipt};

/// A session as it is under its lock.
#[derive(Clone, Debug)]
pub(super) struct LockedSession {
    pub(super) tenant: String,
    pub(super) user_id: Option<Uuid>,
    pub(super) last_seq: i64,
}

/// A unit's place among the units, and a message's in its unit.
pub(super) type MessagePlace = (usize, usize);

/// The result of looking up the units' message ids.
#[derive(Clone, Debug, Default)]
pub(super) struct IdLookup {
    /// Messages whose session has a message with their id.
    pub(super) stored: HashMap<MessagePlace, StoredMessage>,
    /// Messages whose id a message of another session has.
    pub(super) elsewhere: HashSet<MessagePlace>,
    /// The row ids that messages get if their own id is taken. All have one.
    pub(super) spare: HashMap<MessagePlace, Uuid>,
}

/// A stored message with an id that a unit names.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredMessage {
    pub(super) seq: i64,
    pub(super) created_at: Timestamp,
    pub(super) deleted: bool,
    /// Whether role, content, selected_text and payload are the unit's.
    pub(super) same: bool,
}

/// A unit that is to be stored, its messages under these row ids.
#[derive(Debug)]
pub(super) struct Insertion<'a> {
    pub(super) unit: &'a Unit,
    pub(super) row_ids: Vec<Uuid>,
}

/// The decisions about units: rows to insert, and, when it is known where they are stored, everybody's outcome.
pub(super) struct Decisions<'a> {
    units: &'a [&'a Unit],
    insertions: Vec<Insertion<'a>>,
    /// One a unit.
    each: Vec<Decision>,
}

enum Decision {
    /// The unit's session isn't there or isn't the caller's, or it is held by somebody else.
    Skip,
    Reject(Error),
    /// The unit is stored by the insertion of this number.
    Insert(usize),
    /// All messages of the unit are stored, or will be by earlier units of this batch.
    Repeat(Vec<RepeatedMessage>),
}

#[derive(Clone, Copy)]
enum RepeatedMessage {
    Stored { seq: i64, created_at: Timestamp },
    Earlier(MessagePlace),
}

/// Decides what becomes of units, in the order given. `sessions` are those that exist and, where `lock_wait` says so,
/// that nobody else has locked.
pub(super) fn decide<'a>(
    units: &'a [&'a Unit],
    lock_wait: LockWait,
    sessions: HashMap<Uuid, LockedSession>,
    lookup: &IdLookup,
) -> Decisions<'a> {
    let mut decider = Decider {
        units,
        lock_wait,
        sessions,
        lookup,
        insertions: Vec::new(),
        accepted: HashMap::new(),
        taken: HashMap::new(),
    };
    let each = (0..units.len()).map(|u| decider.decide(u)).collect();
    Decisions {
        units,
        insertions: decider.insertions,
        each,
    }
}

impl<'a> Decisions<'a> {
    /// The units that are to be stored.
    pub(super) fn insertions(&self) -> &[Insertion<'a>] {
        &self.insertions
    }

    /// The outcome of each unit, now that the insertions are stored; `None` of those that were skipped.
    pub(super) fn outcomes(self, appended: &AppendedRows) -> Vec<Option<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(self.units.len());
        for (unit, decision) in self.units.iter().zip(self.each) {
            let outcome = match decision {
                Decision::Skip => None,
                Decision::Reject(error) => Some(Err(error)),
                Decision::Insert(number) => {
                    let receipts = self
                        .insertions
                        .get(number)
                        .and_then(|insertion| appended.receipts(unit, insertion.row_ids.iter().copied()));
                    // The session was there, and it is locked.
                    Some(receipts.ok_or(Error::Internal))
                }
                Decision::Repeat(repeated) => Some(repeat(unit, &repeated, &outcomes)),
            };
            outcomes.push(outcome);
        }
        outcomes
    }
}

struct Decider<'a, 'k> {
    units: &'a [&'a Unit],
    lock_wait: LockWait,
    /// The sessions as they will be with the units that have been accepted.
    sessions: HashMap<Uuid, LockedSession>,
    lookup: &'k IdLookup,
    insertions: Vec<Insertion<'a>>,
    /// The places of the accepted messages, by session and id.
    accepted: HashMap<(Uuid, Uuid), MessagePlace>,
    /// The session that has an id first, in this batch.
    taken: HashMap<Uuid, Uuid>,
}

impl Decider<'_, '_> {
    fn decide(&mut self, u: usize) -> Decision {
        let unit = self.units[u];
        // One that another unit's caller sees, and this one's doesn't, takes the way of one that isn't there.
        let session = self.sessions.get(&unit.session_id);
        if session.is_none_or(|session| !session.is_visible_to(unit)) {
            return match self.lock_wait {
                LockWait::Skip => Decision::Skip,
                LockWait::Wait => Decision::Reject(Error::NotFound(Resource::Session)),
            };
        }
        if has_an_id_twice(unit) {
            return Decision::Reject(Error::MessageIdReused("the batch has a message id twice"));
        }
        // Duplicates first: a retry of an append that was right must not fail because it succeeded.
        match self.repeated(u) {
            Err(error) => return Decision::Reject(error),
            Ok(repeated) if repeated.len() == unit.messages.len() => return Decision::Repeat(repeated),
            Ok(repeated) if !repeated.is_empty() => {
                return Decision::Reject(Error::MessageIdReused(
                    "some of the batch's message ids are stored already, and others aren't",
                ));
            }
            Ok(_) => {}
        }
        self.accept(u)
    }

    /// The messages of a unit that are stored already, or accepted earlier.
    fn repeated(&self, u: usize) -> Result<Vec<RepeatedMessage>> {
        const REUSED: Error = Error::MessageIdReused(
            "this message id is stored with another role, content, selected_text or payload",
        );
        let unit = self.units[u];
        let mut repeated = Vec::new();
        for (m, message) in unit.messages.iter().enumerate() {
            if let Some(stored) = self.lookup.stored.get(&(u, m)) {
                if stored.deleted {
                    return Err(Error::MessageDeleted);
                }
                if !stored.same {
                    return Err(REUSED);
                }
                repeated.push(RepeatedMessage::Stored {
                    seq: stored.seq,
                    created_at: stored.created_at,
                });
            } else if let Some(&place) = self.accepted.get(&(unit.session_id, message.id)) {
                if message.identity() != self.units[place.0].messages[place.1].identity() {
                    return Err(REUSED);
                }
                repeated.push(RepeatedMessage::Earlier(place));
            }
        }
        Ok(repeated)
    }

    fn accept(&mut self, u: usize) -> Decision {
        let unit = self.units[u];
        let Some(session) = self.sessions.get_mut(&unit.session_id) else {
            return Decision::Reject(Error::NotFound(Resource::Session));
        };
        if unit
            .expected_last_seq
            .is_some_and(|expected| expected != session.last_seq)
        {
            return Decision::Reject(Error::SequenceConflict {
                last_seq: session.last_seq,
            });
        }
        session.last_seq += i64::try_from(unit.messages.len()).unwrap_or(i64::MAX);
        for (m, message) in unit.messages.iter().enumerate() {
            self.accepted.insert((unit.session_id, message.id), (u, m));
        }
        let row_ids = (0..unit.messages.len()).map(|m| self.row_id(u, m)).collect();
        self.insertions.push(Insertion { unit, row_ids });
        Decision::Insert(self.insertions.len() - 1)
    }

    /// The id under which a message is stored: its own, unless a message of another session has it, in the table or
    /// in this batch.
    fn row_id(&mut self, u: usize, m: usize) -> Uuid {
        let unit = self.units[u];
        let id = unit.messages[m].id;
        let first = *self.taken.entry(id).or_insert(unit.session_id);
        let is_taken = self.lookup.elsewhere.contains(&(u, m)) || first != unit.session_id;
        let spare = self.lookup.spare.get(&(u, m)).filter(|_| is_taken);
        spare.copied().unwrap_or(id)
    }
}

impl LockedSession {
    fn is_visible_to(&self, unit: &Unit) -> bool {
        *unit.caller.tenant == *self.tenant
            && unit.caller.end_user.is_none_or(|user| Some(user) == self.user_id)
    }
}

/// Requests are checked for it, and imports aren't.
fn has_an_id_twice(unit: &Unit) -> bool {
    let mut ids = HashSet::new();
    !unit.messages.iter().all(|message| ids.insert(message.id))
}

fn repeat(unit: &Unit, repeated: &[RepeatedMessage], outcomes: &[Option<Outcome>]) -> Outcome {
    let receipts = unit.messages.iter().zip(repeated).map(|(message, repeated)| {
        let (seq, created_at) = match *repeated {
            RepeatedMessage::Stored { seq, created_at } => (seq, created_at),
            RepeatedMessage::Earlier((u, m)) => {
                // An earlier unit that was accepted has a receipt for each message.
                let outcome = outcomes.get(u).and_then(Option::as_ref);
                let receipts = outcome.and_then(|outcome| outcome.as_ref().ok());
                let receipt = receipts
                    .and_then(|receipts| receipts.get(m))
                    .ok_or(Error::Internal)?;
                (receipt.seq, receipt.created_at)
            }
        };
        Ok(Receipt {
            message_id: message.id,
            session_id: unit.session_id,
            seq,
            created_at,
            // An id that this server has just made up was stored by this very request, whose first reply
            // was lost on the way from the database.
            deduplicated: message.id_is_given,
        })
    });
    receipts.collect()
}
