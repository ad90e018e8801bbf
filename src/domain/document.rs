//! Documents: what the sources are called.

use jiff::Timestamp;

use super::{Check, FieldPath, JsonObject, page::Page};

/// A source, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The fields that a client gives.
    pub fields: DocumentFields<String>,
    /// The moment when it was first registered.
    pub created_at: Timestamp,
    /// The moment when it was last upserted.
    pub updated_at: Timestamp,
}

/// The fields of a document; `J` is its metadata, before or after it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFields<J> {
    /// The key that citations use.
    pub id: String,
    /// The name by which people know it.
    pub title: String,
    /// The place where it is.
    pub source_uri: String,
    /// The media type.
    pub mime_type: String,
    /// A hash of its content.
    pub content_hash: String,
    /// A JSON object.
    pub metadata: J,
}

/// A document to register.
pub type NewDocument = DocumentFields<JsonObject>;

/// The longest title, in characters.
const MAX_TITLE: usize = 500;
/// The longest URI, in bytes: what browsers and servers agree to take.
const MAX_URI: usize = 2048;
/// The longest media type or hash, in bytes.
const MAX_SHORT: usize = 255;

impl NewDocument {
    /// Checks the texts.
    pub fn validate(&self, check: &mut Check<'_>, at: &FieldPath<'_>) {
        check.document_id(&at.field("id"), &self.id);
        check_title(check, &at.field("title"), &self.title);
        check.text_bytes(&at.field("source_uri"), &self.source_uri, MAX_URI);
        check.text_bytes(&at.field("mime_type"), &self.mime_type, MAX_SHORT);
        check.text_bytes(&at.field("content_hash"), &self.content_hash, MAX_SHORT);
    }
}

/// Checks a title.
pub fn check_title(check: &mut Check<'_>, at: &FieldPath<'_>, title: &str) {
    check.text_chars(at, title, MAX_TITLE);
}

/// Which documents to list, by id.
#[derive(Debug)]
pub struct DocumentFilter {
    /// Which page.
    pub page: Page<(String,)>,
    /// A text that the title must contain, whatever its case.
    pub title_contains: Option<String>,
    /// An object that the metadata must contain.
    pub metadata_contains: Option<JsonObject>,
}
