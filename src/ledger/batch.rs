//! The arrays of the append statement.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::Unit;
use crate::{domain::message::NewMessage, statements::append::AppendCited};

/// Units that are stored by one statement. Units of one session must have callers who see alike.
#[derive(Default)]
pub(super) struct Batch<'a> {
    places: HashMap<Uuid, usize>,
    sessions: SessionArrays<'a>,
    messages: MessageArrays<'a>,
    citations: CitationArrays<'a>,
    optimistic: bool,
}

#[derive(Default)]
struct SessionArrays<'a> {
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
struct MessageArrays<'a> {
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
struct CitationArrays<'a> {
    places: Vec<i64>,
    messages: Vec<Uuid>,
    imported_at: Vec<Option<Timestamp>>,
    documents: Vec<&'a str>,
    chunks: Vec<&'a str>,
    scores: Vec<f64>,
    indexes: Vec<i32>,
}

impl<'a> Batch<'a> {
    /// A batch of which nobody has looked up what is stored.
    pub(super) fn optimistic() -> Self {
        Batch {
            optimistic: true,
            ..Batch::default()
        }
    }

    /// Adds a unit, whose messages are stored under these ids.
    pub(super) fn add(&mut self, unit: &'a Unit, row_ids: impl IntoIterator<Item = Uuid>) {
        let place = self.place(unit);
        for (message, row_id) in unit.messages.iter().zip(row_ids) {
            self.add_message(place, message, row_id);
        }
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

    fn add_message(&mut self, place: usize, message: &'a NewMessage, id: Uuid) {
        let sql_place = as_i64(place + 1);
        let given_id = (id != message.id).then_some(message.id);
        let sessions = &mut self.sessions;
        sessions.counts[place] += 1;
        sessions.cited[place] += as_i64(message.citations.len());
        sessions.timed[place] |= message.created_at.is_none();
        sessions.given[place] |= given_id.is_some();
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
        messages.given_ids.push(given_id);

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

    /// Whether any message has citations.
    pub(super) fn has_citations(&self) -> bool {
        !self.citations.places.is_empty()
    }

    /// The statement that stores it.
    pub(super) fn append(&self) -> AppendCited<'_> {
        let (sessions, messages, citations) = (&self.sessions, &self.messages, &self.citations);
        AppendCited {
            session_ids: &sessions.ids,
            tenants: &sessions.tenants,
            users: &sessions.users,
            counts: &sessions.counts,
            cited: &sessions.cited,
            timed: &sessions.timed,
            sessions_imported_at: &sessions.imported_at,
            given: &sessions.given,
            optimistic: self.optimistic,
            places: &messages.places,
            numbers: &messages.numbers,
            ids: &messages.ids,
            roles: &messages.roles,
            contents: &messages.contents,
            selected_texts: &messages.selected,
            metadata: &messages.metadata,
            payloads: &messages.payloads,
            imported_at: &messages.imported_at,
            given_ids: &messages.given_ids,
            citation_places: &citations.places,
            citation_messages: &citations.messages,
            citations_imported_at: &citations.imported_at,
            document_ids: &citations.documents,
            chunk_ids: &citations.chunks,
            scores: &citations.scores,
            indexes: &citations.indexes,
        }
    }
}

/// Places and numbers are below the number of messages in memory.
fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
