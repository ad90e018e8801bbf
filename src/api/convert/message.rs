//! Messages.

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    citation::{citation, citation_to_pb},
    json_mode, optional_session_id, session_id, time, time_to_pb,
};
use crate::{
    api::page,
    auth::Caller,
    domain::{
        Check, FieldPath,
        citation::assign_indexes,
        message::{
            MAX_QUERY, Message, MessageChange, MessageFilter, MessageRange, NewMessage, Receipt, Role,
            Search, SearchHit,
        },
        page::Fingerprint,
    },
};
use chatledger_protocol as pb;

pub(super) fn role_to_pb(role: Role) -> pb::Role {
    match role {
        Role::User => pb::Role::User,
        Role::Assistant => pb::Role::Assistant,
        Role::System => pb::Role::System,
        Role::Tool => pb::Role::Tool,
    }
}

fn role(check: &mut Check<'_>, at: &FieldPath<'_>, role: i32) -> Role {
    match pb::Role::try_from(role) {
        Ok(pb::Role::User) => Role::User,
        Ok(pb::Role::Assistant) => Role::Assistant,
        Ok(pb::Role::System) => Role::System,
        Ok(pb::Role::Tool) => Role::Tool,
        Ok(pb::Role::Unspecified) => {
            check.violation(at, "is required");
            Role::User
        }
        Err(_) => {
            check.violation(at, format!("must be a Role, is {role}"));
            Role::User
        }
    }
}

fn roles(check: &mut Check<'_>, given: &[i32]) -> Vec<Role> {
    let root = FieldPath::ROOT;
    given
        .iter()
        .enumerate()
        .map(|(i, &given)| role(check, &root.item("roles", i), given))
        .collect()
}

pub(in crate::api) fn message_to_pb(message: Message) -> pb::Message {
    pb::Message {
        id: message.id.to_string(),
        session_id: message.session_id.to_string(),
        seq: message.seq,
        role: role_to_pb(message.role).into(),
        content: message.content,
        selected_text: message.selected_text,
        metadata_json: message.metadata,
        payload: message.payload,
        citations: message.citations.into_iter().map(citation_to_pb).collect(),
        create_time: Some(time_to_pb(message.created_at)),
    }
}

pub(in crate::api) fn receipt_to_pb(receipt: Receipt) -> pb::Receipt {
    pb::Receipt {
        message_id: receipt.message_id.to_string(),
        session_id: receipt.session_id.to_string(),
        seq: receipt.seq,
        create_time: Some(time_to_pb(receipt.created_at)),
        deduplicated: receipt.deduplicated,
    }
}

/// A message to append; `at` is where it is in the request.
pub(in crate::api) fn new_message(
    check: &mut Check<'_>,
    at: &FieldPath<'_>,
    message: Option<pb::NewMessage>,
) -> NewMessage {
    let message = message.unwrap_or_else(|| {
        check.violation(at, "is required");
        // Not worth a second complaint.
        pb::NewMessage {
            role: pb::Role::User.into(),
            ..pb::NewMessage::default()
        }
    });
    let given_id = check.optional_uuid(&at.field("message_id"), message.message_id.as_deref());
    let mut new = NewMessage {
        id: given_id.unwrap_or_else(Uuid::now_v7),
        id_is_given: given_id.is_some(),
        role: role(check, &at.field("role"), message.role),
        content: message.content,
        selected_text: message.selected_text,
        metadata: check.json(&at.field("metadata_json"), message.metadata_json),
        payload: message.payload,
        citations: message.citations.into_iter().map(citation).collect(),
        created_at: time(check, &at.field("create_time"), message.create_time),
    };
    new.validate(check, at);
    assign_indexes(&mut new.citations, 0);
    new
}

pub(in crate::api) fn new_messages(check: &mut Check<'_>, messages: Vec<pb::NewMessage>) -> Vec<NewMessage> {
    let root = FieldPath::ROOT;
    let max = check.limits.max_batch_messages;
    if messages.is_empty() || messages.len() > max {
        check.violation(
            &root.field("messages"),
            format!("must have 1 to {max} elements, has {}", messages.len()),
        );
        return Vec::new();
    }
    let mut ids = HashSet::new();
    let mut read = Vec::with_capacity(messages.len());
    for (i, message) in messages.into_iter().enumerate() {
        let at = root.item("messages", i);
        let message = new_message(check, &at, Some(message));
        if !ids.insert(message.id) {
            check.violation(&at.field("message_id"), "is given twice");
        }
        read.push(message);
    }
    read
}

pub(in crate::api) fn message_filter(
    check: &mut Check<'_>,
    caller: &Caller,
    request: &pb::ListMessagesRequest,
) -> (MessageFilter, Fingerprint) {
    let root = FieldPath::ROOT;
    let (page, list) = page::read(check, caller, request);
    let descending = match pb::MessageOrder::try_from(request.order) {
        Ok(pb::MessageOrder::Unspecified | pb::MessageOrder::SeqAsc) => false,
        Ok(pb::MessageOrder::SeqDesc) => true,
        Err(_) => {
            check.violation(
                &root.field("order"),
                format!("must be a MessageOrder, is {}", request.order),
            );
            false
        }
    };
    let range = message_range(
        check,
        pb::ReadMessagesRequest {
            session_id: request.session_id.clone(),
            after_seq: request.after_seq,
            before_seq: request.before_seq,
            roles: request.roles.clone(),
            omit_citations: request.omit_citations,
            payload_only: request.payload_only,
        },
    );
    let filter = MessageFilter {
        range,
        page,
        descending,
        chronological: request.chronological,
    };
    (filter, list)
}

pub(in crate::api) fn message_range(check: &mut Check<'_>, request: pb::ReadMessagesRequest) -> MessageRange {
    let root = FieldPath::ROOT;
    for (field, seq) in [
        ("after_seq", request.after_seq),
        ("before_seq", request.before_seq),
    ] {
        if seq.is_some_and(|seq| seq < 0) {
            check.violation(&root.field(field), "must not be negative");
        }
    }
    MessageRange {
        session_id: session_id(check, &request.session_id),
        after_seq: request.after_seq,
        before_seq: request.before_seq,
        roles: roles(check, &request.roles),
        with_citations: !request.omit_citations,
        payload_only: request.payload_only,
    }
}

pub(in crate::api) fn message_change(
    check: &mut Check<'_>,
    request: pb::UpdateMessageRequest,
) -> MessageChange {
    let root = FieldPath::ROOT;
    MessageChange {
        session_id: session_id(check, &request.session_id),
        message_id: check.uuid(&root.field("message_id"), &request.message_id),
        metadata: check.json(&root.field("metadata_json"), request.metadata_json),
        metadata_mode: json_mode(check, &root.field("metadata_mode"), request.metadata_mode),
    }
}

pub(in crate::api) fn search(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::SearchMessagesRequest,
) -> (Search, Fingerprint) {
    let root = FieldPath::ROOT;
    let (page, list) = page::read(check, caller, &request);
    check.required_bytes(&root.field("query"), &request.query, MAX_QUERY);
    let (in_content, in_selected_text) = search_fields(check, &request.fields);
    let search = Search {
        page,
        user_id: check.optional_uuid(&root.field("user_id"), request.user_id.as_deref()),
        session_id: optional_session_id(check, request.session_id.as_deref()),
        roles: roles(check, &request.roles),
        in_content,
        in_selected_text,
        query: request.query,
    };
    (search, list)
}

/// Whether to search in the content, and in the selected text.
fn search_fields(check: &mut Check<'_>, fields: &[i32]) -> (bool, bool) {
    let root = FieldPath::ROOT;
    let (mut content, mut selected_text) = (fields.is_empty(), fields.is_empty());
    for (i, &field) in fields.iter().enumerate() {
        match pb::SearchField::try_from(field) {
            Ok(pb::SearchField::Content) => content = true,
            Ok(pb::SearchField::SelectedText) => selected_text = true,
            Ok(pb::SearchField::Unspecified) | Err(_) => {
                check.violation(
                    &root.item("fields", i),
                    format!("must be a SearchField, is {field}"),
                );
            }
        }
    }
    (content, selected_text)
}

pub(in crate::api) fn search_hit_to_pb(hit: SearchHit) -> pb::SearchHit {
    pb::SearchHit {
        message: Some(message_to_pb(hit.message)),
        session_title: hit.session_title,
        rank: hit.rank,
        snippet: hit.snippet,
    }
}
