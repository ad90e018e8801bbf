//! Errors as gRPC statuses: code, reason and details. The only place where one becomes the other.

use std::collections::HashMap;

use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::{Error, Resource, Violation};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "chatledger";

/// The most bytes of an error's violations that its details tell. A status travels in trailers, and
/// clients take 8 KiB of them (grpc's C core) or 16 (hyper, which ends the whole connection beyond): with
/// base64, and the text below, this stays under 8.
const MAX_DETAILS: usize = 3 << 10;
/// The most bytes of an error's text, which travels percent-encoded, and once more in the details.
const MAX_TEXT: usize = 600;
/// The bytes that a violation needs besides its texts: tags and lengths.
const VIOLATION_OVERHEAD: usize = 8;

/// An error as a program sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorDescription {
    /// The status code.
    pub code: Code,
    /// The `ErrorInfo`'s reason.
    pub reason: String,
    /// The `ErrorInfo`'s metadata.
    pub metadata: HashMap<String, String>,
}

/// An error's code, reason and metadata.
#[must_use]
pub fn describe(error: &Error) -> ErrorDescription {
    let mut metadata = HashMap::new();
    let (code, reason) = match error {
        Error::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELD"),
        Error::NotFound(resource) => (Code::NotFound, not_found(*resource)),
        Error::EmailTaken => (Code::AlreadyExists, "EMAIL_TAKEN"),
        Error::ExternalIdTaken => (Code::AlreadyExists, "EXTERNAL_ID_TAKEN"),
        Error::IdTaken(_) => (Code::AlreadyExists, "ID_TAKEN"),
        Error::CitationIndexTaken(index) => {
            metadata.insert("citation_index".to_owned(), index.to_string());
            (Code::AlreadyExists, "CITATION_INDEX_TAKEN")
        }
        Error::MessageIdReused(_) => (Code::AlreadyExists, "MESSAGE_ID_REUSED"),
        Error::MessageDeleted => (Code::FailedPrecondition, "MESSAGE_DELETED"),
        Error::SequenceConflict { last_seq } => {
            metadata.insert("last_seq".to_owned(), last_seq.to_string());
            (Code::Aborted, "SEQUENCE_CONFLICT")
        }
        Error::InvalidCredentials => (Code::Unauthenticated, "INVALID_CREDENTIALS"),
        Error::CredentialsRequired => (Code::Unauthenticated, "CREDENTIALS_REQUIRED"),
        Error::CredentialsRefused(fault) => {
            metadata.insert("cause".to_owned(), fault.name().to_owned());
            (Code::Unauthenticated, "INVALID_CREDENTIALS")
        }
        Error::KeysUnavailable => (Code::Unavailable, "KEYS_UNAVAILABLE"),
        Error::ScopeRequired(scope) => {
            metadata.insert("scope".to_owned(), scope.name().to_owned());
            (Code::PermissionDenied, "SCOPE_REQUIRED")
        }
        Error::NotForEndUsers => (Code::PermissionDenied, "SCOPE_REQUIRED"),
        Error::ScopeNotServed => (Code::Unimplemented, "SCOPE_NOT_SERVED"),
        Error::Overloaded(shortage) => {
            metadata.insert("limit".to_owned(), shortage.name().to_owned());
            (Code::ResourceExhausted, "OVERLOADED")
        }
        Error::RateLimited { limit, .. } => {
            metadata.insert("limit".to_owned(), limit.clone());
            (Code::ResourceExhausted, "RATE_LIMITED")
        }
        Error::QuotaExceeded { limit } => {
            metadata.insert("limit".to_owned(), (*limit).to_owned());
            (Code::ResourceExhausted, "QUOTA_EXCEEDED")
        }
        Error::DatabaseUnavailable => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
        Error::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        Error::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Error::DatabaseRefused { constraint } => {
            if let Some(constraint) = constraint {
                metadata.insert("constraint".to_owned(), constraint.clone());
            }
            (Code::FailedPrecondition, "DATABASE_REFUSED")
        }
        Error::Internal => (Code::Internal, "INTERNAL"),
    };
    ErrorDescription {
        code,
        reason: reason.to_owned(),
        metadata,
    }
}

fn not_found(resource: Resource) -> &'static str {
    match resource {
        Resource::User => "USER_NOT_FOUND",
        Resource::Profile => "PROFILE_NOT_FOUND",
        Resource::Session => "SESSION_NOT_FOUND",
        Resource::Message => "MESSAGE_NOT_FOUND",
        Resource::Citation => "CITATION_NOT_FOUND",
        Resource::Document => "DOCUMENT_NOT_FOUND",
        Resource::ApiKey => "API_KEY_NOT_FOUND",
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let ErrorDescription {
            code,
            reason,
            metadata,
        } = describe(&error);
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        let mut text = error.to_string();
        if let Error::Invalid(violations) = &error {
            for violation in shortened(violations, MAX_DETAILS) {
                details.add_bad_request_violation(violation.field, violation.description);
            }
            text = Error::Invalid(shortened(violations, MAX_TEXT)).to_string();
        }
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details_and_metadata(code, text, details, headers_of(&error))
    }
}

/// The headers by which HTTP tells of limits (draft-ietf-httpapi-ratelimit-headers), where one is reached.
fn headers_of(error: &Error) -> MetadataMap {
    let mut headers = MetadataMap::new();
    if let Error::RateLimited {
        most, retry_after, ..
    } = error
    {
        // Whole seconds, and none of them too early.
        let reset = retry_after.as_millis().div_ceil(1000);
        let reset = u64::try_from(reset).unwrap_or(u64::MAX);
        headers.insert("ratelimit-limit", (*most).into());
        headers.insert("ratelimit-remaining", 0_u64.into());
        headers.insert("ratelimit-reset", reset.into());
    }
    headers
}

/// The first violations, as many as fit, and one that says how many there are besides.
fn shortened(violations: &[Violation], max_bytes: usize) -> Vec<Violation> {
    let mut bytes = 0;
    let fitting = violations.iter().take_while(|violation| {
        bytes += violation.field.len() + violation.description.len() + VIOLATION_OVERHEAD;
        bytes <= max_bytes
    });
    let mut shown: Vec<Violation> = fitting.cloned().collect();
    if let Some(next) = violations.get(shown.len()) {
        let more = violations.len() - shown.len();
        shown.push(Violation {
            field: next.field.clone(),
            description: format!("is bad too ({more} more from here on, which are too many to tell)"),
        });
    }
    shown
}

/// A status that the gRPC library made, with the details that every error of this service carries. One
/// that has details already is left as it is.
#[must_use]
pub fn complete(status: Status, max_request_bytes: usize) -> Status {
    if !status.details().is_empty() || status.code() == Code::Ok {
        return status;
    }
    if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) {
        // tonic's words for a request that is larger than the limit on decoding, as it came or unpacked.
        return Error::invalid("request", format!("must have at most {max_request_bytes} bytes")).into();
    }
    // The codes' own names, as in Code::Unimplemented: UNIMPLEMENTED.
    let reason = format!("{:?}", status.code())
        .chars()
        .fold(String::new(), |mut name, c| {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
            name
        });
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    // Its headers stay: a compression that isn't known is answered with those that are.
    let headers = status.metadata().clone();
    Status::with_error_details_and_metadata(status.code(), status.message(), details, headers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn passing_errors_say_when_to_try_again() {
        let status = Status::from(Error::DatabaseUnavailable);
        let retry = status.get_details_retry_info().expect("RetryInfo");
        assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
    }

    #[test]
    fn statuses_of_the_library_get_details() {
        let status = complete(Status::unimplemented(""), 1);
        assert_eq!(
            status.get_details_error_info().expect("ErrorInfo").reason,
            "UNIMPLEMENTED"
        );
        let status = complete(Status::invalid_argument("x"), 1);
        assert_eq!(
            status.get_details_error_info().expect("ErrorInfo").reason,
            "INVALID_ARGUMENT"
        );
        for too_large in [
            Status::out_of_range("too large"),
            Status::resource_exhausted("too large"),
        ] {
            let status = complete(too_large, 8);
            assert_eq!(status.code(), Code::InvalidArgument);
            let bad = status.get_details_bad_request().expect("BadRequest");
            assert_eq!(bad.field_violations[0].field, "request");
        }
    }
}
