//! Messages: what was said, in order.

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Check, FieldPath, JsonMode, JsonObject,
    citation::{self, Citation, CitationRef},
    page::Page,
    usage::StoredAmounts,
};

/// The speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Instructions to the model.
    System,
    /// A tool's result.
    Tool,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::User, Role::Assistant, Role::System, Role::Tool];

    /// The text that the role is stored as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Tool => "tool",
        }
    }

    /// The role that is stored as `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// A stored message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Unique within the session.
    pub id: Uuid,
    /// The session.
    pub session_id: Uuid,
    /// The message's place in the session, from 1.
    pub seq: i64,
    /// The speaker.
    pub role: Role,
    /// The words; may be empty.
    pub content: String,
    /// The passage that the person had selected.
    pub selected_text: Option<String>,
    /// A JSON object.
    pub metadata: String,
    /// A framework's own form of the message.
    pub payload: Option<Bytes>,
    /// The sources, by index.
    pub citations: Vec<Citation>,
    /// The moment when it was appended.
    pub created_at: Timestamp,
}

/// A stored message whose texts are somebody else's: for whoever passes on more of them than copies of them are good for.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRef<'a> {
    /// Unique within the session.
    pub id: Uuid,
    /// The session.
    pub session_id: Uuid,
    /// The message's place in the session, from 1.
    pub seq: i64,
    /// The speaker.
    pub role: Role,
    /// The words; empty where they aren't wanted.
    pub content: &'a str,
    /// The passage that the person had selected.
    pub selected_text: Option<&'a str>,
    /// A JSON object; empty where it isn't wanted.
    pub metadata: &'a str,
    /// A framework's own form of the message.
    pub payload: Option<&'a [u8]>,
    /// The sources, by index.
    pub citations: Vec<CitationRef<'a>>,
    /// The moment when it was appended.
    pub created_at: Timestamp,
}

/// A message to append.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The client's id, or a new UUIDv7.
    pub id: Uuid,
    /// Whether the id is the client's, so that it may have been stored by an earlier request.
    pub id_is_given: bool,
    /// The speaker.
    pub role: Role,
    /// The words.
    pub content: String,
    /// The passage that the person had selected.
    pub selected_text: Option<String>,
    /// A JSON object.
    pub metadata: JsonObject,
    /// A framework's own form of the message.
    pub payload: Option<Bytes>,
    /// The sources, each with its index.
    pub citations: Vec<Citation>,
    /// The moment when it was said, for imports; `None`: now.
    pub created_at: Option<Timestamp>,
}

impl NewMessage {
    /// What it adds to its tenant's.
    #[must_use]
    pub fn amounts(&self) -> StoredAmounts {
        let selected_text = self.selected_text.as_ref().map_or(0, String::len);
        let payload = self.payload.as_ref().map_or(0, Bytes::len);
        StoredAmounts {
            sessions: 0,
            messages: 1,
            bytes: (self.content.len() + selected_text + payload) as u64,
        }
    }

    /// Checks sizes, citations and time. `at` is the message.
    pub fn validate(&self, check: &mut Check<'_>, at: &FieldPath<'_>) {
        let limits = check.limits;
        check.text_bytes(&at.field("content"), &self.content, limits.max_content_bytes);
        if let Some(text) = &self.selected_text {
            check.text_bytes(&at.field("selected_text"), text, limits.max_selected_text_bytes);
        }
        if let Some(payload) = &self.payload {
            let max = limits.max_payload_bytes;
            if payload.len() > max {
                check.violation(
                    &at.field("payload"),
                    format!("must have at most {max} bytes, has {}", payload.len()),
                );
            }
        }
        citation::check_all(check, at, &self.citations);
        if self.created_at.is_some_and(|time| time > check.now) {
            check.violation(&at.field("create_time"), "must not be in the future");
        }
    }

    /// What makes another message the same one.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            role: self.role.as_str(),
            content: &self.content,
            selected_text: self.selected_text.as_deref(),
            payload: self.payload.as_deref(),
        }
    }
}

/// A message's identity: what a retry with its id must agree in to be the same message. Metadata and citations may have changed
/// since, and aren't part of it. In SQL it is `identity` of `store/sql/shared.sql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The role as it is stored.
    pub role: &'a str,
    /// What was said.
    pub content: &'a str,
    /// The passage that the person had selected.
    pub selected_text: Option<&'a str>,
    /// A framework's own form of the message.
    pub payload: Option<&'a [u8]>,
}

impl Identity<'_> {
    /// The SHA-256 of all of it, each part with its length before it; in SQL it is `identity_digest`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.role);
        let parts = [
            Some(self.content.as_bytes()),
            self.selected_text.map(str::as_bytes),
            self.payload,
        ];
        for part in parts {
            let length = part.map_or_else(|| "-".to_owned(), |part| part.len().to_string());
            hash.update(format!("\n{length}\n"));
            hash.update(part.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

/// What a message weighs: the bytes that it holds in memory, about; `payload` and `citations` by theirs. Whatever is
/// bounded by how much messages take (the queue, watches, pages, imports) counts by this.
#[must_use]
pub fn weight(
    content: &str,
    selected_text: Option<&str>,
    metadata: &str,
    payload: usize,
    citations: usize,
) -> usize {
    size_of::<Message>()
        + content.len()
        + selected_text.map_or(0, str::len)
        + metadata.len()
        + payload
        + citations
}

impl NewMessage {
    /// The bytes that it holds in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let citations = self.citations.iter().map(Citation::weight).sum();
        weight(
            &self.content,
            self.selected_text.as_deref(),
            self.metadata.as_str(),
            self.payload.as_ref().map_or(0, Bytes::len),
            citations,
        )
    }
}

impl Message {
    /// The bytes that it holds in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let citations = self.citations.iter().map(Citation::weight).sum();
        weight(
            &self.content,
            self.selected_text.as_deref(),
            &self.metadata,
            self.payload.as_ref().map_or(0, Bytes::len),
            citations,
        )
    }
}

/// A receipt: where an appended message was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub message_id: Uuid,
    /// The message's session.
    pub session_id: Uuid,
    /// The message's place in the session.
    pub seq: i64,
    /// The moment when it was appended.
    pub created_at: Timestamp,
    /// Whether an earlier request had stored it.
    pub deduplicated: bool,
}

/// Which messages of a session to read, and what of them.
#[derive(Clone, Debug)]
pub struct MessageRange {
    /// The session.
    pub session_id: Uuid,
    /// The seq above which messages are read.
    pub after_seq: Option<i64>,
    /// The seq below which messages are read.
    pub before_seq: Option<i64>,
    /// The roles that are wanted; empty: all.
    pub roles: Vec<Role>,
    /// Whether messages come with their citations.
    pub with_citations: bool,
    /// Whether of those that have a payload nothing else is wanted that it has as well: texts and metadata.
    pub payload_only: bool,
}

/// Which page of a list of messages.
#[derive(Debug)]
pub struct MessageFilter {
    /// The messages that are listed.
    pub range: MessageRange,
    /// Which page, by seq.
    pub page: Page<(i64,)>,
    /// Whether the newest message comes first.
    pub descending: bool,
    /// Whether each page is oldest first, whatever the order of the pages.
    pub chronological: bool,
}

/// The changes of an update.
#[derive(Debug)]
pub struct MessageChange {
    /// The session.
    pub session_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// The new metadata, or what is merged into it.
    pub metadata: JsonObject,
    /// The way in which the metadata is changed.
    pub metadata_mode: JsonMode,
}

/// A search: for what, and where.
#[derive(Debug)]
pub struct Search {
    /// The query in the syntax of Postgres' `websearch_to_tsquery`.
    pub query: String,
    /// Which page, by rank (the bits of an f32), session and seq.
    pub page: Page<(u32, Uuid, i64)>,
    /// The user in whose sessions to search; without a session either: in all of the tenant's.
    pub user_id: Option<Uuid>,
    /// The session in which to search.
    pub session_id: Option<Uuid>,
    /// The roles that are wanted; empty: all.
    pub roles: Vec<Role>,
    /// Whether to search in the content.
    pub in_content: bool,
    /// Whether to search in the selected text.
    pub in_selected_text: bool,
}

/// A message that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchHit {
    /// The message.
    pub message: Message,
    /// The title of its session.
    pub session_title: String,
    /// How well it matches; higher is better.
    pub rank: f32,
    /// The best passage.
    pub snippet: String,
}

/// The longest search query, in bytes: parsing one takes time with its length.
pub const MAX_QUERY: usize = 4096;
