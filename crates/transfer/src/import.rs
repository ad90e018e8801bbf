//! The import: reads a chunk while the one before it is stored. All ids are the source's or follow from its
//! keys, and nothing that is stored is changed, so it can be stopped at any moment and run again.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    check::{RecordFaults, RecordRules},
    progress::TransferProgress,
    record::{Record, RecordKind, SessionRecord, merged},
    report::{ImportReport, Notice},
    source::{Source, SourceItem, key_of},
    tally::{self, Tally},
    target::ImportTarget,
};
use chatledger::{
    auth::{Caller, is_affordable},
    domain::{Limits, session},
    migrations::Scope,
};
use chatledger_postgres::{Db, DbError};

/// A chunk has at most this many records: as many rows as a lane commits together.
const CHUNK_RECORDS: usize = 1000;
/// A chunk has about so many bytes, too.
const CHUNK_BYTES: usize = 8 << 20;
/// The number of sessions that get their time of change by one statement.
const SESSIONS_AT_A_TIME: usize = 1000;

/// An import under way.
pub struct ImportRun {
    pub(super) target: ImportTarget,
    scope: Scope,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
    /// The report of what the import did so far.
    pub report: ImportReport,
    /// Users who are somebody else in the target, since that one has their email.
    merged: HashMap<Uuid, Uuid>,
    pub(super) sessions: HashMap<Uuid, SourceSession>,
}

/// A session that the source has.
#[derive(Clone, Copy, Default)]
pub(crate) struct SourceSession {
    pub(super) tally: Tally,
    updated_at: Option<Timestamp>,
    /// The time of a message that has none: the one before it, or the session's own.
    pub(super) last_time: Option<Timestamp>,
}

/// The records that are stored together.
#[derive(Default)]
struct Chunk {
    items: Vec<SourceItem>,
    bytes: usize,
}

impl ImportRun {
    /// An import into a database that has the scope's schema.
    #[must_use]
    pub fn new(db: Db, scope: Scope, limits: Limits, report: ImportReport) -> ImportRun {
        ImportRun {
            target: ImportTarget {
                db,
                caller: Caller::local_service(None),
            },
            scope,
            limits,
            now: Timestamp::now(),
            report,
            merged: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    /// Imports everything, and compares.
    ///
    /// # Errors
    /// The source can't be read, or the target can't be written. What was stored until then is kept.
    pub async fn run(&mut self, source: &mut Source, progress: &TransferProgress) -> anyhow::Result<()> {
        let mut chunk = fill(source).await?;
        while !chunk.items.is_empty() {
            let (stored, next) = tokio::join!(self.store(chunk, progress), fill(source));
            stored?;
            chunk = next?;
            progress.at(source);
        }
        if let Source::Tables(tables) = source {
            let lost = tables.lost_citations().await?;
            self.report.of(RecordKind::Citation).read += lost;
            for _ in 0..lost {
                self.report.note(
                    Notice::Skipped,
                    RecordKind::Citation,
                    "",
                    "its message does not exist",
                    "",
                )?;
            }
        }
        progress.comparing();
        self.finish_sessions().await?;
        if self.scope.has_chat() {
            let tallies = self.sessions.iter().map(|(id, seen)| (*id, seen.tally)).collect();
            self.report.comparison =
                Some(tally::compare(&self.target.db, &self.target.caller, &tallies).await?);
        }
        self.report.finish()
    }

    async fn finish_sessions(&self) -> Result<(), DbError> {
        let mut sessions: Vec<(Uuid, Option<Timestamp>, i64)> = self
            .sessions
            .iter()
            .map(|(id, seen)| (*id, seen.updated_at, seen.tally.messages))
            .collect();
        // The sessions come in id order, as in everything that locks sessions.
        sessions.sort_unstable_by_key(|(id, ..)| *id);
        for sessions in sessions.chunks(SESSIONS_AT_A_TIME) {
            self.target.set_updated_at(sessions).await?;
        }
        Ok(())
    }

    async fn store(&mut self, chunk: Chunk, progress: &TransferProgress) -> anyhow::Result<()> {
        let (mut documents, mut users, mut profiles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sessions, mut messages) = (Vec::new(), Vec::new());
        for item in chunk.items {
            let record = match item {
                SourceItem::Record(record) => record,
                SourceItem::Lost { kind, key, reason } => {
                    self.report.of(kind).read += 1;
                    self.report.note(Notice::Skipped, kind, &key, &reason, "")?;
                    continue;
                }
            };
            self.report.of(record.kind()).read += 1;
            let kept = match record.kind() {
                RecordKind::User | RecordKind::Profile => self.scope.has_auth(),
                _ => self.scope.has_chat(),
            };
            if !kept {
                self.report.note(
                    Notice::Skipped,
                    record.kind(),
                    &key_of(&record),
                    "--scope leaves it out",
                    "",
                )?;
                continue;
            }
            match record {
                Record::Document(record) => documents.push(record),
                Record::User(record) => users.push(record),
                Record::Profile(record) => profiles.push(record),
                Record::Session(record) => sessions.push(record),
                Record::Message(record) => messages.push(*record),
            }
        }
        self.store_documents(documents)
            .await
            .context("storing documents")?;
        self.store_users(users).await.context("storing users")?;
        self.store_profiles(profiles).await.context("storing profiles")?;
        self.store_sessions(sessions).await.context("storing sessions")?;
        let many = messages.len() as u64;
        self.store_messages(messages).await.context("storing messages")?;
        progress.add(many);
        Ok(())
    }

    fn rules(&self) -> RecordRules<'_> {
        RecordRules {
            limits: &self.limits,
            now: self.now,
        }
    }

    /// A note of what of a record has no place here.
    pub(super) fn note_left_out(
        &mut self,
        kind: RecordKind,
        key: &str,
        names: &[String],
    ) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let reason = format!("there is no place for {}", names.join(", "));
        self.report.note(Notice::Changed, kind, key, &reason, "")
    }

    fn skip(&mut self, kind: RecordKind, key: &str, wrong: &RecordFaults) -> anyhow::Result<()> {
        self.report
            .note(Notice::Skipped, kind, key, &wrong.reason(), &wrong.detail())
    }

    async fn store_documents(&mut self, records: Vec<super::record::DocumentRecord>) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for record in records {
            self.note_left_out(RecordKind::Document, &record.id, &record.left_out)?;
            match self.rules().document(&record) {
                Ok(document) => rows.push((record, document)),
                Err(wrong) => self.skip(RecordKind::Document, &record.id, &wrong)?,
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let stored = self.target.documents(&rows).await?.len();
        self.count(RecordKind::Document, rows.len(), stored);
        Ok(())
    }

    fn count(&mut self, kind: RecordKind, all: usize, stored: usize) {
        let counts = self.report.of(kind);
        counts.stored += stored as u64;
        counts.already += (all - stored.min(all)) as u64;
    }

    async fn store_users(&mut self, records: Vec<super::record::UserRecord>) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for mut record in records {
            self.note_left_out(RecordKind::User, &record.id.to_string(), &record.left_out)?;
            if record
                .hashed_password
                .as_deref()
                .is_some_and(|hash| !is_affordable(hash))
            {
                record.hashed_password = None;
                let reason = "its password hash asks for more work than a server does; it was left out";
                self.report.note(
                    Notice::Changed,
                    RecordKind::User,
                    &record.id.to_string(),
                    reason,
                    "",
                )?;
            }
            match self.rules().user(&record) {
                Ok(()) => rows.push(record),
                Err(wrong) => self.skip(RecordKind::User, &record.id.to_string(), &wrong)?,
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let stored = self.target.users(&rows).await?;
        let others: Vec<&_> = rows.iter().filter(|user| !stored.contains(&user.id)).collect();
        let who = if others.is_empty() {
            HashMap::new()
        } else {
            self.target.occupants(&others).await?
        };
        let mut already = 0;
        for user in others {
            match who.get(&user.id) {
                Some(&id) if id == user.id => already += 1,
                Some(&id) => {
                    self.merged.insert(user.id, id);
                    let reason = "another user has this email; what is this user's becomes that one's";
                    let detail = format!("user {id}");
                    self.report.note(
                        Notice::Skipped,
                        RecordKind::User,
                        &user.id.to_string(),
                        reason,
                        &detail,
                    )?;
                }
                None => {
                    let reason = "another user has this id or external id";
                    self.report.note(
                        Notice::Skipped,
                        RecordKind::User,
                        &user.id.to_string(),
                        reason,
                        "",
                    )?;
                }
            }
        }
        let counts = self.report.of(RecordKind::User);
        counts.stored += stored.len() as u64;
        counts.already += already;
        Ok(())
    }

    async fn store_profiles(&mut self, records: Vec<super::record::ProfileRecord>) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for mut record in records {
            record.user_id = *self.merged.get(&record.user_id).unwrap_or(&record.user_id);
            match self.rules().profile(&record) {
                Ok(fields) => rows.push((record, fields)),
                Err(wrong) => self.skip(RecordKind::Profile, &record.user_id.to_string(), &wrong)?,
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = rows.iter().map(|(record, _)| record.user_id).collect();
        let known = self.target.known_users(&ids).await?;
        let stored = self.target.profiles(&rows).await?.len();
        let there = ids.iter().filter(|id| known.contains(id)).count();
        self.count(RecordKind::Profile, there, stored);
        for id in ids.iter().filter(|id| !known.contains(id)) {
            self.report.note(
                Notice::Skipped,
                RecordKind::Profile,
                &id.to_string(),
                "its user is not there",
                "",
            )?;
        }
        Ok(())
    }

    async fn store_sessions(&mut self, records: Vec<SessionRecord>) -> anyhow::Result<()> {
        let known = self.owners(&records).await?;
        let mut rows = Vec::new();
        for mut record in records {
            self.settle_owner(&mut record, &known)?;
            self.shorten_title(&mut record)?;
            match self.rules().session(&record) {
                Ok(metadata) => rows.push((record, metadata)),
                Err(wrong) => self.skip(RecordKind::Session, &record.id.to_string(), &wrong)?,
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let stored = self.target.sessions(&rows).await?;
        let ids: Vec<Uuid> = rows.iter().map(|(record, _)| record.id).collect();
        let there = self.target.last_seqs(&ids).await?;
        for (record, _) in &rows {
            if !there.contains_key(&record.id) {
                let reason = "another tenant has this id";
                self.report.note(
                    Notice::Skipped,
                    RecordKind::Session,
                    &record.id.to_string(),
                    reason,
                    "",
                )?;
                continue;
            }
            self.count(RecordKind::Session, 1, usize::from(stored.contains(&record.id)));
            let seen = SourceSession {
                updated_at: record.updated_at,
                last_time: record.created_at,
                ..SourceSession::default()
            };
            self.sessions.entry(record.id).or_insert(seen);
        }
        Ok(())
    }

    /// A title that is too long is cut; all of it is in the metadata then.
    fn shorten_title(&mut self, record: &mut SessionRecord) -> anyhow::Result<()> {
        let cut = |title: &str| {
            title
                .char_indices()
                .nth(session::MAX_TITLE)
                .map(|(at, _)| title[..at].to_owned())
        };
        let Some(short) = record.title.as_deref().and_then(cut) else {
            return Ok(());
        };
        let whole = serde_json::value::to_raw_value(&record.title)?;
        record.metadata = merged(record.metadata.take(), [("title".to_owned(), whole)].into());
        record.title = Some(short);
        let reason = "its title is too long: it was cut, and is whole in the metadata";
        self.report.note(
            Notice::Changed,
            RecordKind::Session,
            &record.id.to_string(),
            reason,
            "",
        )
    }

    /// The users of these sessions that there are.
    async fn owners(&self, records: &[SessionRecord]) -> anyhow::Result<HashSet<Uuid>> {
        let mut ids: Vec<Uuid> = records.iter().filter_map(|record| record.user_id).collect();
        ids.extend(ids.clone().iter().filter_map(|id| self.merged.get(id)));
        // The ids of users are the application's own in a scope without users.
        if ids.is_empty() || !self.scope.has_auth() {
            return Ok(ids.into_iter().collect());
        }
        Ok(self.target.known_users(&ids).await?)
    }

    /// A session whose user isn't there becomes nobody's, and says in its metadata whose it was.
    fn settle_owner(&mut self, record: &mut SessionRecord, known: &HashSet<Uuid>) -> anyhow::Result<()> {
        let Some(user) = record.user_id else { return Ok(()) };
        let owner = *self.merged.get(&user).unwrap_or(&user);
        if known.contains(&owner) {
            record.user_id = Some(owner);
            return Ok(());
        }
        record.user_id = None;
        let was = serde_json::value::to_raw_value(&user)?;
        record.metadata = merged(record.metadata.take(), [("user_id".to_owned(), was)].into());
        let reason = "its user is not there: it is nobody's now, and names the user in its metadata";
        self.report.note(
            Notice::Changed,
            RecordKind::Session,
            &record.id.to_string(),
            reason,
            &format!("user {user}"),
        )
    }
}

async fn fill(source: &mut Source) -> anyhow::Result<Chunk> {
    let mut chunk = Chunk::default();
    while chunk.items.len() < CHUNK_RECORDS && chunk.bytes < CHUNK_BYTES {
        let Some(item) = source.next().await? else { break };
        if let SourceItem::Record(Record::Message(message)) = &item {
            chunk.bytes += message.weight();
        }
        chunk.items.push(item);
    }
    Ok(chunk)
}
