//! Messages in the order of a session: pages of them, and whole histories. They stay as they have come from the database,
//! until somebody encodes them: a copy of each text costs as much as PostgreSQL's work for it.

use uuid::Uuid;

use super::{Store, message::role, row_count, sql_count};
use crate::{
    auth::Caller,
    domain::{
        Result,
        citation::CitationRef,
        message::{MessageFilter, MessageRange, MessageRef, Role},
        page::MAX_PAGE_CITATIONS,
    },
    statements::{
        Statement, Viewer,
        message::{ListAscending, ListDescending, PagePart, PagePartRow},
        read_all,
    },
};
use chatledger_postgres::{DbError, Tx};

/// The roles of a filter as they are stored; `None` for all.
pub(super) fn role_names(roles: &[Role]) -> Option<Vec<&'static str>> {
    (!roles.is_empty()).then(|| roles.iter().map(|role| role.as_str()).collect())
}

/// A page of messages as it has come from the database.
#[derive(Debug)]
pub struct MessagePage {
    session_id: Uuid,
    rows: Vec<PagePartRow>,
    /// How many messages there were for a larger page that this one is instead of.
    available: usize,
}

/// What is on a page.
#[derive(Debug)]
pub struct PageContents<'a> {
    /// The messages, in the order of the list.
    pub messages: Vec<MessageRef<'a>>,
    /// How many there were for the page, of which `messages` are the first.
    pub available: usize,
    /// How many citations they have.
    pub citations: usize,
}

impl MessagePage {
    /// Reads what is on it.
    ///
    /// # Errors
    /// A row that this version doesn't understand.
    pub fn contents(&self) -> Result<PageContents<'_>> {
        let mut contents = PageContents {
            messages: Vec::new(),
            available: self.available,
            citations: 0,
        };
        let mut citations: Vec<(Uuid, CitationRef<'_>)> = Vec::new();
        let mut is_sorted = false;
        for row in &self.rows {
            let part = row.read().map_err(DbError::from)?;
            let Some(seq) = part.seq else {
                contents.citations += 1;
                citations.push((part.row_id, citation(&part)));
                continue;
            };
            if !is_sorted {
                // All of them have come. They mostly are in this order, by their index.
                citations.sort_by_key(|(row_id, citation)| (*row_id, citation.index));
                is_sorted = true;
            }
            contents.available = self.available.max(part.available.map_or(0, row_count));
            contents.messages.push(MessageRef {
                id: part.id.unwrap_or(part.row_id),
                session_id: self.session_id,
                seq,
                role: role(part.role.unwrap_or_default())?,
                content: part.content.unwrap_or_default(),
                selected_text: part.selected_text,
                metadata: part.metadata.unwrap_or_default(),
                payload: part.payload,
                created_at: part.created_at.unwrap_or_default(),
                citations: of_message(&citations, part.row_id),
            });
        }
        Ok(contents)
    }
}

fn citation<'a>(part: &PagePart<'a>) -> CitationRef<'a> {
    CitationRef {
        document_id: part.document_id.unwrap_or_default(),
        chunk_id: part.chunk_id.unwrap_or_default(),
        score: part.score.unwrap_or_default(),
        index: part.citation_index.unwrap_or_default(),
    }
}

/// A message's citations among those of a page, which are sorted.
fn of_message<'a>(citations: &[(Uuid, CitationRef<'a>)], row_id: Uuid) -> Vec<CitationRef<'a>> {
    let first = citations.partition_point(|(other, _)| *other < row_id);
    let rest = citations[first..].iter();
    rest.take_while(|(other, _)| *other == row_id)
        .map(|(_, citation)| *citation)
        .collect()
}

/// The size of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// The most messages.
    pub messages: usize,
    /// The bytes after which no message begins, its citations aside.
    pub bytes: usize,
    /// The most citations, or those of one message.
    pub citations: usize,
}

impl PageLimits {
    /// Smaller limits, where a page by these has as many citations as a page can have: then some may be missing, and whose
    /// isn't known, since they have no order before they are here.
    fn smaller(self, page: &MessagePage) -> Result<Option<PageLimits>> {
        let contents = page.contents()?;
        let is_whole = self.messages <= 1 || contents.citations < self.citations;
        Ok((!is_whole).then(|| PageLimits {
            messages: (contents.messages.len() / 2).max(1),
            ..self
        }))
    }
}

/// The statement for messages of a range, above and below these.
fn list<'a>(
    range: &MessageRange,
    roles: Option<&'a [&'a str]>,
    (after_seq, before_seq): (i64, i64),
    limits: PageLimits,
) -> ListAscending<'a> {
    // Those of a single message are shown, however many.
    let max_citations = if limits.messages <= 1 {
        usize::MAX
    } else {
        limits.citations
    };
    ListAscending {
        session_id: range.session_id,
        after_seq: range.after_seq.unwrap_or(0).max(after_seq),
        before_seq: range.before_seq.unwrap_or(i64::MAX).min(before_seq),
        roles,
        limit: sql_count(limits.messages),
        max_bytes: sql_count(limits.bytes),
        max_citations: sql_count(max_citations),
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
        let range = &filter.range;
        let roles = role_names(&range.roles);
        let roles = roles.as_deref();
        let mut limits = PageLimits {
            messages: row_count(filter.page.fetch()),
            bytes: max_bytes,
            citations: MAX_PAGE_CITATIONS,
        };
        let after = filter.page.after.map(|(seq,)| seq);
        let seqs = if filter.descending {
            (0, after.unwrap_or(i64::MAX))
        } else {
            (after.unwrap_or(0), i64::MAX)
        };
        let mut available = 0;
        let page = loop {
            let list = list(range, roles, seqs, limits);
            let rows = if filter.descending {
                self.run(caller, &ListDescending(list)).await?
            } else {
                self.run(caller, &list).await?
            };
            let page = MessagePage {
                session_id: range.session_id,
                rows,
                available,
            };
            match limits.smaller(&page)? {
                Some(smaller) => (limits, available) = (smaller, page.contents()?.available),
                None => break page,
            }
        };
        if page.rows.is_empty() {
            self.session(caller, range.session_id).await?;
        }
        Ok(page)
    }

    /// Begins to read a session's messages as of now, in order. The first page is read by the caller's deadline.
    pub async fn open_history(&self, caller: &Caller, range: MessageRange) -> Result<History> {
        caller.permit(ListAscending::DESCRIPTION.action)?;
        let store = self.over(self.db.limited());
        Ok(History {
            roles: role_names(&range.roles),
            tx: store.db.snapshot(caller.deadline).await?,
            caller: caller.clone(),
            store,
            range,
            reached: None,
        })
    }
}

/// A session's messages of one moment, while they are read: that of the first page.
pub struct History {
    /// Connections whose statements have a limit of their own: most of them come behind the caller's deadline.
    store: Store,
    caller: Caller,
    range: MessageRange,
    roles: Option<Vec<&'static str>>,
    tx: Tx,
    /// The last seq that has been read; `None` before the first page.
    reached: Option<i64>,
}

impl History {
    /// The next page; it has no messages at the end.
    pub async fn next(&mut self, mut limits: PageLimits) -> Result<MessagePage> {
        let mut available = 0;
        let page = loop {
            let page = MessagePage {
                available,
                ..self.read(limits).await?
            };
            match limits.smaller(&page)? {
                Some(smaller) => (limits, available) = (smaller, page.contents()?.available),
                None => break page,
            }
        };
        if self.reached.is_none() && page.rows.is_empty() {
            self.store.session(&self.caller, self.range.session_id).await?;
        }
        let last = page.contents()?.messages.last().map(|message| message.seq);
        self.reached = last.or(self.reached);
        Ok(page)
    }

    async fn read(&mut self, limits: PageLimits) -> Result<MessagePage> {
        let viewer = Viewer::from(&self.caller);
        let seqs = (self.reached.unwrap_or(0), i64::MAX);
        let list = list(&self.range, self.roles.as_deref(), seqs, limits);
        let (sql, params) = (ListAscending::DESCRIPTION.begin(), list.params(&viewer));
        let rows = match self.tx.query(sql, &params).await {
            // The connection turned out to be broken, and nobody has seen anything of that moment.
            Err(error) if self.reached.is_none() && error.is_unavailable() => {
                self.tx = self.store.db.snapshot(self.caller.deadline).await?;
                self.tx.query(sql, &params).await?
            }
            rows => rows?,
        };
        Ok(MessagePage {
            session_id: self.range.session_id,
            rows: read_all(&list, rows).map_err(DbError::from)?,
            available: 0,
        })
    }

    /// Ends the reading: the connection is somebody else's again.
    pub async fn close(self) -> Result<()> {
        self.tx.end(Ok(())).await
    }
}
