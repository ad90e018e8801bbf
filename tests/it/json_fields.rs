//! JSON fields: what survives, what is merged, and what is refused.

use tonic::Code;

use crate::harness::*;

async fn create(server: &TestServer, metadata: &str) -> pb::Session {
    let request = pb::CreateSessionRequest {
        metadata_json: metadata.to_owned(),
        ..Default::default()
    };
    answer(server.sessions().create_session(request).await)
        .session
        .expect("a session")
}

async fn get(server: &TestServer, id: &str) -> pb::Session {
    let request = pb::GetSessionRequest {
        session_id: id.to_owned(),
    };
    answer(server.sessions().get_session(request).await)
        .session
        .expect("a session")
}

fn change(session: &pb::Session, mode: pb::JsonMode, metadata: &str) -> pb::UpdateSessionRequest {
    pb::UpdateSessionRequest {
        session_id: session.id.clone(),
        metadata_json: Some(metadata.to_owned()),
        metadata_mode: mode.into(),
        ..Default::default()
    }
}

async fn updated(server: &TestServer, request: pb::UpdateSessionRequest) -> pb::Session {
    answer(server.sessions().update_session(request).await)
        .session
        .expect("a session")
}

/// An object of so many bytes.
fn sized(bytes: usize) -> String {
    format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8))
}

/// An object of so many levels.
fn nested(levels: usize) -> String {
    format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[tokio::test]
async fn values_survive_and_spellings_do_not() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (given, stored) in [
        ("", "{}"),
        (" { } ", "{}"),
        (r#"{"n":4096}"#, r#"{"n": 4096}"#),
        (r#"{"n":9007199254740993}"#, r#"{"n": 9007199254740993}"#),
        (
            r#"{"n":-123456789012345678901234567890}"#,
            r#"{"n": -123456789012345678901234567890}"#,
        ),
        (r#"{"n":0.1}"#, r#"{"n": 0.1}"#),
        (
            r#"{"n":3.141592653589793238462643}"#,
            r#"{"n": 3.141592653589793238462643}"#,
        ),
        (r#"{"n":1e2}"#, r#"{"n": 100}"#),
        (r#"{"n":-2.5E-3}"#, r#"{"n": -0.0025}"#),
        (r#"{"k":1,"k":2}"#, r#"{"k": 2}"#),
        (r#"{"z":1,"a":2,"bb":3}"#, r#"{"a": 2, "z": 1, "bb": 3}"#),
        (
            r#"{"s":"\u00e9\ud83d\ude00\n\/","é":null}"#,
            r#"{"s": "é😀\n/", "é": null}"#,
        ),
        (r#"{"":[true,false,null,{}]}"#, r#"{"": [true, false, null, {}]}"#),
    ] {
        let session = create(&server, given).await;
        assert_eq!(session.metadata_json, stored, "{given}");
        assert_eq!(get(&server, &session.id).await.metadata_json, stored);
    }
}

#[tokio::test]
async fn a_merge_sets_keys_and_removes_those_that_are_null() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for mode in [pb::JsonMode::Merge, pb::JsonMode::Unspecified] {
        let session = create(&server, r#"{"a":1,"b":{"x":1,"y":2},"n":null}"#).await;
        for (given, stored) in [
            ("{}", r#"{"a": 1, "b": {"x": 1, "y": 2}, "n": null}"#),
            ("", r#"{"a": 1, "b": {"x": 1, "y": 2}, "n": null}"#),
            (
                r#"{"c":3}"#,
                r#"{"a": 1, "b": {"x": 1, "y": 2}, "c": 3, "n": null}"#,
            ),
            // Only of the object itself: what is in it is replaced.
            (
                r#"{"b":{"y":null}}"#,
                r#"{"a": 1, "b": {"y": null}, "c": 3, "n": null}"#,
            ),
            (r#"{"a":null,"b":null,"no":null}"#, r#"{"c": 3, "n": null}"#),
            (r#"{"n":null,"c":null}"#, "{}"),
            (r#"{"k":1,"k":null}"#, "{}"),
            (
                r#"{"big":18446744073709551617}"#,
                r#"{"big": 18446744073709551617}"#,
            ),
        ] {
            let changed = updated(&server, change(&session, mode, given)).await;
            assert_eq!(changed.metadata_json, stored, "{given}");
            assert_eq!(get(&server, &session.id).await, changed);
        }
    }
}

#[tokio::test]
async fn a_replacement_forgets_what_was_there() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = create(&server, r#"{"a":1}"#).await;
    for (given, stored) in [
        (r#"{"b":null}"#, r#"{"b": null}"#),
        (r#"{"c":1.50}"#, r#"{"c": 1.50}"#),
        ("", "{}"),
    ] {
        let changed = updated(&server, change(&session, pb::JsonMode::Replace, given)).await;
        assert_eq!(changed.metadata_json, stored);
    }
}

#[tokio::test]
async fn a_merge_of_two_at_the_same_moment_keeps_the_keys_of_both() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let session = create(&one, "").await;
    tokio::join!(
        updated(&one, change(&session, pb::JsonMode::Merge, r#"{"a":1}"#)),
        updated(&two, change(&session, pb::JsonMode::Merge, r#"{"b":2}"#)),
        updated(&one, change(&session, pb::JsonMode::Merge, r#"{"c":3}"#)),
    );
    assert_eq!(
        get(&one, &session.id).await.metadata_json,
        r#"{"a": 1, "b": 2, "c": 3}"#
    );
}

#[tokio::test]
async fn the_limit_holds_for_what_is_merged_and_nothing_changes_beyond_it() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = create(&server, &sized(40_000)).await;
    // {"a":"…","b":"…"}: 40,000 bytes with one key, and 7 more than the second text with the other.
    let with_b = |bytes: usize| pb::UpdateSessionRequest {
        title: Some("renamed".into()),
        ..change(
            &session,
            pb::JsonMode::Merge,
            &format!(r#"{{"b":"{}"}}"#, "y".repeat(bytes - 40_000 - 7)),
        )
    };
    let over = server.sessions().update_session(with_b(65_537)).await;
    assert_invalid(over, &["metadata_json"]);
    assert_eq!(get(&server, &session.id).await, session);

    let full = updated(&server, with_b(65_536)).await;
    assert_eq!(full.title, "renamed");
    let more = change(&session, pb::JsonMode::Merge, r#"{"c":0}"#);
    assert_invalid(server.sessions().update_session(more).await, &["metadata_json"]);
    assert_eq!(get(&server, &session.id).await, full);
    // What makes it smaller is welcome.
    let less = updated(
        &server,
        change(&session, pb::JsonMode::Merge, r#"{"b":null,"c":0}"#),
    )
    .await;
    assert_eq!(less.metadata_json.len(), r#"{"a": "", "c": 0}"#.len() + 39_992);
}

#[tokio::test]
async fn a_title_can_be_changed_whatever_the_metadata_that_stays() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = create(&server, "").await;
    let user = new_user(&server).await;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            user_id: user.id,
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    answer(server.profiles().update_profile(request.clone()).await);
    // Written by SQL, which has no limit.
    let sql = "UPDATE chat_sessions SET metadata = jsonb_build_object('x', repeat('x', 70000));
        UPDATE user_profiles SET preferences = jsonb_build_object('x', repeat('x', 70000))";
    database.client().await.batch_execute(sql).await.expect("updates");
    let rename = pb::UpdateSessionRequest {
        session_id: session.id.clone(),
        title: Some("renamed".into()),
        ..Default::default()
    };
    let renamed = updated(&server, rename).await;
    assert_eq!(renamed.title, "renamed");
    assert_eq!(renamed.metadata_json.len(), 70_000 + r#"{"x": ""}"#.len());
    let mut learn = request;
    learn.profile.as_mut().expect("a profile").learning_goals = Some("SLAM".into());
    let learned = answer(server.profiles().update_profile(learn).await).profile;
    assert_eq!(
        learned.expect("a profile").learning_goals.as_deref(),
        Some("SLAM")
    );
}

#[tokio::test]
async fn size_and_depth_hold_at_their_edges_in_every_field() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = create(&server, "").await;
    let user = new_user(&server).await;
    let padded = format!("{}{}", sized(65_000), " ".repeat(536));
    for good in [sized(65_536), padded, nested(32), r#"{"a":1e65000}"#.to_owned()] {
        create(&server, &good).await;
        updated(&server, change(&session, pb::JsonMode::Replace, &good)).await;
        answer(server.documents().upsert_document(document(&good)).await);
        answer(server.profiles().update_profile(profile(&user, &good)).await);
        answer(server.sessions().list_sessions(sessions_with(&good)).await);
        answer(server.documents().list_documents(documents_with(&good)).await);
        answer(server.profiles().list_profiles(profiles_with(&good)).await);
    }
    let bad = [
        sized(65_537),
        nested(33),
        nested(200),
        // A few bytes that JSONB writes out as 65,540.
        r#"{"a":1e65539}"#.to_owned(),
        r#"{"a":1e-16384}"#.to_owned(),
        r#"{"a":1e999999999999}"#.to_owned(),
        r#"{"a":"\u0000"}"#.to_owned(),
        r#"{"\u0000":1}"#.to_owned(),
        "{\"a\":\"\0\"}".to_owned(),
        r#"{"a":"\ud83d"}"#.to_owned(),
        r#"{"a":"\ude00\ud83d"}"#.to_owned(),
        "[]".to_owned(),
        "3".to_owned(),
        "null".to_owned(),
        r#""{}""#.to_owned(),
        "{".to_owned(),
        "{} {}".to_owned(),
        r#"{"a":NaN}"#.to_owned(),
        r#"{"a":01}"#.to_owned(),
        "{'a':1}".to_owned(),
        r#"{"a":1,}"#.to_owned(),
    ];
    for bad in &bad {
        let request = pb::CreateSessionRequest {
            metadata_json: bad.clone(),
            ..Default::default()
        };
        assert_invalid(
            server.sessions().create_session(request).await,
            &["metadata_json"],
        );
        let request = change(&session, pb::JsonMode::Merge, bad);
        assert_invalid(
            server.sessions().update_session(request).await,
            &["metadata_json"],
        );
        assert_invalid(
            server.documents().upsert_document(document(bad)).await,
            &["document.metadata_json"],
        );
        assert_invalid(
            server.profiles().update_profile(profile(&user, bad)).await,
            &["profile.preferences_json"],
        );
        assert_invalid(
            server.sessions().list_sessions(sessions_with(bad)).await,
            &["metadata_contains_json"],
        );
        assert_invalid(
            server.documents().list_documents(documents_with(bad)).await,
            &["metadata_contains_json"],
        );
        assert_invalid(
            server.profiles().list_profiles(profiles_with(bad)).await,
            &["preferences_contain_json"],
        );
    }
}

fn document(metadata: &str) -> pb::UpsertDocumentRequest {
    pb::UpsertDocumentRequest {
        document: Some(pb::Document {
            id: "d".into(),
            metadata_json: metadata.to_owned(),
            ..Default::default()
        }),
    }
}

fn profile(user: &pb::User, preferences: &str) -> pb::UpdateProfileRequest {
    pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            user_id: user.id.clone(),
            preferences_json: preferences.to_owned(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    }
}

fn sessions_with(metadata: &str) -> pb::ListSessionsRequest {
    pb::ListSessionsRequest {
        owner: Some(pb::list_sessions_request::Owner::Anonymous(true)),
        metadata_contains_json: Some(metadata.to_owned()),
        ..Default::default()
    }
}

fn documents_with(metadata: &str) -> pb::ListDocumentsRequest {
    pb::ListDocumentsRequest {
        metadata_contains_json: Some(metadata.to_owned()),
        ..Default::default()
    }
}

fn profiles_with(preferences: &str) -> pb::ListProfilesRequest {
    pb::ListProfilesRequest {
        preferences_contain_json: Some(preferences.to_owned()),
        ..Default::default()
    }
}

#[tokio::test]
async fn bad_json_is_refused_with_its_position() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (bad, position) in [
        ("{\"a\":1,\n\"b\":x}", "line 2 column 5"),
        (r#"{"a":"\u0000"}"#, "byte 6"),
        (&*nested(33), "byte 36"),
    ] {
        let request = pb::CreateSessionRequest {
            metadata_json: bad.to_owned(),
            ..Default::default()
        };
        let status = server.sessions().create_session(request).await.expect_err(bad);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(position), "{}", status.message());
    }
}
