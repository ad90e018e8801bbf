//! The contract's promises, looked at after a schedule.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use uuid::Uuid;

use super::{
    clients::{ClientStream, UnitAttempt},
    database::World,
    state::{BY_HAND, Chat, ChatRow, ENTANGLED, POISON},
};
use crate::domain::{
    Error,
    message::{NewMessage, Receipt},
};

/// The records of what the clients know.
#[derive(Default)]
pub(super) struct ClientRecords {
    pub(super) streams: Vec<ClientStream>,
    pub(super) units: Vec<UnitAttempt>,
}

/// The stored rows, by session and message id.
type RowsById<'a> = HashMap<(Uuid, Uuid), &'a ChatRow>;

/// Panics where a promise is broken, and answers a digest of what is stored.
pub(super) fn check(world: &World, records: &ClientRecords, woken: &HashSet<Uuid>) -> u64 {
    let state = world.state();
    let mut digest = DefaultHasher::new();
    let mut rows = RowsById::new();
    for (&session_id, chat) in &state.chats {
        check_chat(chat);
        for row in &chat.rows {
            (row.seq, row.message_id, row.created_at).hash(&mut digest);
            let twice = rows.insert((session_id, row.message_id), row);
            assert!(twice.is_none(), "a message is stored twice");
        }
    }
    for stream in &records.streams {
        check_stream(stream, &rows, woken);
    }
    for attempt in &records.units {
        check_unit(attempt, &rows, woken);
    }
    check_rivals(&records.units);
    let own: HashSet<Uuid> = own_ids(records).collect();
    let strange = |row: &&ChatRow| row.content != BY_HAND && !own.contains(&row.message_id);
    assert_eq!(
        rows.values().copied().filter(strange).count(),
        0,
        "nobody sent it"
    );
    digest.finish()
}

fn own_ids(records: &ClientRecords) -> impl Iterator<Item = Uuid> {
    let streamed = records.streams.iter().flat_map(|stream| &stream.script);
    let units = records.units.iter().flat_map(|attempt| &attempt.unit.messages);
    streamed
        .map(|entry| entry.message.id)
        .chain(units.map(|message| message.id))
}

/// Seqs without a gap and without a duplicate, in the order of commits, and times that agree with them.
fn check_chat(chat: &Chat) {
    let seqs: Vec<i64> = chat.rows.iter().map(|row| row.seq).collect();
    let expected: Vec<i64> = (1..).take(seqs.len()).collect();
    assert_eq!(seqs, expected, "seqs in the order of their commits");
    assert!(
        chat.rows
            .windows(2)
            .all(|pair| pair[0].created_at < pair[1].created_at),
        "times in the order of seqs"
    );
    for row in &chat.rows {
        assert!(
            row.content != POISON && row.content != ENTANGLED,
            "a refused message is stored"
        );
    }
}

/// Checks that of a stream's entries for a session a prefix is stored, in order; and all of them, if its client came to
/// an end.
fn check_stream(stream: &ClientStream, rows: &RowsById<'_>, woken: &HashSet<Uuid>) {
    let sessions: HashSet<Uuid> = stream.script.iter().map(|entry| entry.session_id).collect();
    for session_id in sessions {
        let entries = stream.script.iter().zip(&stream.outcomes);
        let entries = entries.filter(|(entry, _)| entry.session_id == session_id);
        let mut last = 0;
        let mut is_over = false;
        for (entry, outcome) in entries {
            let row = rows.get(&(session_id, entry.message.id));
            match outcome {
                Some(Ok(receipts)) => check_receipts(
                    std::slice::from_ref(&entry.message),
                    receipts,
                    session_id,
                    rows,
                    woken,
                ),
                Some(Err(error)) => {
                    assert!(entry.message.content == POISON, "refused: {error}");
                    continue;
                }
                None => {
                    assert!(stream.has_left, "an entry that nobody answered");
                    if entry.message.content == POISON {
                        continue;
                    }
                }
            }
            match row {
                Some(row) => {
                    assert!(!is_over, "an entry is stored behind one that isn't");
                    assert!(
                        row.seq > last,
                        "an entry has overtaken one that was sent before it"
                    );
                    last = row.seq;
                }
                None => is_over = true,
            }
        }
    }
}

/// A unit is stored as a whole, with consecutive seqs, or not at all.
fn check_unit(attempt: &UnitAttempt, rows: &RowsById<'_>, woken: &HashSet<Uuid>) {
    let unit = &attempt.unit;
    let stored: Vec<Option<&&ChatRow>> = unit
        .messages
        .iter()
        .map(|message| {
            rows.get(&(unit.session_id, message.id))
                .filter(|row| row.content == message.content)
        })
        .collect();
    let count = stored.iter().flatten().count();
    assert!(count == 0 || count == stored.len(), "a part of a unit is stored");
    let seqs: Vec<i64> = stored.iter().flatten().map(|row| row.seq).collect();
    assert!(
        seqs.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "consecutive seqs"
    );
    match &attempt.outcome {
        Some(Ok(receipts)) => {
            check_receipts(&unit.messages, receipts, unit.session_id, rows, woken);
            if let Some(expected) = unit.expected_last_seq {
                assert_eq!(seqs[0], expected + 1, "the expected last seq");
            }
        }
        Some(Err(error)) => {
            assert_eq!(count, 0, "stored, and yet: {error}");
            let is_expected = match error {
                Error::DatabaseRefused { .. } => {
                    unit.messages.iter().any(|message| message.content == POISON)
                }
                Error::SequenceConflict { .. } => unit.expected_last_seq.is_some(),
                Error::MessageIdReused(_) => true,
                _ => false,
            };
            assert!(is_expected, "a unit failed: {error}");
        }
        None => {
            let is_entangled = unit.messages.iter().any(|message| message.content == ENTANGLED);
            assert!(
                is_entangled,
                "nothing but a lock that isn't to be had stays in a unit's way"
            );
        }
    }
}

/// Units with the same ids for the same session: one of those whose contents differ is stored, and the others fail.
fn check_rivals(units: &[UnitAttempt]) {
    for (n, attempt) in units.iter().enumerate() {
        let Some(Err(Error::MessageIdReused(_))) = attempt.outcome else {
            continue;
        };
        let won = units.iter().enumerate().any(|(other, rival)| {
            other != n
                && rival.unit.session_id == attempt.unit.session_id
                && rival.unit.messages[0].id == attempt.unit.messages[0].id
                && matches!(rival.outcome, Some(Ok(_)))
        });
        assert!(won, "an id was in use by nobody");
    }
}

/// Receipts tell what is stored, and watchers were woken for it.
fn check_receipts(
    messages: &[NewMessage],
    receipts: &[Receipt],
    session_id: Uuid,
    rows: &RowsById<'_>,
    woken: &HashSet<Uuid>,
) {
    assert_eq!(messages.len(), receipts.len(), "a receipt a message");
    assert!(
        woken.contains(&session_id),
        "a session whose watchers weren't woken"
    );
    for (message, receipt) in messages.iter().zip(receipts) {
        let row = rows
            .get(&(session_id, message.id))
            .expect("an acknowledged message is stored");
        assert_eq!(row.content, message.content, "the content");
        let place = (
            receipt.message_id,
            receipt.session_id,
            receipt.seq,
            receipt.created_at,
        );
        assert_eq!(
            place,
            (message.id, session_id, row.seq, row.created_at),
            "a receipt"
        );
    }
}
