//! The slow path: under the sessions' locks, decides unit by unit, in order, what becomes of each.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    Outcome, Unit,
    batch::{APPEND, Appended, Batch, Rows},
    lookup::Known,
};
use crate::{
    domain::{Error, Resource, Result, message::Receipt},
    postgres::{Db, DbError, Sql, Tx},
};

/// In id order, as every statement that locks sessions does. Whose they are is looked at afterwards: one
/// batch may hold units of different callers.
macro_rules! lock {
    ($locked:literal) => {
        Sql {
            text: concat!(
                "SELECT id, tenant_id, user_id, last_seq FROM chat_sessions WHERE id = ANY($1)
                ORDER BY id FOR NO KEY UPDATE",
                $locked
            ),
            params: &[Type::UUID_ARRAY],
        }
    };
}

pub(super) static LOCK: Sql = lock!("");
pub(super) static LOCK_FREE: Sql = lock!(" SKIP LOCKED");

/// A session as it is under its lock, and as it will be with the units that have been accepted.
struct Session {
    tenant: String,
    user_id: Option<Uuid>,
    last_seq: i64,
}

impl Session {
    fn is_visible_to(&self, unit: &Unit) -> bool {
        *unit.caller.tenant == *self.tenant
            && unit.caller.end_user.is_none_or(|user| Some(user) == self.user_id)
    }
}

/// What becomes of a unit.
enum Decision {
    /// Its session isn't there, or it is held by somebody else.
    Skip,
    Reject(Error),
    Insert(Rows),
    /// All its messages are stored, or will be by earlier units of this batch.
    Repeat(Vec<Repeated>),
}

#[derive(Clone, Copy)]
enum Repeated {
    Stored {
        seq: i64,
        created_at: jiff::Timestamp,
    },
    /// The unit, and the place in it.
    Earlier(usize, usize),
}

/// What to do about a session that somebody else has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Leave its units alone.
    Skip,
    /// Wait for it, as long as the transaction's lock_timeout lets us.
    Wait,
}

/// Appends units in one transaction. `None` is a unit that was skipped.
pub(super) async fn append_slowly(
    db: &Db,
    units: &[&Unit],
    deadline: Option<tokio::time::Instant>,
    held: Held,
) -> Result<Vec<Option<Outcome>>, DbError> {
    let tx = db.begin(deadline).await?;
    let outcomes = append_in(&tx, units, held).await;
    tx.end(outcomes).await
}

async fn append_in(tx: &Tx, units: &[&Unit], held: Held) -> Result<Vec<Option<Outcome>>, DbError> {
    let mut deciding = Deciding {
        units,
        held,
        sessions: lock(tx, units, held).await?,
        known: Known::read(tx, units).await?,
        batch: Batch::default(),
        accepted: HashMap::new(),
        taken: HashMap::new(),
    };
    let decisions: Vec<Decision> = (0..units.len()).map(|u| deciding.decide(u)).collect();

    let batch = deciding.batch;
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(units.len());
    let appended = if batch.is_empty() {
        None
    } else {
        Some(Appended::read(&tx.query(&APPEND, &batch.params()).await?))
    };
    for (unit, decision) in units.iter().zip(decisions) {
        let outcome = match decision {
            Decision::Skip => None,
            Decision::Reject(error) => Some(Err(error)),
            Decision::Insert(rows) => {
                let receipts = appended
                    .as_ref()
                    .and_then(|appended| appended.receipts(batch.ids(rows), unit));
                // The session was there, and it is locked.
                Some(receipts.ok_or(Error::Internal))
            }
            Decision::Repeat(repeated) => Some(repeat(unit, &repeated, &outcomes)),
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

async fn lock(tx: &Tx, units: &[&Unit], held: Held) -> Result<HashMap<Uuid, Session>, DbError> {
    let mut ids: Vec<Uuid> = units.iter().map(|unit| unit.session_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let sql = match held {
        Held::Skip => &LOCK_FREE,
        Held::Wait => &LOCK,
    };
    let rows = tx.query(sql, &[&ids]).await?;
    let sessions = rows.iter().map(|row| {
        let session = Session {
            tenant: row.get(1),
            user_id: row.get(2),
            last_seq: row.get(3),
        };
        (row.get(0), session)
    });
    Ok(sessions.collect())
}

struct Deciding<'a> {
    units: &'a [&'a Unit],
    held: Held,
    sessions: HashMap<Uuid, Session>,
    known: Known,
    batch: Batch<'a>,
    /// Where the accepted messages are, by session and id.
    accepted: HashMap<(Uuid, Uuid), (usize, usize)>,
    /// Which session has an id first, in this batch.
    taken: HashMap<Uuid, Uuid>,
}

impl Deciding<'_> {
    fn decide(&mut self, u: usize) -> Decision {
        let unit = self.units[u];
        match self.sessions.get(&unit.session_id) {
            None if self.held == Held::Skip => return Decision::Skip,
            Some(session) if session.is_visible_to(unit) => {}
            _ => return Decision::Reject(Error::NotFound(Resource::Session)),
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
    fn repeated(&self, u: usize) -> Result<Vec<Repeated>> {
        const REUSED: Error = Error::MessageIdReused(
            "this message id is stored with another role, content, selected_text or payload",
        );
        let unit = self.units[u];
        let mut repeated = Vec::new();
        for (m, message) in unit.messages.iter().enumerate() {
            if let Some(stored) = self.known.stored.get(&(u, m)) {
                if stored.deleted {
                    return Err(Error::MessageDeleted);
                }
                if !stored.same {
                    return Err(REUSED);
                }
                repeated.push(Repeated::Stored {
                    seq: stored.seq,
                    created_at: stored.created_at,
                });
            } else if let Some(&(earlier, place)) = self.accepted.get(&(unit.session_id, message.id)) {
                if !message.same_payload(&self.units[earlier].messages[place]) {
                    return Err(REUSED);
                }
                repeated.push(Repeated::Earlier(earlier, place));
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
        let row_ids = self.known.row_ids(u, unit, &mut self.taken);
        Decision::Insert(self.batch.add(unit, &row_ids))
    }
}

fn repeat(unit: &Unit, repeated: &[Repeated], outcomes: &[Option<Outcome>]) -> Outcome {
    let receipts = unit.messages.iter().zip(repeated).map(|(message, repeated)| {
        let (seq, created_at) = match *repeated {
            Repeated::Stored { seq, created_at } => (seq, created_at),
            Repeated::Earlier(u, m) => {
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
