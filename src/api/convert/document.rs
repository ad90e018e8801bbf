//! Documents.

use super::time_to_pb;
use crate::{
    api::page,
    auth::Caller,
    domain::{
        Check, FieldPath,
        document::{Document, DocumentFilter, NewDocument, check_title},
        page::{Fingerprint, NOT_OURS},
    },
};
use chatledger_protocol as pb;

pub(in crate::api) fn document_to_pb(document: Document) -> pb::Document {
    let fields = document.fields;
    pb::Document {
        id: fields.id,
        title: fields.title,
        source_uri: fields.source_uri,
        mime_type: fields.mime_type,
        content_hash: fields.content_hash,
        metadata_json: fields.metadata,
        create_time: Some(time_to_pb(document.created_at)),
        update_time: Some(time_to_pb(document.updated_at)),
    }
}

pub(in crate::api) fn new_document(check: &mut Check<'_>, request: pb::UpsertDocumentRequest) -> NewDocument {
    let root = FieldPath::ROOT;
    let at = root.field("document");
    let document = request.document.unwrap_or_default();
    let new = NewDocument {
        id: document.id,
        title: document.title,
        source_uri: document.source_uri,
        mime_type: document.mime_type,
        content_hash: document.content_hash,
        metadata: check.json(&at.field("metadata_json"), document.metadata_json),
    };
    new.validate(check, &at);
    new
}

pub(in crate::api) fn document_filter(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::ListDocumentsRequest,
) -> (DocumentFilter, Fingerprint) {
    let root = FieldPath::ROOT;
    let (page, list) = page::read::<_, (String,)>(check, caller, &request);
    if page.after.as_ref().is_some_and(|(id,)| id.contains('\0')) {
        check.violation(&root.field("page_token"), NOT_OURS);
    }
    if let Some(title) = &request.title_contains {
        check_title(check, &root.field("title_contains"), title);
    }
    let contains = check.optional_json(
        &root.field("metadata_contains_json"),
        request.metadata_contains_json,
    );
    let filter = DocumentFilter {
        page,
        title_contains: request.title_contains,
        metadata_contains: contains,
    };
    (filter, list)
}
