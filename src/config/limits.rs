//! The flags of the limits on requests.

use clap::Args;

use crate::domain::limits::{Limits, MOST_JSON_DEPTH, MOST_SOURCE_ID_BYTES};

/// How large the parts of a request may be; see [`Limits`].
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Longest content of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_CONTENT_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_content_bytes)]
    pub max_content_bytes: usize,
    /// Longest payload of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_PAYLOAD_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_payload_bytes)]
    pub max_payload_bytes: usize,
    /// Longest selected_text of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_SELECTED_TEXT_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_selected_text_bytes)]
    pub max_selected_text_bytes: usize,
    /// Largest JSON field, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_JSON_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_json_bytes)]
    pub max_json_bytes: usize,
    /// Deepest JSON field, in levels of objects and arrays
    #[arg(long, env = "CHATLEDGER_MAX_JSON_DEPTH", value_name = "LEVELS", default_value_t = Limits::DEFAULT.max_json_depth,
          value_parser = parse_json_depth)]
    pub max_json_depth: usize,
    /// Longest document_id or chunk_id, in bytes, up to 1024
    #[arg(long, env = "CHATLEDGER_MAX_SOURCE_ID_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_source_id_bytes,
          value_parser = parse_source_id_bytes)]
    pub max_source_id_bytes: usize,
    /// Most citations of one message
    #[arg(
        long,
        env = "CHATLEDGER_MAX_CITATIONS",
        value_name = "N",
        default_value_t = Limits::DEFAULT.max_citations
    )]
    pub max_citations: usize,
    /// Most messages of one BatchAppendMessages
    #[arg(
        long,
        env = "CHATLEDGER_MAX_BATCH_MESSAGES",
        value_name = "N",
        default_value_t = Limits::DEFAULT.max_batch_messages
    )]
    pub max_batch_messages: usize,
    /// Largest request, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_REQUEST_BYTES", value_name = "BYTES", default_value_t = Limits::DEFAULT.max_request_bytes)]
    pub max_request_bytes: usize,
}

impl LimitFlags {
    /// The limits that the flags give.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            max_content_bytes: self.max_content_bytes,
            max_payload_bytes: self.max_payload_bytes,
            max_selected_text_bytes: self.max_selected_text_bytes,
            max_json_bytes: self.max_json_bytes,
            max_json_depth: self.max_json_depth,
            max_source_id_bytes: self.max_source_id_bytes,
            max_citations: self.max_citations,
            max_batch_messages: self.max_batch_messages,
            max_request_bytes: self.max_request_bytes,
        }
    }
}

fn parse_json_depth(text: &str) -> Result<usize, String> {
    parse_at_most(text, MOST_JSON_DEPTH)
}

fn parse_source_id_bytes(text: &str) -> Result<usize, String> {
    parse_at_most(text, MOST_SOURCE_ID_BYTES)
}

fn parse_at_most(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from 1 to {most}")),
    }
}
