//! `SessionService` except for lists and claims.

use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::harness::*;

type SessionAnswer = Result<Response<pb::UpdateSessionResponse>, Status>;

async fn create(server: &TestServer, request: pb::CreateSessionRequest) -> pb::Session {
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

async fn update(server: &TestServer, request: pb::UpdateSessionRequest) -> SessionAnswer {
    server.sessions().update_session(request).await
}

fn updated(result: SessionAnswer) -> pb::Session {
    answer(result).session.expect("a session")
}

#[tokio::test]
async fn a_session_is_created_with_all_fields_and_read_back() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user = new_user(&server).await;
    let session_id = id();
    let request = pb::CreateSessionRequest {
        session_id: Some(session_id.to_uppercase()),
        user_id: Some(user.id.to_uppercase()),
        title: Some("Robots".into()),
        metadata_json: r#"{"course":"ROS"}"#.into(),
        claim_secret: None,
    };
    let created = create(&server, request).await;
    assert_eq!(
        created,
        pb::Session {
            id: session_id.clone(),
            user_id: Some(user.id),
            title: "Robots".into(),
            metadata_json: r#"{"course": "ROS"}"#.into(),
            last_seq: 0,
            create_time: created.create_time,
            update_time: created.create_time,
            last_message_time: None,
        }
    );
    assert!(nanos(created.create_time) > 0);
    assert_eq!(get(&server, &session_id.to_uppercase()).await, created);
}

#[tokio::test]
async fn a_session_needs_nothing_and_is_nobodys() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let created = create(&server, pb::CreateSessionRequest::default()).await;
    let given = Uuid::parse_str(&created.id).expect("a UUID");
    assert_eq!(given.get_version_num(), 7);
    assert_eq!(
        (
            created.user_id.as_deref(),
            created.title.as_str(),
            created.metadata_json.as_str()
        ),
        (None, "", "{}")
    );
}

#[tokio::test]
async fn an_append_moves_the_session() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let created = create(&server, pb::CreateSessionRequest::default()).await;
    let mut before = created.clone();
    for n in 1..=3 {
        let receipt = append(&server, &created.id, text("hello"))
            .await
            .expect("a receipt");
        let session = get(&server, &created.id).await;
        assert_eq!(session.last_seq, n);
        assert_eq!(session.last_message_time, receipt.create_time);
        assert_eq!(session.create_time, created.create_time);
        assert!(nanos(session.update_time) > nanos(before.update_time));
        before = session;
    }
}

#[tokio::test]
async fn a_session_of_a_user_who_does_not_exist_is_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateSessionRequest {
        user_id: Some(id()),
        ..Default::default()
    };
    let created = server.sessions().create_session(request).await;
    assert_refused(created, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_session_that_does_not_exist_is_not_found() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    new_session(&server).await;
    let session_id = id();
    let request = pb::GetSessionRequest {
        session_id: session_id.clone(),
    };
    let found = server.sessions().get_session(request).await;
    assert_refused(found, Code::NotFound, "SESSION_NOT_FOUND");
    let request = pb::UpdateSessionRequest {
        session_id: session_id.clone(),
        title: Some("x".into()),
        ..Default::default()
    };
    assert_refused(
        update(&server, request).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    let deleted = server
        .sessions()
        .delete_session(pb::DeleteSessionRequest { session_id })
        .await;
    assert_refused(deleted, Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn creating_a_session_again_answers_the_stored_one() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (ada, eve) = (new_user(&server).await.id, new_user(&server).await.id);
    for (owner, others) in [
        (Some(ada.clone()), [None, Some(eve.clone())]),
        (None, [Some(ada), Some(eve)]),
    ] {
        let request = pb::CreateSessionRequest {
            session_id: Some(id()),
            user_id: owner,
            title: Some("first".into()),
            metadata_json: r#"{"a":1}"#.into(),
            claim_secret: None,
        };
        let created = create(&server, request.clone()).await;
        let retry = pb::CreateSessionRequest {
            session_id: request.session_id.as_deref().map(str::to_uppercase),
            title: Some("second".into()),
            metadata_json: String::new(),
            ..request.clone()
        };
        assert_eq!(create(&server, retry).await, created);
        for user_id in others {
            let request = pb::CreateSessionRequest {
                user_id,
                ..request.clone()
            };
            let refused = server.sessions().create_session(request).await;
            assert_refused(refused, Code::AlreadyExists, "ID_TAKEN");
        }
        assert_eq!(get(&server, &created.id).await, created);
    }
}

#[tokio::test]
async fn a_session_created_many_times_at_the_same_moment_is_one_session() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let request = pb::CreateSessionRequest {
        session_id: Some(id()),
        title: Some("Robots".into()),
        ..Default::default()
    };
    let sessions = tokio::join!(
        create(&one, request.clone()),
        create(&two, request.clone()),
        create(&one, request.clone()),
        create(&two, request),
    );
    assert_eq!(sessions.0, sessions.1);
    assert_eq!(sessions.0, sessions.2);
    assert_eq!(sessions.0, sessions.3);
}

#[tokio::test]
async fn of_two_owners_of_one_session_id_at_the_same_moment_one_is_refused() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let user = new_user(&one).await;
    let anonymous = pb::CreateSessionRequest {
        session_id: Some(id()),
        ..Default::default()
    };
    let owned = pb::CreateSessionRequest {
        user_id: Some(user.id),
        ..anonymous.clone()
    };
    let (mut sessions_one, mut sessions_two) = (one.sessions(), two.sessions());
    let results = tokio::join!(
        sessions_one.create_session(anonymous),
        sessions_two.create_session(owned)
    );
    let (won, lost) = match results {
        (Ok(won), lost) => (won, lost),
        (lost, Ok(won)) => (won, lost),
        (one, two) => panic!("both were refused: {one:?} {two:?}"),
    };
    assert_refused(lost, Code::AlreadyExists, "ID_TAKEN");
    let won = won.into_inner().session.expect("a session");
    assert_eq!(get(&one, &won.id).await, won);
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateSessionRequest {
        session_id: Some(String::new()),
        user_id: Some("me".into()),
        title: Some("\0".into()),
        metadata_json: "1".into(),
        claim_secret: Some("x".into()),
    };
    let created = server.sessions().create_session(request).await;
    let fields = [
        "title",
        "claim_secret",
        "claim_secret",
        "session_id",
        "user_id",
        "metadata_json",
    ];
    assert_invalid(created, &fields);
    let request = pb::UpdateSessionRequest {
        session_id: "x".into(),
        title: Some("x".repeat(501)),
        metadata_json: Some("[".into()),
        metadata_mode: 3,
        update_mask: mask(&["id", "user_id"]),
    };
    assert_invalid(
        update(&server, request).await,
        &[
            "session_id",
            "update_mask",
            "title",
            "metadata_json",
            "metadata_mode",
        ],
    );
    let request = pb::ListSessionsRequest {
        page_size: -1,
        page_token: "garbage".into(),
        owner: Some(pb::list_sessions_request::Owner::UserId("me".into())),
        order_by: 3,
        metadata_contains_json: Some("[]".into()),
        title_contains: Some("é".repeat(501)),
    };
    assert_invalid(
        server.sessions().list_sessions(request).await,
        &[
            "page_size",
            "page_token",
            "user_id",
            "order_by",
            "metadata_contains_json",
            "title_contains",
        ],
    );
    let get = pb::GetSessionRequest::default();
    assert_invalid(server.sessions().get_session(get).await, &["session_id"]);
    let delete = pb::DeleteSessionRequest::default();
    assert_invalid(server.sessions().delete_session(delete).await, &["session_id"]);
}

#[tokio::test]
async fn a_title_has_at_most_500_characters() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for letter in ["x", "é", "🦀"] {
        let longest = letter.repeat(500);
        let request = pb::CreateSessionRequest {
            title: Some(longest.clone()),
            ..Default::default()
        };
        assert_eq!(create(&server, request).await.title, longest);
        let request = |title: String| pb::UpdateSessionRequest {
            session_id: session.clone(),
            title: Some(title),
            ..Default::default()
        };
        let changed = updated(update(&server, request(longest.clone())).await);
        assert_eq!(changed.title, longest);

        let longer = longest + letter;
        assert_invalid(update(&server, request(longer.clone())).await, &["title"]);
        let request = pb::CreateSessionRequest {
            title: Some(longer),
            ..Default::default()
        };
        assert_invalid(server.sessions().create_session(request).await, &["title"]);
    }
}

/// A server with a session that has a title and metadata.
async fn robots() -> (TestDatabase, TestServer, pb::Session) {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateSessionRequest {
        title: Some("Robots".into()),
        metadata_json: r#"{"a":1}"#.into(),
        ..Default::default()
    };
    let session = create(&server, request).await;
    (database, server, session)
}

#[tokio::test]
async fn masks_pick_what_is_changed() {
    type Case<'a> = (
        Option<&'a [&'a str]>,
        Option<&'a str>,
        Option<&'a str>,
        &'a str,
        &'a str,
    );
    let unchanged = r#"{"a": 1}"#;
    let cases: [Case<'_>; 10] = [
        (None, None, None, "Robots", unchanged),
        (None, Some("Drones"), None, "Drones", unchanged),
        (Some(&[]), Some(""), None, "", unchanged),
        (None, None, Some(r#"{"b":2}"#), "Robots", r#"{"b": 2}"#),
        (None, None, Some(""), "Robots", "{}"),
        (
            Some(&["title"]),
            Some("Drones"),
            Some(r#"{"b":2}"#),
            "Drones",
            unchanged,
        ),
        (Some(&["title"]), None, None, "", unchanged),
        (Some(&["metadata_json"]), Some("Drones"), None, "Robots", "{}"),
        (Some(&["*"]), Some("Drones"), None, "Drones", "{}"),
        (Some(&["*", "title"]), None, Some(r#"{"b":2}"#), "", r#"{"b": 2}"#),
    ];
    let (_database, server, robots) = robots().await;
    for (paths, title, metadata, new_title, new_metadata) in cases {
        let reset = pb::UpdateSessionRequest {
            session_id: robots.id.clone(),
            title: Some("Robots".into()),
            metadata_json: Some(r#"{"a":1}"#.into()),
            metadata_mode: pb::JsonMode::Replace.into(),
            ..Default::default()
        };
        let before = updated(update(&server, reset).await);
        let request = pb::UpdateSessionRequest {
            session_id: robots.id.clone(),
            title: title.map(str::to_owned),
            metadata_json: metadata.map(str::to_owned),
            metadata_mode: pb::JsonMode::Replace.into(),
            update_mask: paths.and_then(mask),
        };
        let changed = updated(update(&server, request.clone()).await);
        let expected = pb::Session {
            title: new_title.into(),
            metadata_json: new_metadata.into(),
            update_time: changed.update_time,
            ..robots.clone()
        };
        assert_eq!(changed, expected, "{request:?}");
        assert!(nanos(changed.update_time) > nanos(before.update_time));
        assert_eq!(get(&server, &robots.id).await, changed);
    }
}

#[tokio::test]
async fn masks_that_name_something_else_are_refused() {
    let (_database, server, robots) = robots().await;
    for path in ["user_id", "last_seq", "Title", "metadata", "title ", ""] {
        let request = pb::UpdateSessionRequest {
            session_id: robots.id.clone(),
            title: Some("changed".into()),
            update_mask: mask(&["title", path]),
            ..Default::default()
        };
        assert_invalid(update(&server, request).await, &["update_mask"]);
    }
    assert_eq!(get(&server, &robots.id).await, robots);
}

#[tokio::test]
async fn a_deleted_session_is_gone() {
    let (_database, server, robots) = robots().await;
    let request = pb::DeleteSessionRequest {
        session_id: robots.id.clone(),
    };
    answer(server.sessions().delete_session(request.clone()).await);
    let again = server.sessions().delete_session(request).await;
    assert_refused(again, Code::NotFound, "SESSION_NOT_FOUND");
    let refused = refusal(append(&server, &robots.id, text("hello")).await);
    assert_eq!(refused.reason, "SESSION_NOT_FOUND");
}
