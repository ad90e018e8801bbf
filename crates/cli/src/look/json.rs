//! What `--json` gives: one JSON object a line, with the fields of the contract by their names, and nothing lost. Times are in
//! RFC 3339, UTC; a payload is in base64; roles are `user`, `assistant`, `system` and `tool`. JSON has escapes for what a terminal
//! would obey but for a few characters above ASCII, which are escaped here.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::screen::timestamp;
use crate::output::tell;
use chatledger_protocol as pb;

/// Prints one object as a line.
pub(super) fn print(value: &Value) {
    tell(&(line(value) + "\n"));
}

/// One object as a line. Control characters above ASCII, and those that change the order of writing, are in JSON's escapes.
fn line(value: &Value) -> String {
    let text = value.to_string();
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        {
            escaped.extend(format!("\\u{:04x}", u32::from(c)).chars());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// A session.
pub(super) fn session(session: &pb::Session) -> Value {
    json!({
        "id": session.id,
        "user_id": session.user_id,
        "title": session.title,
        "metadata_json": session.metadata_json,
        "last_seq": session.last_seq,
        "create_time": time(session.create_time.as_ref()),
        "update_time": time(session.update_time.as_ref()),
        "last_message_time": time(session.last_message_time.as_ref()),
    })
}

/// A message with its citations.
pub(super) fn message(message: &pb::Message) -> Value {
    json!({
        "id": message.id,
        "session_id": message.session_id,
        "seq": message.seq,
        "role": role(message.role),
        "content": message.content,
        "selected_text": message.selected_text,
        "metadata_json": message.metadata_json,
        "payload": message.payload.as_ref().map(|payload| BASE64_STANDARD.encode(payload)),
        "citations": message.citations.iter().map(citation).collect::<Vec<_>>(),
        "create_time": time(message.create_time.as_ref()),
    })
}

/// A hit of a search: its message, and what the search says of it.
pub(super) fn hit(hit: &pb::SearchHit) -> Value {
    json!({
        "message": hit.message.as_ref().map(message),
        "session_title": hit.session_title,
        "rank": hit.rank,
        "snippet": hit.snippet,
    })
}

fn citation(citation: &pb::Citation) -> Value {
    json!({
        "document_id": citation.document_id,
        "chunk_id": citation.chunk_id,
        "score": citation.score,
        "citation_index": citation.citation_index,
        "create_time": time(citation.create_time.as_ref()),
    })
}

/// A role's name; the number of one that this program doesn't know.
pub(super) fn role(number: i32) -> String {
    match pb::Role::try_from(number) {
        Ok(pb::Role::User) => "user".to_owned(),
        Ok(pb::Role::Assistant) => "assistant".to_owned(),
        Ok(pb::Role::System) => "system".to_owned(),
        Ok(pb::Role::Tool) => "tool".to_owned(),
        Ok(pb::Role::Unspecified) | Err(_) => number.to_string(),
    }
}

fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.and_then(timestamp).map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_nothing_that_a_terminal_obeys_and_reads_back_as_it_was() {
        let hostile = "a\x1b[2J\u{9b}b\u{202e}c\u{7f}\u{2028}\n\u{200d}é";
        let text = line(&json!({ "content": hostile }));
        assert!(
            !text.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
        let back: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back["content"], hostile);
    }
}
