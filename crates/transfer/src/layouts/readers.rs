//! The readers of rows that differ between layouts in their names only.

use uuid::Uuid;

use crate::{
    record::{CitationRecord, DocumentRecord, ProfileRecord, Record, SessionRecord, UserRecord, merged},
    row::{Origin, SourceRow},
};

pub(super) fn user(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
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

/// A user who isn't said to be inactive is active. A word that nobody knows lets nobody in: it is left out, as the
/// report says.
fn is_active(row: &mut SourceRow) -> bool {
    const NAMES: &[&str] = &["is_active", "active"];
    row.truth(NAMES).unwrap_or_else(|| !row.has(NAMES))
}

pub(super) fn profile(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
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

/// The fields that are too large for a document's metadata: the text itself is the vector store's.
const CONTENT: &[&str] = &["content", "embedding"];

/// A document keeps its key as it is: citations and vector stores name documents by it.
pub(super) fn document(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
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

/// A session's row. A value that has no column of its own goes into the metadata.
pub(super) fn session(origin: &Origin, row: &str, _: Option<&str>) -> Result<Record, String> {
    let mut row = SourceRow::parse(row)?;
    Ok(Record::Session(SessionRecord {
        id: key(&mut row, origin, "chat_sessions", &["id", "session_id"])?,
        user_id: row.text(&["user_id"]).map(|key| origin.id("users", &key)),
        title: row.text(&["title", "name"]),
        created_at: row.time(&["created_at", "started_at"], origin),
        updated_at: row.time(&["updated_at", "last_activity", "last_message_at"], origin),
        claim_hash: None,
        metadata: merged(row.json(&["metadata", "session_metadata", "meta"]), row.rest()),
    }))
}

fn key(row: &mut SourceRow, origin: &Origin, table: &str, names: &[&str]) -> Result<Uuid, String> {
    let key = row.text(names).ok_or_else(|| format!("it has no {}", names[0]))?;
    Ok(origin.id(table, &key))
}

/// The names that frameworks have for the roles.
pub(crate) const ROLES: &[(&str, &str)] = &[
    ("human", "user"),
    ("ai", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("chatbot", "assistant"),
    ("function", "tool"),
    ("developer", "system"),
];

/// A role, whatever its case, and by the names that frameworks have for them.
pub(super) fn role(text: &str) -> String {
    let text = text.trim().to_lowercase();
    // An enum of Python's, written with its name: `MessageRole.USER`.
    let text = text.rsplit('.').next().unwrap_or_default();
    let known = ROLES.iter().find(|(name, _)| *name == text);
    known.map_or(text, |(_, role)| role).to_owned()
}

pub(super) fn citation(text: &str) -> Result<CitationRecord, String> {
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
