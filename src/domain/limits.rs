//! How large the parts of a request may be.

/// The limits on sizes: bytes, unless a field says otherwise. Flags of `chatledger serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Longest content of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_CONTENT_BYTES", value_name = "BYTES", default_value_t = 1 << 20)]
    pub max_content_bytes: usize,
    /// Longest payload of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_PAYLOAD_BYTES", value_name = "BYTES", default_value_t = 1 << 20)]
    pub max_payload_bytes: usize,
    /// Longest selected_text of a message, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_SELECTED_TEXT_BYTES", value_name = "BYTES", default_value_t = 64 << 10)]
    pub max_selected_text_bytes: usize,
    /// Largest JSON field, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_JSON_BYTES", value_name = "BYTES", default_value_t = 64 << 10)]
    pub max_json_bytes: usize,
    /// Deepest JSON field, in levels of objects and arrays
    #[arg(long, env = "CHATLEDGER_MAX_JSON_DEPTH", value_name = "LEVELS", default_value_t = 32,
          value_parser = parse_json_depth)]
    pub max_json_depth: usize,
    /// Longest document_id or chunk_id, in bytes, up to 1024
    #[arg(long, env = "CHATLEDGER_MAX_SOURCE_ID_BYTES", value_name = "BYTES", default_value_t = 512,
          value_parser = parse_source_id_bytes)]
    pub max_source_id_bytes: usize,
    /// Most citations of one message
    #[arg(
        long,
        env = "CHATLEDGER_MAX_CITATIONS",
        value_name = "N",
        default_value_t = 100
    )]
    pub max_citations: usize,
    /// Most messages of one BatchAppendMessages
    #[arg(
        long,
        env = "CHATLEDGER_MAX_BATCH_MESSAGES",
        value_name = "N",
        default_value_t = 500
    )]
    pub max_batch_messages: usize,
    /// Largest request, in bytes
    #[arg(long, env = "CHATLEDGER_MAX_REQUEST_BYTES", value_name = "BYTES", default_value_t = 8 << 20)]
    pub max_request_bytes: usize,
}

/// serde_json's own recursion limit is 128: a deeper object could be checked by nobody.
fn parse_json_depth(text: &str) -> Result<usize, String> {
    parse_at_most(text, 127)
}

/// The schema's CHECK allows 1,024 bytes, which an index entry can hold.
fn parse_source_id_bytes(text: &str) -> Result<usize, String> {
    parse_at_most(text, 1024)
}

fn parse_at_most(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from 1 to {most}")),
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_content_bytes: 1 << 20,
            max_payload_bytes: 1 << 20,
            max_selected_text_bytes: 64 << 10,
            max_json_bytes: 64 << 10,
            max_json_depth: 32,
            max_source_id_bytes: 512,
            max_citations: 100,
            max_batch_messages: 500,
            max_request_bytes: 8 << 20,
        }
    }
}
