//! Onboarding profiles.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Check, FieldPath, JsonMode, JsonObject, page::Page};

/// A user's onboarding answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The user.
    pub user_id: Uuid,
    /// The user's knowledge of software.
    pub software_background: Option<String>,
    /// The user's knowledge of hardware.
    pub hardware_background: Option<String>,
    /// The user's goals in learning.
    pub learning_goals: Option<String>,
    /// A level of the application's own choosing.
    pub experience_level: Option<String>,
    /// A BCP-47 language tag.
    pub preferred_language: String,
    /// A JSON object.
    pub preferences: String,
    /// The moment when the profile was created.
    pub created_at: Timestamp,
    /// The moment when it was last changed.
    pub updated_at: Timestamp,
}

/// The language of a profile that names none.
pub const DEFAULT_LANGUAGE: &str = "en";

/// The fields of a profile that a request sets; `None` is a field that is not set.
#[derive(Clone, Debug, Default)]
pub struct ProfileFields {
    /// The user's knowledge of software.
    pub software_background: Option<String>,
    /// The user's knowledge of hardware.
    pub hardware_background: Option<String>,
    /// The user's goals in learning.
    pub learning_goals: Option<String>,
    /// A level of the application's own choosing.
    pub experience_level: Option<String>,
    /// A BCP-47 language tag.
    pub preferred_language: Option<String>,
    /// A JSON object.
    pub preferences: Option<JsonObject>,
}

/// The longest free text, in characters.
const MAX_TEXT: usize = 4000;
/// The longest level, in characters.
const MAX_LEVEL: usize = 100;
/// The longest language tag, in characters: RFC 5646, section 4.4.1, asks for room for 35.
const MAX_LANGUAGE: usize = 35;

impl ProfileFields {
    /// Checks the texts.
    pub fn validate(&self, check: &mut Check<'_>, at: &FieldPath<'_>) {
        for (name, text) in [
            ("software_background", &self.software_background),
            ("hardware_background", &self.hardware_background),
            ("learning_goals", &self.learning_goals),
        ] {
            if let Some(text) = text {
                check.text_chars(&at.field(name), text, MAX_TEXT);
            }
        }
        if let Some(level) = &self.experience_level {
            check_level(check, &at.field("experience_level"), level);
        }
        if let Some(tag) = &self.preferred_language
            && (tag.len() > MAX_LANGUAGE || !is_language_tag(tag))
        {
            check.violation(
                &at.field("preferred_language"),
                "must be a BCP-47 language tag such as en, ur-PK or zh-Hant",
            );
        }
    }
}

/// Checks a level.
pub fn check_level(check: &mut Check<'_>, at: &FieldPath<'_>, level: &str) {
    check.text_chars(at, level, MAX_LEVEL);
}

/// The shape of RFC 5646's `Language-Tag`; whether the subtags are registered is not looked up.
fn is_language_tag(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let alphanumeric = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    subtags.next().is_some_and(|language| {
        // "i-" and "x-" begin grandfathered and private tags; else a language has two letters or more.
        let bare = language.len() > 1 || (tag.len() > 2 && matches!(language, "i" | "x" | "I" | "X"));
        bare && alphanumeric(language) && language.bytes().all(|byte| byte.is_ascii_alphabetic())
    }) && subtags.all(alphanumeric)
}

/// The changes of an update: the outer `None` leaves a field as it is, the inner one clears it.
#[derive(Debug)]
pub struct ProfileChange {
    /// The user.
    pub user_id: Uuid,
    /// The field's new value.
    pub software_background: Option<Option<String>>,
    /// The field's new value.
    pub hardware_background: Option<Option<String>>,
    /// The field's new value.
    pub learning_goals: Option<Option<String>>,
    /// The field's new value.
    pub experience_level: Option<Option<String>>,
    /// The new language; cleared, it is the default one.
    pub preferred_language: Option<String>,
    /// The new preferences, or what is merged into them.
    pub preferences: Option<JsonObject>,
    /// The way in which the preferences are changed.
    pub preferences_mode: JsonMode,
    /// Create the profile with these fields where there is none.
    pub create: Option<ProfileFields>,
}

/// Which profiles to list, by user id.
#[derive(Debug)]
pub struct ProfileFilter {
    /// Which page.
    pub page: Page<(Uuid,)>,
    /// The level that the profile must have.
    pub experience_level: Option<String>,
    /// An object that the preferences must contain.
    pub preferences_contain: Option<JsonObject>,
}

#[cfg(test)]
mod tests {
    use super::is_language_tag;

    #[test]
    fn language_tags() {
        for tag in [
            "en",
            "ur-PK",
            "zh-Hant-TW",
            "sl-rozaj-biske-1994",
            "x-whatever",
            "i-klingon",
            "de-1996",
        ] {
            assert!(is_language_tag(tag), "{tag}");
        }
        for tag in [
            "",
            "e",
            "x",
            "en_US",
            "en-",
            "-en",
            "english-language!",
            "12",
            "en--US",
            "überlang",
        ] {
            assert!(!is_language_tag(tag), "{tag}");
        }
    }
}
