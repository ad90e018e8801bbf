//! The arrays of the append statement, and the receipts that its result stands for.

use std::{collections::HashMap, ops::Range};

use jiff::Timestamp;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::Unit;
use crate::{
    domain::message::{NewMessage, Receipt},
    postgres::{Sql, Time},
};

pub(super) static APPEND: Sql = Sql {
    text: include_str!("sql/append.sql"),
    params: &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::BOOL_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::BYTEA_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::INT4_ARRAY,
        Type::BOOL_ARRAY,
        Type::BOOL,
        Type::INT8_ARRAY,
    ],
};

/// Units that are stored by one statement. Units of one session must have callers who see alike.
#[derive(Default)]
pub(super) struct Batch<'a> {
    places: HashMap<Uuid, usize>,
    sessions: Sessions<'a>,
    messages: Messages<'a>,
    citations: Citations<'a>,
    optimistic: bool,
}

#[derive(Default)]
struct Sessions<'a> {
    ids: Vec<Uuid>,
    tenants: Vec<&'a str>,
    users: Vec<Option<Uuid>>,
    counts: Vec<i64>,
    cited: Vec<i64>,
    timed: Vec<bool>,
    imported_at: Vec<Option<Timestamp>>,
    given: Vec<bool>,
}

#[derive(Default)]
struct Messages<'a> {
    places: Vec<i64>,
    numbers: Vec<i64>,
    ids: Vec<Uuid>,
    roles: Vec<&'static str>,
    contents: Vec<&'a str>,
    selected: Vec<Option<&'a str>>,
    metadata: Vec<&'a str>,
    payloads: Vec<Option<&'a [u8]>>,
    imported_at: Vec<Option<Timestamp>>,
    given_ids: Vec<Option<Uuid>>,
}

#[derive(Default)]
struct Citations<'a> {
    places: Vec<i64>,
    messages: Vec<Uuid>,
    imported_at: Vec<Option<Timestamp>>,
    documents: Vec<&'a str>,
    chunks: Vec<&'a str>,
    scores: Vec<f64>,
    indexes: Vec<i32>,
}

/// Which of a batch's messages are a unit's, to find its receipts by.
pub(super) type Rows = Range<usize>;

/// What the statement has stored: the seq and the time of each row, by its id.
pub(super) struct Appended {
    rows: HashMap<Uuid, (i64, Timestamp)>,
}

impl<'a> Batch<'a> {
    /// A batch of which nobody has looked up what is stored.
    pub(super) fn optimistic() -> Self {
        Batch {
            optimistic: true,
            ..Batch::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.ids.is_empty()
    }

    /// Adds a unit. `row_ids` says which of its messages are stored under another id than their own.
    pub(super) fn add(&mut self, unit: &'a Unit, row_ids: &HashMap<Uuid, Uuid>) -> Rows {
        let place = self.place(unit);
        let first = self.messages.ids.len();
        for message in &unit.messages {
            self.add_message(place, message, row_ids.get(&message.id).copied());
        }
        first..self.messages.ids.len()
    }

    fn place(&mut self, unit: &'a Unit) -> usize {
        let sessions = &mut self.sessions;
        *self.places.entry(unit.session_id).or_insert_with(|| {
            sessions.ids.push(unit.session_id);
            sessions.tenants.push(&unit.caller.tenant);
            sessions.users.push(unit.caller.end_user);
            sessions.counts.push(0);
            sessions.cited.push(0);
            sessions.timed.push(false);
            sessions.imported_at.push(None);
            sessions.given.push(false);
            sessions.ids.len() - 1
        })
    }

    fn add_message(&mut self, place: usize, message: &'a NewMessage, row_id: Option<Uuid>) {
        let sql_place = as_i64(place + 1);
        let id = row_id.unwrap_or(message.id);
        let sessions = &mut self.sessions;
        sessions.counts[place] += 1;
        sessions.cited[place] += as_i64(message.citations.len());
        sessions.timed[place] |= message.created_at.is_none();
        sessions.given[place] |= row_id.is_some();
        sessions.imported_at[place] = sessions.imported_at[place].max(message.created_at);

        let messages = &mut self.messages;
        messages.places.push(sql_place);
        messages.numbers.push(sessions.counts[place]);
        messages.ids.push(id);
        messages.roles.push(message.role.as_str());
        messages.contents.push(&message.content);
        messages.selected.push(message.selected_text.as_deref());
        messages.metadata.push(message.metadata.as_str());
        messages.payloads.push(message.payload.as_deref());
        messages.imported_at.push(message.created_at);
        messages.given_ids.push(row_id.map(|_| message.id));

        for citation in &message.citations {
            let citations = &mut self.citations;
            citations.places.push(sql_place);
            citations.messages.push(id);
            citations.imported_at.push(message.created_at);
            citations.documents.push(&citation.document_id);
            citations.chunks.push(&citation.chunk_id);
            citations.scores.push(citation.score);
            citations.indexes.push(citation.index);
        }
    }

    /// The parameters of [`APPEND`].
    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 26] {
        let (s, m, c) = (&self.sessions, &self.messages, &self.citations);
        [
            &s.ids,
            &s.tenants,
            &s.users,
            &s.counts,
            &s.timed,
            &s.imported_at,
            &m.places,
            &m.numbers,
            &m.ids,
            &m.roles,
            &m.contents,
            &m.selected,
            &m.metadata,
            &m.payloads,
            &m.imported_at,
            &m.given_ids,
            &c.places,
            &c.messages,
            &c.imported_at,
            &c.documents,
            &c.chunks,
            &c.scores,
            &c.indexes,
            &s.given,
            &self.optimistic,
            &s.cited,
        ]
    }

    /// The ids of the rows of a unit.
    pub(super) fn ids(&self, rows: Rows) -> &[Uuid] {
        self.messages.ids.get(rows).unwrap_or_default()
    }
}

impl Appended {
    /// Reads the rows that [`APPEND`] answers.
    pub(super) fn read(rows: &[Row]) -> Appended {
        Appended {
            rows: rows
                .iter()
                .map(|row| (row.get(0), (row.get(1), row.get::<_, Time>(2).0)))
                .collect(),
        }
    }

    /// The receipts of a unit, of what is stored under its row ids; `None` where its session was skipped.
    pub(super) fn receipts(&self, ids: &[Uuid], unit: &Unit) -> Option<Vec<Receipt>> {
        let receipts = ids.iter().zip(&unit.messages).map(|(id, message)| {
            let &(seq, created_at) = self.rows.get(id)?;
            Some(Receipt {
                message_id: message.id,
                session_id: unit.session_id,
                seq,
                created_at,
                deduplicated: false,
            })
        });
        receipts.collect()
    }
}

/// Places and numbers are below the number of messages in memory.
fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
