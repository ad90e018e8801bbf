//! How large the parts of a request may be.

/// The limits on the parts of a request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest content of a message, in bytes.
    pub max_content_bytes: usize,
    /// The longest payload of a message, in bytes.
    pub max_payload_bytes: usize,
    /// The longest selected_text of a message, in bytes.
    pub max_selected_text_bytes: usize,
    /// The largest JSON field, in bytes.
    pub max_json_bytes: usize,
    /// The deepest JSON field, in levels of objects and arrays.
    pub max_json_depth: usize,
    /// The longest document_id or chunk_id, in bytes.
    pub max_source_id_bytes: usize,
    /// The most citations of one message.
    pub max_citations: usize,
    /// The most messages of one BatchAppendMessages.
    pub max_batch_messages: usize,
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
}

/// The highest limit on the depth of JSON: serde_json's own recursion limit is 128, so nobody could check a deeper
/// object.
pub const MOST_JSON_DEPTH: usize = 127;
/// The highest limit on a document_id or chunk_id: the schema's CHECK allows as many bytes, which an index entry can
/// hold.
pub const MOST_SOURCE_ID_BYTES: usize = 1024;

impl Limits {
    /// The limits of a server that is given none.
    pub const DEFAULT: Limits = Limits {
        max_content_bytes: 1 << 20,
        max_payload_bytes: 1 << 20,
        max_selected_text_bytes: 64 << 10,
        max_json_bytes: 64 << 10,
        max_json_depth: 32,
        max_source_id_bytes: 512,
        max_citations: 100,
        max_batch_messages: 500,
        max_request_bytes: 8 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}
