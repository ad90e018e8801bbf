//! `ProfileService`: one profile a user.

use tonic::{Code, Response, Status};

use crate::harness::*;

type ProfileAnswer = Result<Response<pb::UpdateProfileResponse>, Status>;

async fn get(server: &TestServer, user_id: &str) -> Result<Response<pb::GetProfileResponse>, Status> {
    let request = pb::GetProfileRequest {
        user_id: user_id.to_owned(),
    };
    server.profiles().get_profile(request).await
}

async fn update(server: &TestServer, request: pb::UpdateProfileRequest) -> ProfileAnswer {
    server.profiles().update_profile(request).await
}

fn updated(result: ProfileAnswer) -> pb::Profile {
    answer(result).profile.expect("a profile")
}

fn of(user_id: &str) -> pb::Profile {
    pb::Profile {
        user_id: user_id.to_owned(),
        ..Default::default()
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A server with a user whose profile has every field.
async fn ada() -> (TestDatabase, TestServer, pb::Profile) {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user = new_user(&server).await;
    let profile = pb::Profile {
        software_background: text("Rust"),
        hardware_background: text("FPGA"),
        learning_goals: text("ROS 2"),
        experience_level: text("expert"),
        preferred_language: text("ur-PK"),
        preferences_json: r#"{"a":1,"b":{"c":2}}"#.into(),
        ..of(&user.id)
    };
    let request = pb::UpdateProfileRequest {
        profile: Some(profile),
        allow_missing: true,
        ..Default::default()
    };
    let profile = updated(update(&server, request).await);
    (database, server, profile)
}

#[tokio::test]
async fn a_profile_that_is_missing_is_created_where_that_is_allowed() {
    let (_database, server, profile) = ada().await;
    assert_eq!(
        profile,
        pb::Profile {
            user_id: profile.user_id.clone(),
            software_background: text("Rust"),
            hardware_background: text("FPGA"),
            learning_goals: text("ROS 2"),
            experience_level: text("expert"),
            preferred_language: text("ur-PK"),
            preferences_json: r#"{"a": 1, "b": {"c": 2}}"#.into(),
            create_time: profile.create_time,
            update_time: profile.create_time,
        }
    );
    assert!(nanos(profile.create_time) > 0);
    let stored = answer(get(&server, &profile.user_id.to_uppercase()).await);
    assert_eq!(stored.profile, Some(profile));

    // The mask is not looked at then, and what isn't set has its default.
    let user = new_user(&server).await;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            learning_goals: text("SLAM"),
            ..of(&user.id)
        }),
        update_mask: mask(&["experience_level"]),
        allow_missing: true,
        ..Default::default()
    };
    let created = updated(update(&server, request).await);
    assert_eq!(
        created,
        pb::Profile {
            learning_goals: text("SLAM"),
            preferred_language: text("en"),
            preferences_json: "{}".into(),
            create_time: created.create_time,
            update_time: created.create_time,
            ..of(&user.id)
        }
    );
}

#[tokio::test]
async fn a_missing_user_and_a_missing_profile_are_told_apart() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let without_profile = new_user(&server).await.id;
    for (user_id, reason) in [(without_profile, "PROFILE_NOT_FOUND"), (id(), "USER_NOT_FOUND")] {
        assert_refused(get(&server, &user_id).await, Code::NotFound, reason);
        let request = pb::UpdateProfileRequest {
            profile: Some(of(&user_id)),
            ..Default::default()
        };
        assert_refused(update(&server, request).await, Code::NotFound, reason);
        let request = pb::DeleteProfileRequest { user_id };
        let deleted = server.profiles().delete_profile(request).await;
        assert_refused(deleted, Code::NotFound, reason);
    }
    let request = pb::UpdateProfileRequest {
        profile: Some(of(&id())),
        allow_missing: true,
        ..Default::default()
    };
    assert_refused(update(&server, request).await, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_profile_created_at_the_same_moment_by_two_has_the_fields_of_both() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let user = new_user(&one).await;
    let request = |profile: pb::Profile| pb::UpdateProfileRequest {
        profile: Some(profile),
        allow_missing: true,
        merge_preferences: true,
        ..Default::default()
    };
    let software = pb::Profile {
        software_background: text("Rust"),
        preferences_json: r#"{"a":1}"#.into(),
        ..of(&user.id)
    };
    let hardware = pb::Profile {
        hardware_background: text("FPGA"),
        preferences_json: r#"{"b":2}"#.into(),
        ..of(&user.id)
    };
    let (first, second) = tokio::join!(update(&one, request(software)), update(&two, request(hardware)));
    assert_eq!(
        updated(first).create_time,
        updated(second).create_time,
        "it was created once"
    );
    let stored = answer(get(&one, &user.id).await).profile.expect("a profile");
    assert_eq!(stored.software_background, text("Rust"));
    assert_eq!(stored.hardware_background, text("FPGA"));
    assert_eq!(stored.preferences_json, r#"{"a": 1, "b": 2}"#);
}

#[tokio::test]
async fn an_empty_mask_means_the_fields_that_are_set() {
    let (_database, server, profile) = ada().await;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            hardware_background: text(""),
            preferred_language: text("de"),
            ..of(&profile.user_id)
        }),
        update_mask: mask(&[]),
        ..Default::default()
    };
    let changed = updated(update(&server, request).await);
    assert!(nanos(changed.update_time) > nanos(profile.update_time));
    assert_eq!(
        changed,
        pb::Profile {
            hardware_background: text(""),
            preferred_language: text("de"),
            update_time: changed.update_time,
            ..profile.clone()
        }
    );
    assert_eq!(
        answer(get(&server, &profile.user_id).await).profile,
        Some(changed)
    );
}

#[tokio::test]
async fn fields_that_are_named_and_unset_are_cleared() {
    let (_database, server, profile) = ada().await;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            software_background: text("not named"),
            experience_level: text("beginner"),
            ..of(&profile.user_id)
        }),
        update_mask: mask(&[
            "learning_goals",
            "experience_level",
            "preferred_language",
            "preferences_json",
        ]),
        ..Default::default()
    };
    let changed = updated(update(&server, request).await);
    assert_eq!(
        changed,
        pb::Profile {
            learning_goals: None,
            experience_level: text("beginner"),
            preferred_language: text("en"),
            preferences_json: "{}".into(),
            update_time: changed.update_time,
            ..profile.clone()
        }
    );
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            learning_goals: text("all else is cleared"),
            ..of(&profile.user_id)
        }),
        update_mask: mask(&["*"]),
        ..Default::default()
    };
    let changed = updated(update(&server, request).await);
    assert_eq!(
        changed,
        pb::Profile {
            learning_goals: text("all else is cleared"),
            preferred_language: text("en"),
            preferences_json: "{}".into(),
            create_time: profile.create_time,
            update_time: changed.update_time,
            ..of(&profile.user_id)
        }
    );
}

#[tokio::test]
async fn preferences_are_replaced_or_merged() {
    let (_database, server, profile) = ada().await;
    for (merge, given, expected) in [
        (true, r#"{"b":null,"d":[1]}"#, r#"{"a": 1, "d": [1]}"#),
        (true, r#"{"a":{"x":null}}"#, r#"{"a": {"x": null}, "d": [1]}"#),
        (true, "{}", r#"{"a": {"x": null}, "d": [1]}"#),
        (false, r#"{"e":null}"#, r#"{"e": null}"#),
        (false, "{}", "{}"),
    ] {
        let request = pb::UpdateProfileRequest {
            profile: Some(pb::Profile {
                preferences_json: given.into(),
                ..of(&profile.user_id)
            }),
            merge_preferences: merge,
            ..Default::default()
        };
        let changed = updated(update(&server, request).await);
        assert_eq!(changed.preferences_json, expected, "{given}");
        assert_eq!(changed.software_background, profile.software_background);
    }
}

#[tokio::test]
async fn a_merge_that_creates_the_profile_merges_into_nothing() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (merge, expected) in [(true, r#"{"b": 2}"#), (false, r#"{"a": null, "b": 2}"#)] {
        let request = pb::UpdateProfileRequest {
            profile: Some(pb::Profile {
                preferences_json: r#"{"a":null,"b":2}"#.into(),
                ..of(&new_user(&server).await.id)
            }),
            allow_missing: true,
            merge_preferences: merge,
            ..Default::default()
        };
        // Twice, so that a retry changes nothing.
        let created = updated(update(&server, request.clone()).await);
        assert_eq!(created.preferences_json, expected);
        assert_eq!(updated(update(&server, request).await).preferences_json, expected);
    }
}

#[tokio::test]
async fn preferences_that_would_be_too_large_when_merged_change_nothing() {
    let (_database, server, profile) = ada().await;
    let half = |key: &str| format!(r#"{{"{key}":"{}"}}"#, "x".repeat(40_000));
    let request = |key: &str| pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            learning_goals: text(key),
            preferences_json: half(key),
            ..of(&profile.user_id)
        }),
        merge_preferences: true,
        ..Default::default()
    };
    let first = updated(update(&server, request("y")).await);
    assert_invalid(update(&server, request("z")).await, &["profile.preferences_json"]);
    assert_eq!(answer(get(&server, &profile.user_id).await).profile, Some(first));
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let (_database, server, profile) = ada().await;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            user_id: "me".into(),
            software_background: Some("é".repeat(4001)),
            hardware_background: Some("x".repeat(4001)),
            learning_goals: text("\0"),
            experience_level: Some("x".repeat(101)),
            preferred_language: text(""),
            preferences_json: "{".into(),
            ..Default::default()
        }),
        update_mask: mask(&["user_id"]),
        ..Default::default()
    };
    assert_invalid(
        update(&server, request).await,
        &[
            "update_mask",
            "profile.user_id",
            "profile.preferences_json",
            "profile.software_background",
            "profile.hardware_background",
            "profile.learning_goals",
            "profile.experience_level",
            "profile.preferred_language",
        ],
    );
    assert_invalid(
        update(&server, pb::UpdateProfileRequest::default()).await,
        &["profile", "profile.user_id"],
    );
    assert_invalid(get(&server, "").await, &["user_id"]);
    let request = pb::DeleteProfileRequest {
        user_id: format!("{}0", profile.user_id),
    };
    let deleted = server.profiles().delete_profile(request).await;
    assert_invalid(deleted, &["user_id"]);
    assert_eq!(
        answer(get(&server, &profile.user_id).await).profile,
        Some(profile)
    );
}

#[tokio::test]
async fn texts_hold_their_limits_in_characters() {
    let (_database, server, profile) = ada().await;
    let longest = pb::Profile {
        software_background: Some("é".repeat(4000)),
        hardware_background: Some("🦀".repeat(4000)),
        learning_goals: Some("x".repeat(4000)),
        experience_level: Some("é".repeat(100)),
        // RFC 5646's longest that needs room: 35 characters.
        preferred_language: text("zh-cmn-Hant-CN-rozaj-biske-1994-x-a"),
        ..of(&profile.user_id)
    };
    let request = pb::UpdateProfileRequest {
        profile: Some(longest.clone()),
        ..Default::default()
    };
    let changed = updated(update(&server, request).await);
    assert_eq!(changed.software_background, longest.software_background);
    assert_eq!(changed.hardware_background, longest.hardware_background);
    assert_eq!(changed.learning_goals, longest.learning_goals);
    assert_eq!(changed.experience_level, longest.experience_level);
    assert_eq!(changed.preferred_language, longest.preferred_language);
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            preferred_language: text("zh-cmn-Hant-CN-rozaj-biske-1994-x-ab"),
            ..of(&profile.user_id)
        }),
        ..Default::default()
    };
    assert_invalid(update(&server, request).await, &["profile.preferred_language"]);
}

#[tokio::test]
async fn a_deleted_profile_is_gone_and_the_user_stays() {
    let (_database, server, profile) = ada().await;
    let request = pb::DeleteProfileRequest {
        user_id: profile.user_id.clone(),
    };
    answer(server.profiles().delete_profile(request.clone()).await);
    assert_refused(
        get(&server, &profile.user_id).await,
        Code::NotFound,
        "PROFILE_NOT_FOUND",
    );
    let again = server.profiles().delete_profile(request).await;
    assert_refused(again, Code::NotFound, "PROFILE_NOT_FOUND");
}
