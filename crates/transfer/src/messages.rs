//! The import's messages: what is stored already is looked up, the rest goes through the ledger.

use std::collections::{HashMap, HashSet};

use anyhow::anyhow;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    check::RecordRules,
    import::ImportRun,
    record::{CitationRecord, MessageRecord, RecordKind},
    report::Notice,
    target::MessageMatch,
};
use chatledger::{
    auth::Caller,
    domain::{Error, message::NewMessage},
    ledger::{self, Unit},
};

/// The number of characters of a bad document_id that are shown.
const SHOWN: usize = 60;
/// The most messages of a unit, as of a request.
const UNIT_MESSAGES: usize = 500;

/// A message that may be stored.
struct StorableMessage {
    session_id: Uuid,
    message: NewMessage,
    deleted_at: Option<Timestamp>,
}

impl ImportRun {
    /// Stores messages, in the order given.
    pub(super) async fn store_messages(&mut self, records: Vec<MessageRecord>) -> anyhow::Result<()> {
        let mut ids: Vec<Uuid> = records.iter().map(|record| record.session_id).collect();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let last_seqs = self.target.last_seqs(&ids).await?;
        let mut ready = Vec::new();
        let mut given = HashSet::new();
        for mut record in records {
            self.leave_bad_citations(&mut record)?;
            ready.extend(self.checked(&record, &last_seqs, &mut given)?);
        }
        let stored = self.stored(&ready, &last_seqs).await?;
        let mut units: Vec<Unit> = Vec::new();
        let mut deleted = Vec::new();
        for (place, ready) in ready.into_iter().enumerate() {
            let stored = stored.get(&place).copied();
            self.tally(&ready, stored)?;
            if let Some(time) = ready.deleted_at
                && !stored.is_some_and(|stored| stored.deleted)
            {
                deleted.push((ready.session_id, ready.message.id, time));
            }
            if stored.is_none() {
                add_to(&mut units, &self.target.caller, ready);
            }
        }
        self.append(&units).await?;
        if !deleted.is_empty() {
            self.target.mark_deleted(&deleted).await?;
        }
        Ok(())
    }

    /// A citation that can't be kept is left out; the message stays.
    fn leave_bad_citations(&mut self, record: &mut MessageRecord) -> anyhow::Result<()> {
        self.report.of(RecordKind::Citation).read += record.citations.len() as u64;
        let key = format!("of message {} of session {}", record.id, record.session_id);
        for citation in &record.citations {
            self.note_left_out(RecordKind::Citation, &key, &citation.left_out)?;
        }
        let max = self.limits.max_source_id_bytes;
        let is_bad = |citation: &mut CitationRecord| {
            let chunk = citation.chunk_id.as_ref().map_or(0, String::len);
            citation.document_id.is_empty() || citation.document_id.len() > max || chunk > max
        };
        for citation in record.citations.extract_if(.., is_bad) {
            let reason = "it names no document, or its document_id or chunk_id is too long";
            let detail = citation.document_id.chars().take(SHOWN).collect::<String>();
            self.report
                .note(Notice::Skipped, RecordKind::Citation, &key, reason, &detail)?;
        }
        Ok(())
    }

    /// The message, if it may be stored.
    fn checked(
        &mut self,
        record: &MessageRecord,
        last_seqs: &HashMap<Uuid, i64>,
        given: &mut HashSet<(Uuid, Uuid)>,
    ) -> anyhow::Result<Option<StorableMessage>> {
        let session_id = record.session_id;
        let key = format!("{} of session {session_id}", record.id);
        let mut wrong = |reason: &str, detail: &str| {
            self.report.of(RecordKind::Citation).skipped += record.citations.len() as u64;
            self.report
                .note(Notice::Skipped, RecordKind::Message, &key, reason, detail)
        };
        if !last_seqs.contains_key(&session_id) {
            return wrong("its session is not there", "").map(|()| None);
        }
        if !given.insert((session_id, record.id)) {
            return wrong("its id came before in this session", "").map(|()| None);
        }
        let seen = self.sessions.entry(session_id).or_default();
        let default = seen.last_time.unwrap_or(self.now);
        let rules = RecordRules {
            limits: &self.limits,
            now: self.now,
        };
        let message = match rules.message(record, default) {
            Ok(message) => message,
            Err(found) => return wrong(&found.reason(), &found.detail()).map(|()| None),
        };
        seen.last_time = message.created_at;
        if message.created_at != record.created_at {
            let reason = match record.created_at {
                None => "it has no time: it got that of the message before it",
                Some(_) => "its time is in the future: it got the present",
            };
            self.report
                .note(Notice::Changed, RecordKind::Message, &key, reason, "")?;
        }
        Ok(Some(StorableMessage {
            session_id,
            message,
            deleted_at: record.deleted_at,
        }))
    }

    /// The messages that are stored already, by place: asked only where the session has messages.
    async fn stored(
        &self,
        ready: &[StorableMessage],
        last_seqs: &HashMap<Uuid, i64>,
    ) -> anyhow::Result<HashMap<usize, MessageMatch>> {
        let (mut places, mut messages) = (Vec::new(), Vec::new());
        for (
            place,
            StorableMessage {
                session_id, message, ..
            },
        ) in ready.iter().enumerate()
        {
            if last_seqs.get(session_id).is_some_and(|last| *last > 0) {
                places.push(place);
                messages.push((*session_id, message.id, message.identity().digest()));
            }
        }
        if messages.is_empty() {
            return Ok(HashMap::new());
        }
        let stored = self.target.stored(&messages).await?;
        Ok(stored
            .into_iter()
            .map(|(at, stored)| (places[at], stored))
            .collect())
    }

    fn tally(&mut self, ready: &StorableMessage, stored: Option<MessageMatch>) -> anyhow::Result<()> {
        let message = &ready.message;
        let citations = message.citations.len();
        let tally = &mut self.sessions.entry(ready.session_id).or_default().tally;
        let deleted = ready.deleted_at.is_some() || stored.is_some_and(|stored| stored.deleted);
        if deleted {
            tally.skip();
        } else {
            tally.add(&message.identity(), citations);
        }
        let Some(stored) = stored else { return Ok(()) };
        if deleted || stored.same {
            self.report.of(RecordKind::Message).already += 1;
            self.report.of(RecordKind::Citation).already += citations as u64;
            return Ok(());
        }
        let key = format!("{} of session {}", message.id, ready.session_id);
        self.report.of(RecordKind::Citation).skipped += citations as u64;
        self.report.note(
            Notice::Conflict,
            RecordKind::Message,
            &key,
            "it is stored with other content, which is kept",
            "",
        )
    }

    async fn append(&mut self, units: &[Unit]) -> anyhow::Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        let borrowed: Vec<&Unit> = units.iter().collect();
        let outcomes = ledger::append(&self.target.db, &borrowed).await;
        for (unit, outcome) in units.iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    let citations: usize = unit.messages.iter().map(|message| message.citations.len()).sum();
                    self.report.of(RecordKind::Message).stored += unit.messages.len() as u64;
                    self.report.of(RecordKind::Citation).stored += citations as u64;
                }
                // Another writer is at work in this session.
                Err(Error::MessageIdReused(why)) => {
                    for message in &unit.messages {
                        let key = format!("{} of session {}", message.id, unit.session_id);
                        self.report
                            .note(Notice::Conflict, RecordKind::Message, &key, why, "")?;
                    }
                }
                Err(error) => return Err(anyhow!("session {}: {error}", unit.session_id)),
            }
        }
        Ok(())
    }
}

/// A message goes behind those of the same session, as long as there is room in the unit.
fn add_to(units: &mut Vec<Unit>, caller: &Caller, ready: StorableMessage) {
    if let Some(unit) = units.last_mut()
        && unit.session_id == ready.session_id
        && unit.messages.len() < UNIT_MESSAGES
    {
        unit.messages.push(ready.message);
        return;
    }
    units.push(Unit {
        caller: caller.clone(),
        session_id: ready.session_id,
        messages: vec![ready.message],
        expected_last_seq: None,
    });
}
