//! Messages as a conversation: a head line with seq, role and time, what was said below it, citations as footnotes.

use super::{
    harmless,
    json::role,
    screen::{Look, Screen, local_time},
};
use crate::output::tell;
use chatledger_protocol as pb;

/// Prints one message.
pub(super) fn print(screen: Screen, message: &pb::Message) {
    tell(&text_of(screen, message));
}

fn text_of(screen: Screen, message: &pb::Message) -> String {
    let role = role(message.role);
    let look = match role.as_str() {
        "user" => Look::Green,
        "assistant" => Look::Cyan,
        "tool" => Look::Yellow,
        _ => Look::Bold,
    };
    let mut text = format!(
        "{} {}  {}\n",
        screen.paint(Look::Dim, &format!("#{}", message.seq)),
        screen.paint(look, &role),
        screen.paint(Look::Dim, &local_time(message.create_time.as_ref())),
    );
    if let Some(selected) = &message.selected_text {
        let quoted = harmless::block(selected).replace('\n', "\n> ");
        text.push_str(&screen.indented(&format!("> {quoted}")));
    }
    text.push_str(&screen.indented(&harmless::block(&message.content)));
    if let Some(payload) = &message.payload
        && message.content.is_empty()
    {
        text.push_str(&screen.indented(&format!("({} bytes of payload; see it by --json)", payload.len())));
    }
    for citation in &message.citations {
        let note = format!(
            "[{}] {}{}  score {}",
            citation.citation_index,
            harmless::line(&citation.document_id),
            chunk(&citation.chunk_id),
            citation.score
        );
        text.push_str(&screen.indented(&note));
    }
    text.push('\n');
    text
}

fn chunk(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!(", chunk {}", harmless::line(id))
    }
}
