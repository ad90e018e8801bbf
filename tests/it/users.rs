//! `UserService` without passwords: who exists, by which keys, and what can be changed.

use tonic::Code;
use uuid::Uuid;

use crate::harness::*;

fn user(email: &str) -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        email: email.to_owned(),
        ..Default::default()
    }
}

async fn create(server: &TestServer, request: pb::CreateUserRequest) -> pb::User {
    answer(server.users().create_user(request).await)
        .user
        .expect("a user")
}

fn by_id(id: &str) -> pb::GetUserRequest {
    key(pb::get_user_request::Key::UserId(id.to_owned()))
}

fn by_email(email: &str) -> pb::GetUserRequest {
    key(pb::get_user_request::Key::Email(email.to_owned()))
}

fn by_external_id(id: &str) -> pb::GetUserRequest {
    key(pb::get_user_request::Key::ExternalId(id.to_owned()))
}

fn key(key: pb::get_user_request::Key) -> pb::GetUserRequest {
    pb::GetUserRequest { key: Some(key) }
}

#[tokio::test]
async fn a_user_is_created_and_found_by_every_key() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user_id = id();
    let created = create(
        &server,
        pb::CreateUserRequest {
            user_id: Some(user_id.to_uppercase()),
            external_id: Some("auth0|Ada".into()),
            name: Some("Ada Lovelace".into()),
            ..user("Ada@Example.com")
        },
    )
    .await;
    assert_eq!(
        created,
        pb::User {
            id: user_id.clone(),
            email: "Ada@Example.com".into(),
            external_id: Some("auth0|Ada".into()),
            name: "Ada Lovelace".into(),
            is_active: true,
            create_time: created.create_time,
            update_time: created.create_time,
        }
    );
    assert!(nanos(created.create_time) > 0);
    for request in [
        by_id(&user_id),
        by_id(&user_id.to_uppercase()),
        by_email("Ada@Example.com"),
        by_email("aDA@eXAMPLE.COM"),
        by_external_id("auth0|Ada"),
    ] {
        let found = answer(server.users().get_user(request).await).user;
        assert_eq!(found.as_ref(), Some(&created));
    }
    // Of the keys, only the email is without case.
    let other_case = server.users().get_user(by_external_id("auth0|ada")).await;
    assert_refused(other_case, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_user_needs_no_more_than_an_email() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let created = create(&server, user("a@b")).await;
    let given = Uuid::parse_str(&created.id).expect("a UUID");
    assert_eq!(given.get_version_num(), 7);
    assert_eq!(created.id, given.to_string());
    assert_eq!(
        (created.external_id, created.name.as_str(), created.is_active),
        (None, "", true)
    );
    let request = pb::GetProfileRequest { user_id: created.id };
    let profile = server.profiles().get_profile(request).await;
    assert_refused(profile, Code::NotFound, "PROFILE_NOT_FOUND");
}

#[tokio::test]
async fn a_user_and_a_profile_are_created_together_or_not_at_all() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user_id = id();
    let profile = pb::Profile {
        user_id: user_id.clone(),
        software_background: Some("Rust".into()),
        preferences_json: r#"{"interests":["robotics"]}"#.into(),
        ..Default::default()
    };
    let request = pb::CreateUserRequest {
        user_id: Some(user_id.clone()),
        profile: Some(profile),
        ..user("ada@example.com")
    };
    create(&server, request.clone()).await;
    let get = pb::GetProfileRequest {
        user_id: user_id.clone(),
    };
    let stored = answer(server.profiles().get_profile(get).await)
        .profile
        .expect("a profile");
    assert_eq!(stored.user_id, user_id);
    assert_eq!(stored.software_background.as_deref(), Some("Rust"));
    assert_eq!(stored.hardware_background, None);
    assert_eq!(stored.preferred_language.as_deref(), Some("en"));
    assert_eq!(stored.preferences_json, r#"{"interests": ["robotics"]}"#);

    // A retry leaves both as they are.
    let mut retry = request.clone();
    retry.profile = Some(pb::Profile {
        software_background: Some("Go".into()),
        ..Default::default()
    });
    create(&server, retry).await;
    // The email is taken: neither the user nor the profile is there afterwards.
    let mut taken = request;
    taken.user_id = Some(id());
    taken.profile = Some(pb::Profile::default());
    let refused = server.users().create_user(taken).await;
    assert_refused(refused, Code::AlreadyExists, "EMAIL_TAKEN");
    let sql = "SELECT string_agg(software_background, ','), count(*), (SELECT count(*) FROM users)
        FROM user_profiles";
    let row = database
        .client()
        .await
        .query_one(sql, &[])
        .await
        .expect("the counts");
    assert_eq!(row.get::<_, String>(0), "Rust");
    assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2)), (1, 1));
}

#[tokio::test]
async fn creating_a_user_again_answers_the_stored_one() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let first = pb::CreateUserRequest {
        user_id: Some(id()),
        external_id: Some("sub-1".into()),
        name: Some("Ada".into()),
        ..user("ada@example.com")
    };
    let created = create(&server, first.clone()).await;
    let mut retry = first.clone();
    retry.email = "ADA@example.com".into();
    retry.user_id = first.user_id.as_deref().map(str::to_uppercase);
    retry.name = Some("Somebody".into());
    retry.external_id = Some("sub-2".into());
    assert_eq!(create(&server, retry).await, created);

    let mut other_owner = first.clone();
    other_owner.email = "eve@example.com".into();
    other_owner.external_id = None;
    let refused = server.users().create_user(other_owner.clone()).await;
    assert_refused(refused, Code::AlreadyExists, "ID_TAKEN");
    // Also where another key is taken as well.
    create(&server, user("eve@example.com")).await;
    let refused = server.users().create_user(other_owner).await;
    assert_refused(refused, Code::AlreadyExists, "ID_TAKEN");
}

#[tokio::test]
async fn a_user_created_many_times_at_the_same_moment_is_one_user() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let request = |email: &str| pb::CreateUserRequest {
        user_id: Some("0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f".into()),
        external_id: Some("sub-1".into()),
        profile: Some(pb::Profile::default()),
        ..user(email)
    };
    let users = tokio::join!(
        create(&one, request("ada@example.com")),
        create(&two, request("Ada@example.com")),
        create(&one, request("ADA@example.com")),
        create(&two, request("ada@EXAMPLE.com")),
    );
    assert_eq!(users.0, users.1);
    assert_eq!(users.0, users.2);
    assert_eq!(users.0, users.3);
}

#[tokio::test]
async fn of_two_users_with_one_email_at_the_same_moment_one_is_refused() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let (mut users_one, mut users_two) = (one.users(), two.users());
    let results = tokio::join!(
        users_one.create_user(user("ada@example.com")),
        users_two.create_user(user("ADA@example.com")),
    );
    let (won, lost) = match results {
        (Ok(won), lost) => (won, lost),
        (lost, Ok(won)) => (won, lost),
        (one, two) => panic!("both were refused: {one:?} {two:?}"),
    };
    assert_refused(lost, Code::AlreadyExists, "EMAIL_TAKEN");
    let stored = answer(one.users().get_user(by_email("ada@example.com")).await).user;
    assert_eq!(stored, won.into_inner().user);
}

#[tokio::test]
async fn keys_of_others_are_refused_on_creation_and_update() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    create(
        &server,
        pb::CreateUserRequest {
            external_id: Some("sub-1".into()),
            ..user("ada@example.com")
        },
    )
    .await;
    let eve = create(&server, user("eve@example.com")).await;
    let created = server.users().create_user(user("ADA@Example.com")).await;
    assert_refused(created, Code::AlreadyExists, "EMAIL_TAKEN");
    let request = pb::CreateUserRequest {
        external_id: Some("sub-1".into()),
        ..user("new@example.com")
    };
    let created = server.users().create_user(request).await;
    assert_refused(created, Code::AlreadyExists, "EXTERNAL_ID_TAKEN");

    let update = |email: Option<&str>, external_id: Option<&str>| pb::UpdateUserRequest {
        user_id: eve.id.clone(),
        email: email.map(str::to_owned),
        external_id: external_id.map(str::to_owned),
        ..Default::default()
    };
    let changed = server
        .users()
        .update_user(update(Some("aDa@example.com"), None))
        .await;
    assert_refused(changed, Code::AlreadyExists, "EMAIL_TAKEN");
    let changed = server.users().update_user(update(None, Some("sub-1"))).await;
    assert_refused(changed, Code::AlreadyExists, "EXTERNAL_ID_TAKEN");
    // One's own email in another case is nobody else's.
    let changed = answer(
        server
            .users()
            .update_user(update(Some("EVE@example.com"), None))
            .await,
    );
    assert_eq!(changed.user.expect("a user").email, "EVE@example.com");
}

#[tokio::test]
async fn case_is_ignored_beyond_ascii_too() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let created = create(&server, user("Ärger@Example.com")).await;
    let found = answer(server.users().get_user(by_email("äRGER@example.com")).await).user;
    assert_eq!(found, Some(created));
    let again = server.users().create_user(user("ärger@example.com")).await;
    assert_refused(again, Code::AlreadyExists, "EMAIL_TAKEN");
}

#[tokio::test]
async fn a_user_who_does_not_exist_is_not_found() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    new_user(&server).await;
    let user_id = id();
    for request in [by_id(&user_id), by_email("no@body"), by_external_id("nobody")] {
        let found = server.users().get_user(request).await;
        assert_refused(found, Code::NotFound, "USER_NOT_FOUND");
    }
    let request = pb::UpdateUserRequest {
        user_id: user_id.clone(),
        name: Some("x".into()),
        ..Default::default()
    };
    let updated = server.users().update_user(request).await;
    assert_refused(updated, Code::NotFound, "USER_NOT_FOUND");
    let request = pb::SetPasswordRequest {
        user_id: user_id.clone(),
        password: "x".into(),
    };
    let set = server.users().set_password(request).await;
    assert_refused(set, Code::NotFound, "USER_NOT_FOUND");
    let deleted = server
        .users()
        .delete_user(pb::DeleteUserRequest { user_id })
        .await;
    assert_refused(deleted, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_deleted_user_is_gone_and_the_keys_are_free_again() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateUserRequest {
        user_id: Some(id()),
        external_id: Some("sub-1".into()),
        ..user("ada@example.com")
    };
    let created = create(&server, request.clone()).await;
    let delete = pb::DeleteUserRequest {
        user_id: created.id.clone(),
    };
    answer(server.users().delete_user(delete.clone()).await);
    let found = server.users().get_user(by_id(&created.id)).await;
    assert_refused(found, Code::NotFound, "USER_NOT_FOUND");
    let again = server.users().delete_user(delete).await;
    assert_refused(again, Code::NotFound, "USER_NOT_FOUND");
    let recreated = create(&server, request).await;
    assert!(nanos(recreated.create_time) > nanos(created.create_time));
}
