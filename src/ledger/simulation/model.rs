//! A model of what the ledger should do, told in the shortest way: one unit after the other, on a list of messages for
//! each session. The decisions are tried beside it, over a table that has keys, with everything that may come between.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::table::{KeyedTable, TableRow};
use crate::{
    domain::{Error, Resource},
    ledger::{Outcome, Unit, database::LockWait},
};

/// The sessions, each with its owner and its messages, whose seqs are their places.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) chats: BTreeMap<Uuid, ModelChat>,
}

#[derive(Debug, Default)]
pub(super) struct ModelChat {
    pub(super) user_id: Option<Uuid>,
    pub(super) messages: Vec<ModelMessage>,
}

#[derive(Debug)]
pub(super) struct ModelMessage {
    pub(super) id: Uuid,
    pub(super) content: String,
    pub(super) is_deleted: bool,
}

/// The answer that a unit's caller should hear: for each message its seq, and whether it was stored before.
pub(super) type ExpectedOutcome = Result<Vec<(i64, bool)>, Error>;

impl Model {
    /// Appends a unit.
    pub(super) fn append(&mut self, unit: &Unit) -> ExpectedOutcome {
        let not_found = Error::NotFound(Resource::Session);
        let chat = self.chats.get_mut(&unit.session_id).ok_or(not_found.clone())?;
        if unit
            .caller
            .end_user
            .is_some_and(|user| Some(user) != chat.user_id)
        {
            return Err(not_found);
        }
        let mut repeated = Vec::new();
        for message in &unit.messages {
            let place = chat.messages.iter().position(|stored| stored.id == message.id);
            let Some(place) = place else { continue };
            let stored = &chat.messages[place];
            if stored.is_deleted {
                return Err(Error::MessageDeleted);
            }
            if stored.content != message.content {
                return Err(Error::MessageIdReused("other content"));
            }
            repeated.push((seq(place), true));
        }
        if repeated.len() == unit.messages.len() {
            return Ok(repeated);
        }
        if !repeated.is_empty() {
            return Err(Error::MessageIdReused("a part of it"));
        }
        let last_seq = seq(chat.messages.len()) - 1;
        if unit
            .expected_last_seq
            .is_some_and(|expected| expected != last_seq)
        {
            return Err(Error::SequenceConflict { last_seq });
        }
        chat.messages
            .extend(unit.messages.iter().map(|message| ModelMessage {
                id: message.id,
                content: message.content.clone(),
                is_deleted: false,
            }));
        Ok((1..)
            .take(unit.messages.len())
            .map(|n| (last_seq + n, false))
            .collect())
    }

    /// Panics where a table doesn't hold what the model does.
    pub(super) fn assert_is(&self, table: &KeyedTable) {
        for (session_id, chat) in &self.chats {
            let mut rows: Vec<&TableRow> = table
                .rows
                .iter()
                .filter(|row| row.session_id == *session_id)
                .collect();
            rows.sort_by_key(|row| row.seq);
            let rows: Vec<_> = rows
                .iter()
                .map(|row| (row.seq, row.message_id, row.content.as_str()))
                .collect();
            let messages = chat.messages.iter().enumerate();
            let messages: Vec<_> = messages
                .map(|(place, message)| (seq(place), message.id, message.content.as_str()))
                .collect();
            assert_eq!(rows, messages);
        }
    }
}

fn seq(place: usize) -> i64 {
    i64::try_from(place).expect("a short list") + 1
}

/// Panics where an outcome isn't what the model says. Of errors the kind is compared; of units that may be skipped,
/// that they were.
pub(super) fn assert_agrees(outcome: Option<&Outcome>, expected: &ExpectedOutcome, lock_wait: LockWait) {
    match (outcome, expected) {
        (None, Err(Error::NotFound(_))) => assert_eq!(lock_wait, LockWait::Skip),
        (Some(Ok(receipts)), Ok(expected)) => {
            let receipts: Vec<_> = receipts
                .iter()
                .map(|receipt| (receipt.seq, receipt.deduplicated))
                .collect();
            assert_eq!(&receipts, expected);
        }
        (Some(Err(Error::MessageIdReused(_))), Err(Error::MessageIdReused(_))) => {}
        (Some(Err(error)), Err(expected)) => assert_eq!(format!("{error:?}"), format!("{expected:?}")),
        other => panic!("{other:?}"),
    }
}
