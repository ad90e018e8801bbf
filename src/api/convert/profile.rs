//! Profiles.

use super::{UpdateMask, time_to_pb};
use crate::{
    api::page,
    auth::Caller,
    domain::{
        Check, FieldPath, JsonMode,
        page::Fingerprint,
        profile::{DEFAULT_LANGUAGE, Profile, ProfileChange, ProfileFields, ProfileFilter, check_level},
    },
};
use chatledger_protocol as pb;

pub(in crate::api) fn profile_to_pb(profile: Profile) -> pb::Profile {
    pb::Profile {
        user_id: profile.user_id.to_string(),
        software_background: profile.software_background,
        hardware_background: profile.hardware_background,
        learning_goals: profile.learning_goals,
        experience_level: profile.experience_level,
        preferred_language: Some(profile.preferred_language),
        preferences_json: profile.preferences,
        create_time: Some(time_to_pb(profile.created_at)),
        update_time: Some(time_to_pb(profile.updated_at)),
    }
}

/// The fields that are set, checked.
pub(super) fn profile_fields(
    check: &mut Check<'_>,
    at: &FieldPath<'_>,
    profile: pb::Profile,
) -> ProfileFields {
    let preferences = Some(profile.preferences_json).filter(|json| !json.is_empty());
    let fields = ProfileFields {
        software_background: profile.software_background,
        hardware_background: profile.hardware_background,
        learning_goals: profile.learning_goals,
        experience_level: profile.experience_level,
        preferred_language: profile.preferred_language,
        preferences: check.optional_json(&at.field("preferences_json"), preferences),
    };
    fields.validate(check, at);
    fields
}

pub(in crate::api) fn profile_change(
    check: &mut Check<'_>,
    request: pb::UpdateProfileRequest,
) -> ProfileChange {
    let root = FieldPath::ROOT;
    let at = root.field("profile");
    let mask = UpdateMask::read(
        check,
        request.update_mask,
        &[
            "software_background",
            "hardware_background",
            "learning_goals",
            "experience_level",
            "preferred_language",
            "preferences_json",
        ],
    );
    let profile = request.profile.unwrap_or_else(|| {
        check.violation(&at, "is required");
        pb::Profile::default()
    });
    let user_id = check.uuid(&at.field("user_id"), &profile.user_id);
    let fields = profile_fields(check, &at, profile);
    let create = request.allow_missing.then(|| fields.clone());
    ProfileChange {
        user_id,
        software_background: mask.apply("software_background", fields.software_background),
        hardware_background: mask.apply("hardware_background", fields.hardware_background),
        learning_goals: mask.apply("learning_goals", fields.learning_goals),
        experience_level: mask.apply("experience_level", fields.experience_level),
        preferred_language: mask
            .apply("preferred_language", fields.preferred_language)
            .map(|language| language.unwrap_or_else(|| DEFAULT_LANGUAGE.to_owned())),
        preferences: mask
            .apply("preferences_json", fields.preferences)
            .map(Option::unwrap_or_default),
        preferences_mode: if request.merge_preferences {
            JsonMode::Merge
        } else {
            JsonMode::Replace
        },
        create,
    }
}

pub(in crate::api) fn profile_filter(
    check: &mut Check<'_>,
    caller: &Caller,
    request: pb::ListProfilesRequest,
) -> (ProfileFilter, Fingerprint) {
    let root = FieldPath::ROOT;
    let (page, list) = page::read(check, caller, &request);
    if let Some(level) = &request.experience_level {
        check_level(check, &root.field("experience_level"), level);
    }
    let contain = check.optional_json(
        &root.field("preferences_contain_json"),
        request.preferences_contain_json,
    );
    let filter = ProfileFilter {
        page,
        experience_level: request.experience_level,
        preferences_contain: contain,
    };
    (filter, list)
}
