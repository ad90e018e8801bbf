//! What travels: one record a row, and one line of JSON a record. The format of `chatledger export`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use chatledger::domain::{citation, message};

/// A record. Its JSON has the field `type`: the variant's name in lower case.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Record {
    /// A document's metadata.
    Document(DocumentRecord),
    /// A user.
    User(UserRecord),
    /// The profile of a user who came before it.
    Profile(ProfileRecord),
    /// A session, before its messages.
    Session(SessionRecord),
    /// A message with its citations, in the order of the session.
    Message(Box<MessageRecord>),
}

/// A kind of record, as the report counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A document's metadata.
    Document,
    /// A user.
    User,
    /// A user's profile.
    Profile,
    /// A session.
    Session,
    /// A message.
    Message,
    /// A citation; it travels within its message.
    Citation,
}

impl RecordKind {
    /// All kinds, in the order in which they are stored.
    pub const ALL: [RecordKind; 6] = [
        RecordKind::Document,
        RecordKind::User,
        RecordKind::Profile,
        RecordKind::Session,
        RecordKind::Message,
        RecordKind::Citation,
    ];

    /// The plural, for people.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            RecordKind::Document => "documents",
            RecordKind::User => "users",
            RecordKind::Profile => "profiles",
            RecordKind::Session => "sessions",
            RecordKind::Message => "messages",
            RecordKind::Citation => "citations",
        }
    }
}

/// A JSON object as it was written: its numbers aren't touched.
pub(crate) type Json = Box<RawValue>;

/// A user.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    /// The key.
    pub id: Uuid,
    /// The email.
    pub email: String,
    /// An identity provider's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An argon2id or bcrypt hash. Exported only where it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashed_password: Option<String>,
    /// Whether the user may sign in.
    #[serde(default = "yes")]
    pub is_active: bool,
    /// The time at which the user was created; now, where it isn't known.
    pub created_at: Option<Timestamp>,
    /// The time at which the user was last changed.
    pub updated_at: Option<Timestamp>,
    /// The values of the source's row that a user has no place for, by name.
    #[serde(skip)]
    pub(crate) left_out: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A user's profile.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProfileRecord {
    /// The user.
    pub user_id: Uuid,
    /// The user's knowledge of software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_background: Option<String>,
    /// The user's knowledge of hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_background: Option<String>,
    /// The things that the user wants to learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_goals: Option<String>,
    /// A level of the application's own choosing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experience_level: Option<String>,
    /// A BCP-47 tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_language: Option<String>,
    /// A JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Json>,
    /// The time at which the profile was created.
    pub created_at: Option<Timestamp>,
    /// The time at which the profile was last changed.
    pub updated_at: Option<Timestamp>,
}

/// A document's metadata.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct DocumentRecord {
    /// The key that citations use.
    pub id: String,
    /// The name that people have for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The place where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_uri: Option<String>,
    /// The media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// A hash of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// A JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// The time at which it was registered.
    pub created_at: Option<Timestamp>,
    /// The time at which it was last changed.
    pub updated_at: Option<Timestamp>,
    /// The values of the source's row that a document has no place for, by name.
    #[serde(skip)]
    pub(crate) left_out: Vec<String>,
}

/// A session.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    /// The key.
    pub id: Uuid,
    /// The session's user; absent: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Uuid>,
    /// The session's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// The SHA-256 of its claim secret, as 64 hexadecimal digits: as much to be kept as the hashes of passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_hash: Option<String>,
    /// The time at which the session was created.
    pub created_at: Option<Timestamp>,
    /// The time at which the session was last changed or appended to.
    pub updated_at: Option<Timestamp>,
}

/// A message.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    /// The message's session.
    pub session_id: Uuid,
    /// The key, unique within the session.
    pub id: Uuid,
    /// The message's place in the session, for the reader: an import goes by the order of the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// `user`, `assistant`, `system` or `tool`.
    pub role: String,
    /// What was said.
    pub content: String,
    /// The passage that the person had selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_text: Option<String>,
    /// A JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// A framework's own form of the message, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The time at which it was said.
    pub created_at: Option<Timestamp>,
    /// The time of deletion: where it is set, the message was deleted. It is empty, and keeps its place and id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// The sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<CitationRecord>,
}

impl MessageRecord {
    /// The bytes that the record holds in memory, about: its own, which becomes a message by and by.
    pub(crate) fn weight(&self) -> usize {
        message::weight(
            &self.content,
            self.selected_text.as_deref(),
            self.metadata.as_deref().map_or("", RawValue::get),
            self.payload.as_ref().map_or(0, String::len),
            self.citations.iter().map(CitationRecord::weight).sum(),
        )
    }
}

impl CitationRecord {
    fn weight(&self) -> usize {
        citation::weight(&self.document_id, self.chunk_id.as_deref().unwrap_or_default())
    }
}

/// A source of a message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CitationRecord {
    /// The number that the message cites it by, from 1; the next free one, where there is none.
    #[serde(default)]
    pub citation_index: Option<i32>,
    /// The document's key.
    pub document_id: String,
    /// The chunk within it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_id: Option<String>,
    /// The retrieval score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The values of the source's row that a citation has no place for, by name.
    #[serde(skip)]
    pub(crate) left_out: Vec<String>,
}

impl Record {
    /// Reads one line. (serde's own `tag` would copy every value, and can't read raw JSON.)
    pub(crate) fn parse(line: &str) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Tag {
            r#type: RecordKind,
        }
        let Tag { r#type } = parse_as(line)?;
        Ok(match r#type {
            RecordKind::Document => Record::Document(parse_as(line)?),
            RecordKind::User => Record::User(parse_as(line)?),
            RecordKind::Profile => Record::Profile(parse_as(line)?),
            RecordKind::Session => Record::Session(parse_as(line)?),
            RecordKind::Message => Record::Message(Box::new(parse_as(line)?)),
            RecordKind::Citation => return Err("citations travel within their message".to_owned()),
        })
    }

    /// The record's kind.
    pub(crate) fn kind(&self) -> RecordKind {
        match self {
            Record::Document(_) => RecordKind::Document,
            Record::User(_) => RecordKind::User,
            Record::Profile(_) => RecordKind::Profile,
            Record::Session(_) => RecordKind::Session,
            Record::Message(_) => RecordKind::Message,
        }
    }
}

pub(super) fn parse_as<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // The error is always on line 1: the caller knows which of the source.
    serde_json::from_str(text).map_err(|error| error.to_string().replace(" at line 1 column", ", column"))
}

/// The JSON `object` with `more`'s keys that it lacks. What isn't an object is kept under the key `value`.
pub(super) fn merged(object: Option<Json>, more: BTreeMap<String, Json>) -> Option<Json> {
    if more.is_empty() && object.as_ref().is_none_or(|json| json.get().starts_with('{')) {
        return object;
    }
    let mut all = more;
    if let Some(object) = object {
        match serde_json::from_str::<BTreeMap<String, Json>>(object.get()) {
            Ok(fields) => all.extend(fields),
            Err(_) => drop(all.insert("value".to_owned(), object)),
        }
    }
    // A map of text and raw JSON is always written.
    serde_json::value::to_raw_value(&all).ok()
}
