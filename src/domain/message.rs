//! Messages: what was said, in order.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Check, FieldPath, JsonMode, JsonObject,
    citation::{self, Citation},
    page::Page,
};

/// Who speaks.
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
    /// All roles.
    pub const ALL: [Role; 4] = [Role::User, Role::Assistant, Role::System, Role::Tool];

    /// As it is stored.
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
    /// Its place in the session, from 1.
    pub seq: i64,
    /// Who speaks.
    pub role: Role,
    /// What was said; may be empty.
    pub content: String,
    /// The passage that the person had selected.
    pub selected_text: Option<String>,
    /// A JSON object.
    pub metadata: String,
    /// A framework's own form of the message.
    pub payload: Option<Bytes>,
    /// The sources, by index.
    pub citations: Vec<Citation>,
    /// When it was appended.
    pub created_at: Timestamp,
}

/// A message to append.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The client's id, or a new UUIDv7.
    pub id: Uuid,
    /// Whether the id is the client's, so that it may have been stored by an earlier request.
    pub id_is_given: bool,
    /// Who speaks.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// The passage that the person had selected.
    pub selected_text: Option<String>,
    /// A JSON object.
    pub metadata: JsonObject,
    /// A framework's own form of the message.
    pub payload: Option<Bytes>,
    /// The sources, each with its index.
    pub citations: Vec<Citation>,
    /// When it was said, for imports; `None`: now.
    pub created_at: Option<Timestamp>,
}

impl NewMessage {
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

    /// Whether a retry with this message is a retry of `other`: what the contract compares.
    #[must_use]
    pub fn same_payload(&self, other: &NewMessage) -> bool {
        self.role == other.role
            && self.content == other.content
            && self.selected_text == other.selected_text
            && self.payload == other.payload
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

/// Where an appended message was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub message_id: Uuid,
    /// Its session.
    pub session_id: Uuid,
    /// Its place in the session.
    pub seq: i64,
    /// When it was appended.
    pub created_at: Timestamp,
    /// Whether an earlier request had stored it.
    pub deduplicated: bool,
}

/// Which messages of a session to list.
#[derive(Debug)]
pub struct MessageFilter {
    /// The session.
    pub session_id: Uuid,
    /// Which page, by seq.
    pub page: Page<(i64,)>,
    /// Only above this seq.
    pub after_seq: Option<i64>,
    /// Only below this seq.
    pub before_seq: Option<i64>,
    /// Newest first.
    pub descending: bool,
    /// Each page oldest first, whatever the order of the pages.
    pub chronological: bool,
    /// Only these roles; empty: all.
    pub roles: Vec<Role>,
    /// With their citations.
    pub with_citations: bool,
}

/// What an update changes.
#[derive(Debug)]
pub struct MessageChange {
    /// The session.
    pub session_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// The new metadata, or what is merged into it.
    pub metadata: JsonObject,
    /// What is done with it.
    pub metadata_mode: JsonMode,
}

/// What to search for, and where.
#[derive(Debug)]
pub struct Search {
    /// In the syntax of Postgres' `websearch_to_tsquery`.
    pub query: String,
    /// Which page, by rank (the bits of an f32), session and seq.
    pub page: Page<(u32, Uuid, i64)>,
    /// In this user's sessions; without a session either: in all of the tenant's.
    pub user_id: Option<Uuid>,
    /// In this session.
    pub session_id: Option<Uuid>,
    /// Only these roles; empty: all.
    pub roles: Vec<Role>,
    /// In the content.
    pub in_content: bool,
    /// In the selected text.
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
