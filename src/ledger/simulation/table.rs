//! A table of messages with its keys, on which decisions are carried out at once.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::state::row_id;
use crate::ledger::{
    Unit,
    database::{AppendedRow, AppendedRows},
    decide::{IdLookup, Insertion, LockedSession, StoredMessage},
};

/// The sessions' counters and owners, and the messages.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedTable {
    pub(super) sessions: HashMap<Uuid, LockedSession>,
    pub(super) rows: Vec<TableRow>,
}

#[derive(Clone, Debug)]
pub(super) struct TableRow {
    pub(super) id: Uuid,
    pub(super) session_id: Uuid,
    pub(super) message_id: Uuid,
    pub(super) seq: i64,
    pub(super) content: String,
    pub(super) is_deleted: bool,
}

impl KeyedTable {
    /// Looks up what is stored of the units' messages.
    pub(super) fn look_up(&self, units: &[&Unit]) -> IdLookup {
        let mut lookup = IdLookup::default();
        for (u, unit) in units.iter().enumerate() {
            for (m, message) in unit.messages.iter().enumerate() {
                lookup.spare.insert((u, m), row_id(unit.session_id, message.id));
                for row in &self.rows {
                    if row.session_id == unit.session_id && row.message_id == message.id {
                        let stored = StoredMessage {
                            seq: row.seq,
                            created_at: Timestamp::UNIX_EPOCH,
                            deleted: row.is_deleted,
                            same: row.content == message.content,
                        };
                        lookup.stored.insert((u, m), stored);
                    } else if row.id == message.id {
                        lookup.elsewhere.insert((u, m));
                    }
                }
            }
        }
        lookup
    }

    /// Stores messages. Keys are the table's, and whoever violates one has decided wrongly.
    pub(super) fn insert(&mut self, insertions: &[Insertion<'_>]) -> AppendedRows {
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
                self.rows.push(TableRow {
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
