//! `jsonb-history`: users, and chat_sessions whose column `history` is an array of messages.

use super::{
    plan::{ReadPlan, RowQuery},
    readers::role,
    tables::TableColumns,
};
use crate::{
    record::{MessageRecord, Record, RecordKind, merged},
    row::{Origin, SourceRow},
};

/// The array, where there is one: as JSONB, as JSON, or within a string, as programs write it that encode twice.
const ARRAY: &str = "CASE jsonb_typeof(t.history::jsonb) WHEN 'array' THEN t.history::jsonb
    WHEN 'string' THEN CASE WHEN t.history::jsonb #>> '{}' ~ '^\\s*\\[.*\\]\\s*$'
        THEN (t.history::jsonb #>> '{}')::jsonb END END";

pub(super) fn plan(tables: &TableColumns) -> anyhow::Result<ReadPlan> {
    anyhow::ensure!(
        tables.column("chat_sessions", &["history"]).is_some(),
        "the source has no table chat_sessions with a column history"
    );
    let elements = format!("jsonb_array_elements(coalesce({ARRAY}, '[]'))");
    let sql = format!(
        "SELECT e.value::text, json_build_array(t.id, e.place)::text, false
        FROM chat_sessions t CROSS JOIN LATERAL {elements} WITH ORDINALITY AS e (value, place)
        ORDER BY t.id::text COLLATE \"C\", e.place"
    );
    // Another history than an array is nobody's to read: it goes into the session's metadata.
    let row = format!("to_jsonb(t) - CASE WHEN {ARRAY} IS NULL THEN '' ELSE 'history' END");
    Ok(ReadPlan {
        before: tables.before(),
        chats: Some((
            TableColumns::sessions(&row),
            RowQuery {
                sql,
                read: message,
                kind: RecordKind::Message,
            },
        )),
        count: format!("SELECT count(*) FROM chat_sessions t CROSS JOIN LATERAL {elements}"),
        lost_citations: None,
    })
}

/// An element: `{role, content, timestamp}`. Its id comes of its place, unless it has one of its own. All else that it
/// has goes into the metadata.
fn message(origin: &Origin, element: &str, place: Option<&str>) -> Result<Record, String> {
    let (session, place): (serde_json::Value, u64) =
        serde_json::from_str(place.unwrap_or_default()).map_err(|error| error.to_string())?;
    let session = session
        .as_str()
        .map_or_else(|| session.to_string(), str::to_owned);
    let mut row = SourceRow::parse(element).map_err(|_| "it is not an object".to_owned())?;
    let own = row.text(&["id"]).unwrap_or_else(|| place.to_string());
    let record = MessageRecord {
        session_id: origin.id("chat_sessions", &session),
        id: origin.id(&format!("chat_sessions\n{session}\nhistory"), &own),
        role: role(&row.text(&["role"]).unwrap_or_default()),
        content: row.text(&["content"]).unwrap_or_default(),
        selected_text: row.text(&["selected_text"]),
        created_at: row.time(&["timestamp", "created_at"], origin),
        metadata: merged(row.json(&["metadata"]), row.rest()),
        ..MessageRecord::default()
    };
    Ok(Record::Message(Box::new(record)))
}
