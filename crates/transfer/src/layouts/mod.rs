//! The layouts of sources: which tables there are, and how their rows become records.
//!
//! - [`rag_uuid`]: `messages` and `message_citations` under UUID keys.
//! - [`chat_messages`]: `chat_messages`, and `documents`, under any keys.
//! - [`jsonb_history`]: each session's messages in a JSONB array.
//! - [`chatledger`]: our own tables, for exports and for moving from one database to another.
//!
//! A layout answers a [`ReadPlan`]: statements whose rows are read by its functions. Every statement has three
//! columns: the row as JSON, what else belongs to it as JSON, and whether its session is missing.

mod chat_messages;
pub(crate) mod chatledger;
mod jsonb_history;
mod rag_uuid;
mod tables;

use anyhow::{Context, bail};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    record::{
        CitationRecord, DocumentRecord, ProfileRecord, Record, RecordKind, SessionRecord, UserRecord, merged,
    },
    row::{Origin, SourceRow},
};
use chatledger_postgres::connect::describe;
pub(super) use tables::TableColumns;

/// A source's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceLayout {
    /// Whichever it looks like.
    Auto,
    /// users, user_profiles, chat_sessions, messages, message_citations.
    RagUuid,
    /// users, and chat_sessions with a column `history`.
    JsonbHistory,
    /// users, chat_sessions, chat_messages, documents.
    ChatMessages,
    /// chatledger's own.
    Chatledger,
}

/// Counts no messages.
const NOTHING: &str = "SELECT 0::bigint";

/// What a row becomes.
pub(crate) type RowReader = fn(&Origin, &str, Option<&str>) -> Result<Record, String>;

/// A statement, and the function that reads its rows.
pub(crate) struct RowQuery {
    /// The statement.
    pub sql: String,
    /// What a row of it becomes.
    pub read: RowReader,
    /// What that is, for rows that can't be read.
    pub kind: RecordKind,
}

/// How a source is read.
pub(crate) struct ReadPlan {
    /// Documents, users and profiles, in this order, where there are any.
    pub before: Vec<RowQuery>,
    /// Sessions and messages, both in the order of the sessions.
    pub chats: Option<(RowQuery, RowQuery)>,
    /// How many messages there are, for the progress bar.
    pub count: String,
    /// Counts the citations whose message is missing, where there can be some.
    pub(crate) lost_citations: Option<String>,
}

impl SourceLayout {
    /// The layout's name, as the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SourceLayout::Auto => "auto",
            SourceLayout::RagUuid => "rag-uuid",
            SourceLayout::JsonbHistory => "jsonb-history",
            SourceLayout::ChatMessages => "chat-messages",
            SourceLayout::Chatledger => "chatledger",
        }
    }

    /// The layout itself, or what the tables look like.
    pub(crate) async fn recognize(self, client: &Client) -> anyhow::Result<SourceLayout> {
        if self != SourceLayout::Auto {
            return Ok(self);
        }
        let tables = TableColumns::read(client).await?;
        if is_ours(&tables, client).await? {
            return Ok(SourceLayout::Chatledger);
        }
        let found: Vec<SourceLayout> = [
            (
                SourceLayout::RagUuid,
                tables.has("messages") || tables.has("user_profiles"),
            ),
            (SourceLayout::ChatMessages, tables.has("chat_messages")),
            (
                SourceLayout::JsonbHistory,
                tables.column("chat_sessions", &["history"]).is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(layout, fits)| fits.then_some(layout))
        .collect();
        match found[..] {
            [layout] => Ok(layout),
            [] => bail!(
                "--layout auto: the source has none of messages, chat_messages, chat_sessions.history and \
                 user_profiles; it has {}",
                tables.names()
            ),
            _ => {
                let names: Vec<&str> = found.iter().map(|layout| layout.name()).collect();
                bail!(
                    "--layout auto: the source could be {}; say which",
                    names.join(" or ")
                )
            }
        }
    }

    pub(super) async fn plan(self, client: &Client) -> anyhow::Result<ReadPlan> {
        let tables = TableColumns::read(client).await?;
        match self {
            SourceLayout::RagUuid => rag_uuid::plan(&tables),
            SourceLayout::ChatMessages => chat_messages::plan(&tables),
            SourceLayout::JsonbHistory => jsonb_history::plan(&tables),
            SourceLayout::Chatledger => Ok(chatledger::plan(&tables, chatledger::ExportPart::All, true)),
            SourceLayout::Auto => bail!("the layout was not recognized"),
        }
        .with_context(|| format!("--layout {}", self.name()))
    }
}

/// Whether our migrations were applied. An empty history is what an `up` leaves that met somebody else's tables.
async fn is_ours(tables: &TableColumns, client: &Client) -> anyhow::Result<bool> {
    for history in ["chatledger_auth_migrations", "chatledger_chat_migrations"] {
        if tables.has(history) {
            let first = format!("SELECT FROM {history} LIMIT 1");
            let rows = client.query_typed(&first, &[]).await;
            if !rows
                .map_err(|error| anyhow::anyhow!(describe(&error)))?
                .is_empty()
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn user(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
    let mut row = SourceRow::parse(row)?;
    Ok(Record::User(UserRecord {
        id: key(&mut row, origin, "users", &["id", "user_id"])?,
        email: row.text(&["email"]).unwrap_or_default(),
        external_id: row.text(&["external_id"]),
        name: row.text(&["name", "full_name", "display_name", "username"]),
        hashed_password: row.text(&["hashed_password", "password_hash"]),
        is_active: is_active(&mut row),
        created_at: row.time(&["created_at"], origin),
        updated_at: row.time(&["updated_at"], origin),
        left_out: row.names(),
    }))
}

/// Who isn't said to be inactive is active. A word that nobody knows lets nobody in: it is left out, as the report
/// says.
fn is_active(row: &mut SourceRow) -> bool {
    const NAMES: &[&str] = &["is_active", "active"];
    row.truth(NAMES).unwrap_or_else(|| !row.has(NAMES))
}

fn profile(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
    let mut row = SourceRow::parse(row)?;
    row.json(&["id"]);
    Ok(Record::Profile(ProfileRecord {
        user_id: key(&mut row, origin, "users", &["user_id"])?,
        software_background: row.text(&["software_background"]),
        hardware_background: row.text(&["hardware_background"]),
        learning_goals: row.text(&["learning_goals"]),
        experience_level: row.text(&["experience_level"]),
        // Locales of systems are written with an underscore.
        preferred_language: row
            .text(&["preferred_language", "language"])
            .map(|tag| tag.replace('_', "-")),
        created_at: row.time(&["created_at"], origin),
        updated_at: row.time(&["updated_at"], origin),
        preferences: merged(row.json(&["preferences"]), row.rest()),
    }))
}

/// What is too large for a document's metadata: the text itself is the vector store's.
const CONTENT: &[&str] = &["content", "embedding"];

/// A document keeps its key as it is: citations and vector stores name documents by it.
fn document(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
    let mut row = SourceRow::parse(row)?;
    let left_out = CONTENT
        .iter()
        .filter_map(|name| row.json(&[name]).map(|_| (*name).to_owned()))
        .collect();
    Ok(Record::Document(DocumentRecord {
        id: row.text(&["id", "document_id"]).ok_or("it has no id")?,
        title: row.text(&["title", "name", "filename", "file_name"]),
        source_uri: row.text(&["source_uri", "source_url", "url", "source", "file_path", "path"]),
        mime_type: row.text(&["mime_type", "content_type", "file_type"]),
        content_hash: row.text(&["content_hash", "hash", "checksum"]),
        created_at: row.time(&["created_at", "uploaded_at"], origin),
        updated_at: row.time(&["updated_at"], origin),
        metadata: merged(row.json(&["metadata", "doc_metadata", "meta"]), row.rest()),
        left_out,
    }))
}

/// What has no column of its own goes into the metadata.
fn session(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
    let mut row = SourceRow::parse(row)?;
    Ok(Record::Session(SessionRecord {
        id: key(&mut row, origin, "chat_sessions", &["id", "session_id"])?,
        user_id: row.text(&["user_id"]).map(|key| origin.id("users", &key)),
        title: row.text(&["title", "name"]),
        created_at: row.time(&["created_at", "started_at"], origin),
        updated_at: row.time(&["updated_at", "last_activity", "last_message_at"], origin),
        metadata: merged(row.json(&["metadata", "session_metadata", "meta"]), row.rest()),
    }))
}

fn key(row: &mut SourceRow, origin: &Origin, table: &str, names: &[&str]) -> Result<Uuid, String> {
    let key = row.text(names).ok_or_else(|| format!("it has no {}", names[0]))?;
    Ok(origin.id(table, &key))
}

/// What frameworks call the roles.
pub(super) const ROLES: &[(&str, &str)] = &[
    ("human", "user"),
    ("ai", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("chatbot", "assistant"),
    ("function", "tool"),
    ("developer", "system"),
];

/// A role, whatever its case, and by the names that frameworks have for them.
fn role(text: &str) -> String {
    let text = text.trim().to_lowercase();
    // An enum of Python's, written with its name: `MessageRole.USER`.
    let text = text.rsplit('.').next().unwrap_or_default();
    let known = ROLES.iter().find(|(name, _)| *name == text);
    known.map_or(text, |(_, role)| role).to_owned()
}

fn citation(text: &str) -> Result<CitationRecord, String> {
    let mut row = SourceRow::parse(text)?;
    for name in ["id", "message_id", "created_at"] {
        row.json(&[name]); // a citation's key is its number, and its time its message's
    }
    Ok(CitationRecord {
        citation_index: row.number(&["citation_index"]),
        document_id: row.text(&["document_id"]).unwrap_or_default(),
        chunk_id: row.text(&["chunk_id"]),
        score: row
            .number(&["score", "relevance_score"])
            .filter(|score: &f64| score.is_finite()),
        left_out: row.names(),
    })
}
