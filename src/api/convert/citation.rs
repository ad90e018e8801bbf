//! Citations.

use uuid::Uuid;

use super::{session_id, time_to_pb};
use crate::{
    api::page,
    auth::Caller,
    domain::{
        Check, FieldPath,
        citation::{Citation, CitationFilter, CitationSource, PlacedCitation, check_all},
        page::Fingerprint,
    },
};
use chatledger_protocol::{self as pb, list_citations_request};

pub(super) fn citation(citation: pb::Citation) -> Citation {
    Citation {
        document_id: citation.document_id,
        chunk_id: citation.chunk_id,
        score: citation.score,
        index: citation.citation_index,
    }
}

/// A citation inside of its message.
pub(super) fn citation_to_pb(citation: Citation) -> pb::Citation {
    pb::Citation {
        document_id: citation.document_id,
        chunk_id: citation.chunk_id,
        score: citation.score,
        citation_index: citation.index,
        ..pb::Citation::default()
    }
}

/// A citation by itself.
pub(in crate::api) fn placed_citation_to_pb(placed: PlacedCitation) -> pb::Citation {
    pb::Citation {
        session_id: placed.session_id.to_string(),
        message_id: placed.message_id.to_string(),
        create_time: Some(time_to_pb(placed.created_at)),
        ..citation_to_pb(placed.citation)
    }
}

/// The session, the message and the citations.
pub(in crate::api) fn citations_to_add(
    check: &mut Check<'_>,
    request: pb::AddCitationsRequest,
) -> (Uuid, Uuid, Vec<Citation>) {
    let root = FieldPath::ROOT;
    let session_id = session_id(check, &request.session_id);
    let message_id = check.uuid(&root.field("message_id"), &request.message_id);
    let citations: Vec<Citation> = request.citations.into_iter().map(citation).collect();
    if citations.is_empty() {
        check.violation(&root.field("citations"), "is required");
    }
    check_all(check, &root, &citations);
    (session_id, message_id, citations)
}

pub(in crate::api) fn citation_filter(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::ListCitationsRequest,
) -> (CitationFilter, Fingerprint) {
    use list_citations_request::Source;

    let root = FieldPath::ROOT;
    let (page, list) = page::read(check, caller, &request);
    let source = match request.source {
        Some(Source::Message(key)) => {
            let at = root.field("message");
            CitationSource::Message {
                session_id: check.uuid(&at.field("session_id"), &key.session_id),
                message_id: check.uuid(&at.field("message_id"), &key.message_id),
            }
        }
        Some(Source::DocumentId(id)) => {
            check.document_id(&root.field("document_id"), &id);
            CitationSource::Document(id)
        }
        None => {
            check.violation(&root.field("source"), "is required: message or document_id");
            CitationSource::Document(String::new())
        }
    };
    (CitationFilter { page, source }, list)
}
