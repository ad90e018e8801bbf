//! The fields of users: what is refused, the limits at their edges, and update masks.

use crate::harness::*;

fn user(email: &str) -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        email: email.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateUserRequest {
        user_id: Some("1".into()),
        email: "nobody".into(),
        external_id: Some(String::new()),
        name: Some("n".repeat(256)),
        password: Some(String::new()),
        profile: Some(pb::Profile {
            software_background: Some("s".repeat(4001)),
            experience_level: Some("\0".into()),
            preferred_language: Some("en_US".into()),
            preferences_json: "[]".into(),
            ..Default::default()
        }),
    };
    assert_invalid(
        server.users().create_user(request).await,
        &[
            "user_id",
            "email",
            "external_id",
            "name",
            "password",
            "profile.preferences_json",
            "profile.software_background",
            "profile.experience_level",
            "profile.preferred_language",
        ],
    );
    let request = pb::UpdateUserRequest {
        user_id: String::new(),
        email: Some("@".into()),
        external_id: Some("e".repeat(256)),
        name: Some("\0".into()),
        ..Default::default()
    };
    assert_invalid(
        server.users().update_user(request).await,
        &["user_id", "email", "external_id", "name"],
    );
    let request = pb::SetPasswordRequest::default();
    assert_invalid(
        server.users().set_password(request).await,
        &["user_id", "password"],
    );
    assert_invalid(
        server.users().get_user(pb::GetUserRequest::default()).await,
        &["key"],
    );
    let request = pb::ListUsersRequest {
        page_size: -1,
        page_token: "?".into(),
        email_prefix: Some("\0".into()),
        is_active: None,
    };
    assert_invalid(
        server.users().list_users(request).await,
        &["page_size", "page_token", "email_prefix"],
    );
    let count = "SELECT count(*) FROM users";
    let row = database
        .client()
        .await
        .query_one(count, &[])
        .await
        .expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn only_canonical_uuids_are_ids() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for bad in [
        "",
        "0193b2a47c1e7d2a9f3b5e8d1c0a4b6f",
        "{0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f}",
        "urn:uuid:0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f",
        "0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6g",
        " 0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f",
    ] {
        let request = pb::CreateUserRequest {
            user_id: Some(bad.into()),
            ..user("ada@example.com")
        };
        assert_invalid(server.users().create_user(request).await, &["user_id"]);
        let request = pb::DeleteUserRequest { user_id: bad.into() };
        assert_invalid(server.users().delete_user(request).await, &["user_id"]);
    }
}

#[tokio::test]
async fn the_profile_of_a_new_user_names_that_user_or_nobody() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user_id = id();
    let request = |profile_of: &str| pb::CreateUserRequest {
        user_id: Some(user_id.clone()),
        profile: Some(pb::Profile {
            user_id: profile_of.to_owned(),
            ..Default::default()
        }),
        ..user("ada@example.com")
    };
    for bad in [id(), format!("{{{user_id}}}"), "me".to_owned()] {
        assert_invalid(
            server.users().create_user(request(&bad)).await,
            &["profile.user_id"],
        );
    }
    for good in [String::new(), user_id.clone(), user_id.to_uppercase()] {
        let created = answer(server.users().create_user(request(&good)).await).user;
        assert_eq!(created.expect("a user").id, user_id);
    }
}

#[tokio::test]
async fn texts_hold_their_limits_in_characters() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    // Of two bytes each, and of four.
    for (letter, n) in [("x", 1), ("é", 2), ("🦀", 3)] {
        let email = format!("{}{n}@example.com", letter.repeat(242));
        assert_eq!(email.chars().count(), 255);
        let request = pb::CreateUserRequest {
            external_id: Some(letter.repeat(255)),
            name: Some(letter.repeat(255)),
            ..user(&email)
        };
        let created = answer(server.users().create_user(request).await)
            .user
            .expect("a user");
        assert_eq!(created.email, email);
        assert_eq!(created.external_id, Some(letter.repeat(255)));
        assert_eq!(created.name, letter.repeat(255));

        let request = pb::CreateUserRequest {
            external_id: Some(letter.repeat(256)),
            name: Some(letter.repeat(256)),
            ..user(&format!("{letter}{email}"))
        };
        assert_invalid(
            server.users().create_user(request).await,
            &["email", "external_id", "name"],
        );
        let request = pb::UpdateUserRequest {
            user_id: created.id,
            email: Some(format!("{letter}{email}")),
            external_id: Some(letter.repeat(256)),
            name: Some(letter.repeat(256)),
            ..Default::default()
        };
        assert_invalid(
            server.users().update_user(request).await,
            &["email", "external_id", "name"],
        );
    }
}

#[tokio::test]
async fn an_email_has_something_on_both_sides_of_one_at() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for bad in [
        "",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b\n",
        "a\0@b",
        "\u{a0}a@b",
        // Two things are wrong with it; it is still one bad field.
        &"x".repeat(256),
    ] {
        assert_invalid(server.users().create_user(user(bad)).await, &["email"]);
        let request = pb::GetUserRequest {
            key: Some(pb::get_user_request::Key::Email(bad.into())),
        };
        assert_invalid(server.users().get_user(request).await, &["email"]);
    }
    for good in ["a@b", "a+tag@b.example", "\"quoted\"@b", "用户@例子.广告"] {
        let created = answer(server.users().create_user(user(good)).await).user;
        assert_eq!(created.expect("a user").email, good);
    }
}

/// A user with every field set, and a server.
async fn ada() -> (TestDatabase, TestServer, pb::User) {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateUserRequest {
        external_id: Some("sub-1".into()),
        name: Some("Ada".into()),
        ..user("ada@example.com")
    };
    let created = answer(server.users().create_user(request).await).user;
    (database, server, created.expect("a user"))
}

#[tokio::test]
async fn an_empty_mask_means_the_fields_that_are_set() {
    let (_database, server, ada) = ada().await;
    for update_mask in [None, mask(&[])] {
        let request = pb::UpdateUserRequest {
            user_id: ada.id.clone(),
            name: Some(String::new()),
            is_active: Some(false),
            update_mask,
            ..Default::default()
        };
        let changed = answer(server.users().update_user(request).await)
            .user
            .expect("a user");
        assert!(nanos(changed.update_time) > nanos(ada.update_time));
        assert_eq!(
            changed,
            pb::User {
                name: String::new(),
                is_active: false,
                update_time: changed.update_time,
                ..ada.clone()
            }
        );
        let request = pb::GetUserRequest {
            key: Some(pb::get_user_request::Key::UserId(ada.id.clone())),
        };
        assert_eq!(answer(server.users().get_user(request).await).user, Some(changed));
    }
}

#[tokio::test]
async fn a_mask_picks_fields_and_clears_those_that_are_unset() {
    let (_database, server, ada) = ada().await;
    let request = pb::UpdateUserRequest {
        user_id: ada.id.clone(),
        email: Some("new@example.com".into()),
        name: Some("not named in the mask".into()),
        is_active: Some(false),
        update_mask: mask(&["email", "external_id"]),
        ..Default::default()
    };
    let changed = answer(server.users().update_user(request).await)
        .user
        .expect("a user");
    assert_eq!(
        changed,
        pb::User {
            email: "new@example.com".into(),
            external_id: None,
            update_time: changed.update_time,
            ..ada.clone()
        }
    );
    let request = pb::UpdateUserRequest {
        user_id: ada.id.clone(),
        update_mask: mask(&["name"]),
        ..Default::default()
    };
    let changed = answer(server.users().update_user(request).await).user;
    assert_eq!(changed.expect("a user").name, "");
}

#[tokio::test]
async fn a_star_means_all_fields() {
    let (_database, server, ada) = ada().await;
    let request = pb::UpdateUserRequest {
        user_id: ada.id.clone(),
        name: Some("Countess".into()),
        update_mask: mask(&["*"]),
        ..Default::default()
    };
    let changed = answer(server.users().update_user(request).await)
        .user
        .expect("a user");
    // What can't be cleared stays.
    assert_eq!(
        changed,
        pb::User {
            name: "Countess".into(),
            external_id: None,
            update_time: changed.update_time,
            ..ada
        }
    );
}

#[tokio::test]
async fn masks_that_name_what_cannot_be_changed_are_refused() {
    let (_database, server, ada) = ada().await;
    for (paths, fields) in [
        (&["id"][..], &["update_mask"][..]),
        (&["name", "password", "nothing"], &["update_mask"]),
        (&["Name"], &["update_mask"]),
        (&[""], &["update_mask"]),
        (&["email"], &["email"]),
        (&["is_active", "email"], &["email", "is_active"]),
    ] {
        let request = pb::UpdateUserRequest {
            user_id: ada.id.clone(),
            name: Some("changed".into()),
            update_mask: mask(paths),
            ..Default::default()
        };
        assert_invalid(server.users().update_user(request).await, fields);
    }
    let request = pb::GetUserRequest {
        key: Some(pb::get_user_request::Key::UserId(ada.id.clone())),
    };
    assert_eq!(answer(server.users().get_user(request).await).user, Some(ada));
}
