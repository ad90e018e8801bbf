//! A table of messages with its keys, on which decisions are carried out at once.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::state::row_id;
use crate::ledger::{
    Unit,
    database::{Appended, AppendedRow},
    decide::{Insertion, Known, Session, Stored},
};

/// The sessions' counters and owners, and the messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) sessions: HashMap<Uuid, Session>,
    pub(super) rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) session_id: Uuid,
    pub(super) message_id: Uuid,
    pub(super) seq: i64,
    pub(super) content: String,
    pub(super) is_deleted: bool,
}

impl Table {
    /// What is stored of the units' messages.
    pub(super) fn known(&self, units: &[&Unit]) -> Known {
        let mut known = Known::default();
        for (u, unit) in units.iter().enumerate() {
            for (m, message) in unit.messages.iter().enumerate() {
                known.spare.insert((u, m), row_id(unit.session_id, message.id));
                for row in &self.rows {
                    if row.session_id == unit.session_id && row.message_id == message.id {
                        let stored = Stored {
                            seq: row.seq,
                            created_at: Timestamp::UNIX_EPOCH,
                            deleted: row.is_deleted,
                            same: row.content == message.content,
                        };
                        known.stored.insert((u, m), stored);
                    } else if row.id == message.id {
                        known.elsewhere.insert((u, m));
                    }
                }
            }
        }
        known
    }

    /// Stores messages. Keys are the table's, and whoever violates one has decided wrongly.
    pub(super) fn insert(&mut self, insertions: &[Insertion<'_>]) -> Appended {
        let mut appended = Vec::new();
        for insertion in insertions {
            let session_id = insertion.unit.session_id;
            for (message, &id) in insertion.unit.messages.iter().zip(&insertion.row_ids) {
                let session = self.sessions.get_mut(&session_id).expect("a session that exists");
                session.last_seq += 1;
                let seq = session.last_seq;
                assert!(self.rows.iter().all(|row| row.id != id), "the primary key");
                appended.push(AppendedRow {
                    id,
                    session_id,
                    seq,
                    created_at: Timestamp::UNIX_EPOCH,
                });
                self.rows.push(Row {
                    id,
                    session_id,
                    message_id: message.id,
                    seq,
                    content: message.content.clone(),
                    is_deleted: false,
                });
            }
        }
        appended.into_iter().collect()
    }
}
