//! Messages in the order of a session: pages of them, and whole histories. They stay as they have come from the database,
//! until somebody encodes them: a copy of each text costs as much as PostgreSQL's work for it.

use std::pin::pin;

use uuid::Uuid;

use super::{Store, gate::Passage, internal, message::role, row_count, sql_count};
use crate::{
    auth::Caller,
    domain::{
        Result,
        citation::CitationRef,
        message::{MessageFilter, MessageRange, MessageRef, Role},
        page::MAX_PAGE_CITATIONS,
    },
    statements::{
        Statement, TakeRow, Viewer,
        message::{
            ListAscending, ListDescending, ListLargeAscending, ListLargeDescending, MessagePart,
            MessagePartRow, Read,
        },
    },
};
use chatledger_postgres::{DbError, Rows};

/// The roles of a filter as they are stored; `None` for all.
pub(super) fn role_names(roles: &[Role]) -> Option<Vec<&'static str>> {
    (!roles.is_empty()).then(|| roles.iter().map(|role| role.as_str()).collect())
}

/// A message as it has come from the database: a row, and one for each of its citations.
#[derive(Debug)]
pub struct StoredRows {
    seq: i64,
    rows: Vec<MessagePartRow>,
}

impl StoredRows {
    /// Reads it.
    ///
    /// # Errors
    /// A row that this version doesn't understand.
    pub fn read(&self, session_id: Uuid) -> Result<MessageRef<'_>> {
        let (mut message, mut citations) = (None, Vec::new());
        for row in &self.rows {
            let part = row.read().map_err(DbError::from)?;
            match part.citation_index {
                Some(index) => citations.push(CitationRef {
                    document_id: part.document_id.unwrap_or_default(),
                    chunk_id: part.chunk_id.unwrap_or_default(),
                    score: part.score.unwrap_or_default(),
                    index,
                }),
                None => message = Some(part),
            }
        }
        // They mostly are in this order, by their index.
        citations.sort_by_key(|citation| citation.index);
        let incomplete = |what| internal(format_args!("a message without its {what}"));
        let message: MessagePart<'_> = message.ok_or_else(|| incomplete("row"))?;
        Ok(MessageRef {
            id: message.id.ok_or_else(|| incomplete("id"))?,
            session_id,
            seq: self.seq,
            role: role(message.role.unwrap_or_default())?,
            content: message.content.unwrap_or_default(),
            selected_text: message.selected_text,
            metadata: message.metadata.unwrap_or_default(),
            payload: message.payload,
            created_at: message.created_at.ok_or_else(|| incomplete("time"))?,
            citations,
        })
    }
}

/// A page of messages as it has come from the database.
#[derive(Debug)]
pub struct MessagePage {
    messages: Vec<StoredRows>,
    /// How many messages there were for the page, of which `messages` are the first.
    available: usize,
}

impl MessagePage {
    /// The messages, in the order of the list. What a row takes is given back as soon as it is dropped.
    pub fn into_messages(self) -> impl Iterator<Item = StoredRows> {
        self.messages.into_iter()
    }

    /// How many messages there were for the page, of which its messages are the first.
    #[must_use]
    pub fn available(&self) -> usize {
        self.available
    }
}

/// How a page turned out.
enum ReadPage {
    Whole(MessagePage),
    /// It has messages that are larger than their share.
    Large,
    /// Not even its first message has all its citations.
    ManyCitations,
}

/// Puts the rows of a page together, of which there are `max_parts` at most.
fn page(rows: Vec<MessagePartRow>, max_parts: i64) -> Result<ReadPage> {
    let is_cut = sql_count(rows.len()) == max_parts;
    let (mut messages, mut available) = (Vec::<StoredRows>::new(), 0);
    for row in rows {
        let part = row.read().map_err(DbError::from)?;
        if part.is_left_out {
            return Ok(ReadPage::Large);
        }
        available = part.available.map_or(0, row_count);
        let seq = part.seq;
        match messages.last_mut() {
            Some(last) if last.seq == seq => last.rows.push(row),
            _ => messages.push(StoredRows { seq, rows: vec![row] }),
        }
    }
    let available = available.max(messages.len());
    if is_cut {
        // The last one may have more.
        messages.pop();
        if messages.is_empty() {
            return Ok(ReadPage::ManyCitations);
        }
    }
    Ok(ReadPage::Whole(MessagePage { messages, available }))
}

/// The statement for so many messages of a range, above and below these, and so many bytes.
fn list<'a>(
    range: &MessageRange,
    roles: Option<&'a [&'a str]>,
    (after_seq, before_seq): (i64, i64),
    limit: usize,
    max_bytes: usize,
) -> ListAscending<'a> {
    // One is shown whole, whatever it has.
    let (share, max_parts) = match limit {
        0 | 1 => (usize::MAX, usize::MAX),
        limit => (max_bytes / limit, limit + MAX_PAGE_CITATIONS),
    };
    ListAscending {
        session_id: range.session_id,
        after_seq: range.after_seq.unwrap_or(0).max(after_seq),
        before_seq: range.before_seq.unwrap_or(i64::MAX).min(before_seq),
        roles,
        limit: sql_count(limit),
        max_bytes: sql_count(max_bytes),
        share: sql_count(share),
        max_parts: sql_count(max_parts),
        with_citations: range.with_citations,
        payload_only: range.payload_only,
    }
}

impl Store {
    /// A page of a session's messages, in the order of the pages, of about `max_bytes` at most; one more than the page holds, if
    /// there are as many.
    pub async fn list_messages(
        &self,
        caller: &Caller,
        filter: &MessageFilter,
        max_bytes: usize,
    ) -> Result<MessagePage> {
        let session_id = filter.range.session_id;
        let (mut is_large, mut limit) = (false, row_count(filter.page.fetch()));
        loop {
            let after = filter.page.after.map(|(seq,)| seq);
            let seqs = if filter.descending {
                (0, after.unwrap_or(i64::MAX))
            } else {
                (after.unwrap_or(0), i64::MAX)
            };
            let roles = role_names(&filter.range.roles);
            let list = list(&filter.range, roles.as_deref(), seqs, limit, max_bytes);
            let max_parts = list.max_parts;
            let rows = match (filter.descending, is_large) {
                (false, false) => self.run(caller, &list).await?,
                (true, false) => self.run(caller, &ListDescending(list)).await?,
                (false, true) => self.run(caller, &ListLargeAscending(list)).await?,
                (true, true) => self.run(caller, &ListLargeDescending(list)).await?,
            };
            if rows.is_empty() {
                self.session(caller, session_id).await?;
            }
            match page(rows, max_parts)? {
                ReadPage::Whole(page) if limit == 1 => {
                    // Instead of a larger one, as every page is asked for with one more than it shows: there may be more.
                    break Ok(MessagePage {
                        available: page.available + 1,
                        ..page
                    });
                }
                ReadPage::Whole(page) => break Ok(page),
                ReadPage::Large => is_large = true,
                ReadPage::ManyCitations => limit = 1,
            }
        }
    }

    /// Begins to read a session's messages as of now, in order. The first of them has been read when this returns.
    pub async fn open_history(&self, caller: &Caller, range: MessageRange) -> Result<History> {
        caller.permit(Read::DESCRIPTION.action)?;
        // Most of the rows come behind the caller's deadline: waiting for one has a limit of its own.
        let db = self.db.limited();
        let roles = role_names(&range.roles);
        let list = Read(list(&range, roles.as_deref(), (0, i64::MAX), 0, 0));
        let viewer = Viewer::from(caller);
        let params = list.params(&viewer);
        let begin = async || {
            let passage = self.gate.pass(&db, caller, Read::DESCRIPTION.mode).await?;
            // Followed until its first row: the others come as the client takes them.
            let open = pin!(async {
                let mut rows = db
                    .stream(caller.deadline, &Read::DESCRIPTION.sql, &params)
                    .await?;
                let first = rows.next().await?;
                Ok((rows, first))
            });
            let (rows, first) = Read::DESCRIPTION.follow(open).await?;
            Ok::<_, DbError>(((rows, passage), first))
        };
        let (rows, first) = match begin().await {
            // The connection turned out to be broken, and nobody has seen anything of that moment.
            Err(error) if error.is_unavailable() => begin().await?,
            opened => opened?,
        };
        let mut history = History {
            session_id: range.session_id,
            rows: first.is_some().then_some(rows),
            first: None,
        };
        match first {
            Some(row) => history.first = Some(MessagePartRow::take(row).map_err(DbError::from)?),
            None => drop(self.session(caller, range.session_id).await?),
        }
        Ok(history)
    }
}

/// A session's messages of one moment, while they are read: one statement, whose rows are taken as they come. Dropped before the
/// end, it costs a connection.
pub struct History {
    /// The session.
    pub session_id: Uuid,
    /// The rows to come, and the right to their connection; `None` at the end.
    rows: Option<(Rows, Passage)>,
    /// The first row of the next message.
    first: Option<MessagePartRow>,
}

impl History {
    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<StoredRows>> {
        let Some(first) = self.first.take() else {
            return Ok(None);
        };
        let seq = first.read().map_err(DbError::from)?.seq;
        let mut message = StoredRows {
            seq,
            rows: vec![first],
        };
        while let Some((rows, _)) = &mut self.rows {
            let Some(row) = rows.next().await? else {
                self.rows = None;
                break;
            };
            let row = MessagePartRow::take(row).map_err(DbError::from)?;
            if row.read().map_err(DbError::from)?.seq != seq {
                self.first = Some(row);
                break;
            }
            message.rows.push(row);
        }
        Ok(Some(message))
    }
}
