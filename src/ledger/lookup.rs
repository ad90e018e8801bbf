//! What is stored already of the messages of a batch, read after their sessions have been locked: a
//! snapshot from before the wait for the locks would miss what a concurrent retry has stored.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Unit;
use crate::postgres::{DbError, Sql, Time, Tx};

pub(super) static LOOKUP: Sql = Sql {
    text: include_str!("sql/lookup.sql"),
    params: &[
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::BYTEA_ARRAY,
    ],
};

/// A stored message with an id that a unit names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) seq: i64,
    pub(super) created_at: Timestamp,
    pub(super) deleted: bool,
    /// Whether role, content, selected_text and payload are the unit's.
    pub(super) same: bool,
}

/// What is known of the messages of all units, by unit and place within it.
#[derive(Default)]
pub(super) struct Known {
    pub(super) stored: HashMap<(usize, usize), Stored>,
    /// The row ids that messages get if their own id is taken.
    spare: HashMap<(usize, usize), Uuid>,
    /// The messages whose id a message of another session has.
    elsewhere: HashSet<(usize, usize)>,
}

impl Known {
    pub(super) async fn read(tx: &Tx, units: &[&Unit]) -> Result<Known, DbError> {
        let places: Vec<(usize, usize)> = units
            .iter()
            .enumerate()
            .flat_map(|(u, unit)| (0..unit.messages.len()).map(move |m| (u, m)))
            .collect();
        let messages = || places.iter().map(|&(u, m)| &units[u].messages[m]);
        let sessions: Vec<Uuid> = places.iter().map(|&(u, _)| units[u].session_id).collect();
        let ids: Vec<Uuid> = messages().map(|message| message.id).collect();
        let roles: Vec<&str> = messages().map(|message| message.role.as_str()).collect();
        let contents: Vec<&str> = messages().map(|message| message.content.as_str()).collect();
        let selected: Vec<Option<&str>> = messages()
            .map(|message| message.selected_text.as_deref())
            .collect();
        let payloads: Vec<Option<&[u8]>> = messages().map(|message| message.payload.as_deref()).collect();
        let rows = tx
            .query(
                &LOOKUP,
                &[&sessions, &ids, &roles, &contents, &selected, &payloads],
            )
            .await?;

        let mut known = Known::default();
        for row in &rows {
            let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
            let Some(&place) = places.get(place) else { continue };
            known.spare.insert(place, row.get(6));
            match row.get::<_, Option<bool>>(1) {
                Some(true) => {
                    let stored = Stored {
                        seq: row.get(2),
                        created_at: row.get::<_, Time>(3).0,
                        deleted: row.get(4),
                        same: row.get(5),
                    };
                    known.stored.insert(place, stored);
                }
                Some(false) => {
                    known.elsewhere.insert(place);
                }
                None => {}
            }
        }
        Ok(known)
    }

    /// The row ids, by message id, for those messages of unit `u` whose id another session uses: in the
    /// table, or in this batch (`taken`, which learns of this unit's).
    pub(super) fn row_ids(
        &self,
        u: usize,
        unit: &Unit,
        taken: &mut HashMap<Uuid, Uuid>,
    ) -> HashMap<Uuid, Uuid> {
        let mut row_ids = HashMap::new();
        for (m, message) in unit.messages.iter().enumerate() {
            let first = *taken.entry(message.id).or_insert(unit.session_id);
            let taken_elsewhere = self.elsewhere.contains(&(u, m)) || first != unit.session_id;
            if taken_elsewhere && let Some(&spare) = self.spare.get(&(u, m)) {
                row_ids.insert(message.id, spare);
            }
        }
        row_ids
    }
}
