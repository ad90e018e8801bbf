//! The rules of the service, for records: what a request may not hold, an import doesn't store.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::record::{DocumentRecord, Json, MessageRecord, ProfileRecord, SessionRecord, UserRecord};
use chatledger::domain::{
    Check, Error, FieldPath, JsonObject, Limits, Violation,
    citation::{Citation, assign_indexes},
    document::NewDocument,
    message::{NewMessage, Role},
    profile::ProfileFields,
    session, user,
};

/// The rules that a record is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordRules<'a> {
    pub(super) limits: &'a Limits,
    pub(super) now: Timestamp,
}

/// All that is wrong with a record, by field.
pub(super) struct RecordFaults(Vec<Violation>);

impl RecordFaults {
    /// The fields; the same for all that are wrong alike.
    pub(super) fn reason(&self) -> String {
        let mut fields: Vec<&str> = self.0.iter().map(|wrong| bare(&wrong.field)).collect();
        fields.sort_unstable();
        fields.dedup();
        format!("not valid: {}", fields.join(", "))
    }

    /// The faults in words, field by field.
    pub(super) fn detail(&self) -> String {
        let each: Vec<String> = self
            .0
            .iter()
            .map(|wrong| format!("{} {}", wrong.field, wrong.description))
            .collect();
        each.join("; ")
    }
}

/// `citations[2].score` without the place.
fn bare(field: &str) -> &str {
    field.split('[').next().unwrap_or(field)
}

impl<'a> RecordRules<'a> {
    fn check<T>(self, read: impl FnOnce(&mut Check<'a>) -> T) -> Result<T, RecordFaults> {
        let mut check = Check::new(self.limits, self.now);
        let value = read(&mut check);
        check.finish(value).map_err(|error| match error {
            Error::Invalid(violations) => RecordFaults(violations),
            // A check has no other error.
            _ => RecordFaults(Vec::new()),
        })
    }

    pub(super) fn user(self, record: &UserRecord) -> Result<(), RecordFaults> {
        let at = |name| FieldPath::ROOT.field(name);
        self.check(|check| {
            user::check_email(check, &at("email"), &record.email);
            if let Some(id) = &record.external_id {
                user::check_external_id(check, &at("external_id"), id);
            }
            if let Some(name) = &record.name {
                user::check_name(check, &at("name"), name);
            }
        })
    }

    pub(super) fn profile(self, record: &ProfileRecord) -> Result<ProfileFields, RecordFaults> {
        self.check(|check| {
            let fields = ProfileFields {
                software_background: record.software_background.clone(),
                hardware_background: record.hardware_background.clone(),
                learning_goals: record.learning_goals.clone(),
                experience_level: record.experience_level.clone(),
                preferred_language: record.preferred_language.clone(),
                preferences: Some(json(check, "preferences", record.preferences.as_ref())),
            };
            fields.validate(check, &FieldPath::ROOT);
            fields
        })
    }

    pub(super) fn document(self, record: &DocumentRecord) -> Result<NewDocument, RecordFaults> {
        self.check(|check| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let document = NewDocument {
                id: record.id.clone(),
                title: text(&record.title),
                source_uri: text(&record.source_uri),
                mime_type: text(&record.mime_type),
                content_hash: text(&record.content_hash),
                metadata: json(check, "metadata", record.metadata.as_ref()),
            };
            document.validate(check, &FieldPath::ROOT);
            document
        })
    }

    pub(super) fn session(self, record: &SessionRecord) -> Result<JsonObject, RecordFaults> {
        self.check(|check| {
            if let Some(title) = &record.title {
                session::check_title(check, &FieldPath::ROOT.field("title"), title);
            }
            if let Some(hash) = &record.claim_hash {
                let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !is_hash {
                    check.violation(
                        &FieldPath::ROOT.field("claim_hash"),
                        "must be 64 hexadecimal digits",
                    );
                }
            }
            json(check, "metadata", record.metadata.as_ref())
        })
    }

    /// A message. One without a time gets `default`'s, and none is in the future.
    pub(super) fn message(
        self,
        record: &MessageRecord,
        default: Timestamp,
    ) -> Result<NewMessage, RecordFaults> {
        self.check(|check| {
            let role = Role::parse(&record.role).unwrap_or_else(|| {
                check.violation(
                    &FieldPath::ROOT.field("role"),
                    format!("is {:?}, not user, assistant, system or tool", record.role),
                );
                Role::User
            });
            let payload = record.payload.as_ref().map(|text| {
                STANDARD.decode(text).unwrap_or_else(|error| {
                    check.violation(
                        &FieldPath::ROOT.field("payload"),
                        format!("must be base64: {error}"),
                    );
                    Vec::new()
                })
            });
            let message = NewMessage {
                id: record.id,
                id_is_given: true,
                role,
                content: record.content.clone(),
                selected_text: record.selected_text.clone(),
                metadata: json(check, "metadata", record.metadata.as_ref()),
                payload: payload.map(Into::into),
                citations: citations(record),
                created_at: Some(record.created_at.unwrap_or(default).min(check.now)),
            };
            message.validate(check, &FieldPath::ROOT);
            message
        })
    }
}

/// The citations with an index each: its own, or the next that is free where it has none that can be kept.
fn citations(record: &MessageRecord) -> Vec<Citation> {
    let mut taken = std::collections::HashSet::new();
    let mut citations: Vec<Citation> = record
        .citations
        .iter()
        .map(|citation| Citation {
            document_id: citation.document_id.clone(),
            chunk_id: citation.chunk_id.clone().unwrap_or_default(),
            score: citation.score.unwrap_or(0.0),
            index: citation
                .citation_index
                .filter(|index| *index > 0 && taken.insert(*index))
                .unwrap_or(0),
        })
        .collect();
    assign_indexes(&mut citations, 0);
    citations
}

fn json(check: &mut Check<'_>, name: &str, object: Option<&Json>) -> JsonObject {
    let text = object.map(|json| json.get().to_owned()).unwrap_or_default();
    check.json(&FieldPath::ROOT.field(name), text)
}
