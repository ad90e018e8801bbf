//! The domain: what the service is about, in plain types: no prost, no SQL, no tonic.
//!
//! One file a resource: what is stored, what a request may ask for, and which values are allowed. What
//! they share: [`check`] collects the violations of a request, [`error`] is the one error enum, [`json`]
//! and [`page`] are the JSON fields and the page tokens.

pub mod access;
pub mod analytics;
pub mod check;
pub mod citation;
pub mod document;
pub mod error;
pub mod json;
pub mod limits;
pub mod message;
pub mod page;
pub mod profile;
pub mod session;
pub mod shortage;
pub mod usage;
pub mod user;

pub use check::{Check, FieldPath};
pub use error::{Error, Resource, Result, Violation};
pub use json::JsonObject;
pub use limits::Limits;
pub use shortage::Shortage;

/// The way in which an update changes a JSON field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonMode {
    /// Sets the given keys and removes those whose given value is null.
    Merge,
    /// Replaces the whole object.
    Replace,
}
