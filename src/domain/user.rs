//! Users.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Check, FieldPath, page::Page, profile::ProfileFields};

/// A person who chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The key.
    pub id: Uuid,
    /// Unique within the tenant, without regard to case.
    pub email: String,
    /// The id that an identity provider gives; unique within the tenant.
    pub external_id: Option<String>,
    /// The user's name; may be empty.
    pub name: String,
    /// Whether the user may sign in.
    pub is_active: bool,
    /// The moment when the user was created.
    pub created_at: Timestamp,
    /// The moment when the user was last changed.
    pub updated_at: Timestamp,
}

/// A user to create.
#[derive(Debug)]
pub struct NewUser {
    /// The key: the client's, or a new UUIDv7.
    pub id: Uuid,
    /// The email.
    pub email: String,
    /// The identity provider's id.
    pub external_id: Option<String>,
    /// The user's name.
    pub name: Option<String>,
    /// The profile to create with the user.
    pub profile: Option<ProfileFields>,
}

/// The key that finds one user.
#[derive(Debug)]
pub enum UserKey {
    /// The id.
    Id(Uuid),
    /// The email, whatever its case.
    Email(String),
    /// The identity provider's id.
    ExternalId(String),
}

/// The changes of an update; `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct UserChange {
    /// The new email.
    pub email: Option<String>,
    /// The new external id, or none.
    pub external_id: Option<Option<String>>,
    /// The new name.
    pub name: Option<String>,
    /// Whether the user may sign in.
    pub is_active: Option<bool>,
}

/// Which users to list, by id.
#[derive(Debug)]
pub struct UserFilter {
    /// Which page.
    pub page: Page<(Uuid,)>,
    /// How the email must begin, whatever its case.
    pub email_prefix: Option<String>,
    /// Whether the user must be active.
    pub is_active: Option<bool>,
}

/// The longest email, external id or name, in characters.
const MAX_TEXT: usize = 255;
/// The longest password, in bytes: hashing takes time with the length, and nobody types more.
const MAX_PASSWORD: usize = 1024;

/// An email: something on both sides of one `@`, without white space. Whether mail arrives there is for
/// the application to find out.
pub fn check_email(check: &mut Check<'_>, at: &FieldPath<'_>, email: &str) {
    let good_parts = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    let blank = email.contains(|c: char| c.is_whitespace() || c.is_control());
    if email.is_empty() || email.chars().count() > MAX_TEXT {
        check.required_chars(at, email, MAX_TEXT);
    } else if email.contains(is_invisible) {
        check.violation(
            at,
            "must not have characters that can't be seen, such as zero-width spaces",
        );
    } else if !good_parts || blank {
        check.violation(at, "must be an email address such as ada@example.com");
    }
}

/// Characters that show nothing, with which two emails look alike: general category Cf and
/// Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt), and the blank of Braille.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// An identity provider's id.
pub fn check_external_id(check: &mut Check<'_>, at: &FieldPath<'_>, external_id: &str) {
    check.required_chars(at, external_id, MAX_TEXT);
}

/// A name.
pub fn check_name(check: &mut Check<'_>, at: &FieldPath<'_>, name: &str) {
    check.text_chars(at, name, MAX_TEXT);
}

/// A password.
pub fn check_password(check: &mut Check<'_>, at: &FieldPath<'_>, password: &str) {
    if password.is_empty() {
        check.violation(at, "is required");
    } else if password.len() > MAX_PASSWORD {
        // Not the given length: it would tell a little of a secret.
        check.violation(at, format!("must have at most {MAX_PASSWORD} bytes"));
    }
}
