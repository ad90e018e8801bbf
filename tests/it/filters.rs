//! The filters of lists: what they find, and what they take literally.

use pb::list_sessions_request::Owner;

use crate::harness::*;

async fn emails(server: &TestServer, prefix: Option<&str>, is_active: Option<bool>) -> Vec<String> {
    let request = pb::ListUsersRequest {
        email_prefix: prefix.map(str::to_owned),
        is_active,
        ..Default::default()
    };
    let page = answer(server.users().list_users(request).await);
    let mut emails: Vec<String> = page.users.into_iter().map(|user| user.email).collect();
    emails.sort();
    emails
}

async fn titles(server: &TestServer, request: pb::ListSessionsRequest) -> Vec<String> {
    let request = pb::ListSessionsRequest {
        owner: request.owner.or(Some(Owner::Anonymous(true))),
        ..request
    };
    let page = answer(server.sessions().list_sessions(request).await);
    let mut titles: Vec<String> = page.sessions.into_iter().map(|session| session.title).collect();
    titles.sort();
    titles
}

async fn document_titles(server: &TestServer, request: pb::ListDocumentsRequest) -> Vec<String> {
    let page = answer(server.documents().list_documents(request).await);
    let mut titles: Vec<String> = page
        .documents
        .into_iter()
        .map(|document| document.title)
        .collect();
    titles.sort();
    titles
}

async fn new_titled(server: &TestServer, owner: Option<&str>, title: &str, metadata: &str) {
    let request = pb::CreateSessionRequest {
        user_id: owner.map(str::to_owned),
        title: Some(title.to_owned()),
        metadata_json: metadata.to_owned(),
        ..Default::default()
    };
    answer(server.sessions().create_session(request).await);
}

async fn new_document(server: &TestServer, title: &str, metadata: &str) {
    let request = pb::UpsertDocumentRequest {
        document: Some(pb::Document {
            id: id(),
            title: title.to_owned(),
            metadata_json: metadata.to_owned(),
            ..Default::default()
        }),
    };
    answer(server.documents().upsert_document(request).await);
}

#[tokio::test]
async fn users_are_found_by_the_beginning_of_the_email_whatever_its_case() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for email in [
        "Ada@example.com",
        "adam@example.com",
        "bad@example.com",
        "a%b@example.com",
        "a_b@example.com",
        "axb@example.com",
        r"a\b@example.com",
        "Ärger@example.com",
    ] {
        let request = pb::CreateUserRequest {
            email: email.into(),
            ..Default::default()
        };
        answer(server.users().create_user(request).await);
    }
    for (prefix, found) in [
        ("aDA", &["Ada@example.com", "adam@example.com"][..]),
        ("ada@", &["Ada@example.com"]),
        ("bad@example.com", &["bad@example.com"]),
        ("bad@example.comm", &[]),
        ("example", &[]),
        ("ÄR", &["Ärger@example.com"]),
        ("är", &["Ärger@example.com"]),
        ("a%", &["a%b@example.com"]),
        ("a_", &["a_b@example.com"]),
        ("A\\", &[r"a\b@example.com"]),
        ("%", &[]),
        ("_", &[]),
    ] {
        assert_eq!(emails(&server, Some(prefix), None).await, found, "{prefix}");
    }
    assert_eq!(emails(&server, Some(""), None).await.len(), 8);
    let longest = format!("a{}", "x".repeat(254));
    assert_eq!(emails(&server, Some(&longest), None).await.len(), 0);
    let request = pb::ListUsersRequest {
        email_prefix: Some(longest + "x"),
        ..Default::default()
    };
    assert_invalid(server.users().list_users(request).await, &["email_prefix"]);
}

#[tokio::test]
async fn users_are_found_by_whether_they_are_active() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (email, is_active) in [("a1@b", true), ("a2@b", false), ("c@b", false)] {
        let request = pb::CreateUserRequest {
            email: email.into(),
            ..Default::default()
        };
        let user = answer(server.users().create_user(request).await).user;
        let request = pb::UpdateUserRequest {
            user_id: user.expect("a user").id,
            is_active: Some(is_active),
            ..Default::default()
        };
        answer(server.users().update_user(request).await);
    }
    assert_eq!(emails(&server, None, None).await, ["a1@b", "a2@b", "c@b"]);
    assert_eq!(emails(&server, None, Some(true)).await, ["a1@b"]);
    assert_eq!(emails(&server, None, Some(false)).await, ["a2@b", "c@b"]);
    assert_eq!(emails(&server, Some("A"), Some(false)).await, ["a2@b"]);
    assert_eq!(emails(&server, Some("c"), Some(true)).await.len(), 0);
}

#[tokio::test]
async fn titles_are_searched_without_case_and_without_wildcards() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for title in [
        "Robots 100%",
        "robot_arm",
        "RoboTarm",
        r"C:\robots",
        "Über Roboter",
        "",
    ] {
        new_titled(&server, None, title, "").await;
        new_document(&server, title, "").await;
    }
    // Neither of the two was given a title.
    new_session(&server).await;
    let sql = "INSERT INTO documents (id) VALUES ('by hand')";
    database
        .client()
        .await
        .execute(sql, &[])
        .await
        .expect("a document");
    for (text, found) in [
        (
            "ROBOT",
            &[
                r"C:\robots",
                "RoboTarm",
                "Robots 100%",
                "robot_arm",
                "Über Roboter",
            ][..],
        ),
        ("t_a", &["robot_arm"]),
        ("0%", &["Robots 100%"]),
        ("%", &["Robots 100%"]),
        ("\\", &[r"C:\robots"]),
        (r":\r", &[r"C:\robots"]),
        ("üBER", &["Über Roboter"]),
        ("robots 100% off", &[]),
    ] {
        let request = pb::ListSessionsRequest {
            title_contains: Some(text.into()),
            ..Default::default()
        };
        assert_eq!(titles(&server, request).await, found, "{text}");
        let request = pb::ListDocumentsRequest {
            title_contains: Some(text.into()),
            ..Default::default()
        };
        assert_eq!(document_titles(&server, request).await, found, "{text}");
    }
    // Every title contains nothing, also one that was never given.
    let request = pb::ListSessionsRequest {
        title_contains: Some(String::new()),
        ..Default::default()
    };
    assert_eq!(titles(&server, request).await.len(), 7);
    let request = pb::ListDocumentsRequest {
        title_contains: Some(String::new()),
        ..Default::default()
    };
    assert_eq!(document_titles(&server, request).await.len(), 7);
}

/// Which of `a` to `d` contain a text: the metadata are below.
const CONTAINED: [(&str, &[&str]); 11] = [
    ("{}", &["a", "b", "c", "d"]),
    ("", &["a", "b", "c", "d"]),
    (r#"{"tag":"x"}"#, &["a", "b"]),
    (r#"{"tag":"x","n":1}"#, &["a"]),
    (r#"{"n":1.0}"#, &["a"]),
    (r#"{"n":"1"}"#, &["b"]),
    (r#"{"list":[3]}"#, &["c"]),
    (r#"{"list":[3,1]}"#, &["c"]),
    (r#"{"list":[4]}"#, &[]),
    (r#"{"deep":{"er":{}}}"#, &["d"]),
    (r#"{"deep":null}"#, &[]),
];
const METADATA: [(&str, &str); 4] = [
    ("a", r#"{"tag":"x","n":1}"#),
    ("b", r#"{"tag":"x","n":"1"}"#),
    ("c", r#"{"list":[1,2,3]}"#),
    ("d", r#"{"deep":{"er":{"est":true}}}"#),
];

#[tokio::test]
async fn sessions_and_documents_are_found_by_what_their_metadata_contain() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (title, metadata) in METADATA {
        new_titled(&server, None, title, metadata).await;
        new_document(&server, title, metadata).await;
    }
    for (contained, found) in CONTAINED {
        let request = pb::ListSessionsRequest {
            metadata_contains_json: Some(contained.into()),
            ..Default::default()
        };
        assert_eq!(titles(&server, request).await, found, "{contained}");
        let request = pb::ListDocumentsRequest {
            metadata_contains_json: Some(contained.into()),
            ..Default::default()
        };
        assert_eq!(document_titles(&server, request).await, found, "{contained}");
    }
    // Together with the title.
    let request = pb::ListDocumentsRequest {
        metadata_contains_json: Some(r#"{"tag":"x"}"#.into()),
        title_contains: Some("B".into()),
        ..Default::default()
    };
    assert_eq!(document_titles(&server, request).await, ["b"]);
}

#[tokio::test]
async fn profiles_are_found_by_level_and_preferences() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (goal, preferences) in METADATA {
        let request = pb::CreateUserRequest {
            email: format!("{goal}@example.com"),
            profile: Some(pb::Profile {
                learning_goals: Some(goal.into()),
                experience_level: (goal != "d").then(|| if goal < "c" { "new" } else { "New" }.into()),
                preferences_json: preferences.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        answer(server.users().create_user(request).await);
    }
    let goals = async |level: Option<&str>, preferences: Option<&str>| {
        let request = pb::ListProfilesRequest {
            experience_level: level.map(str::to_owned),
            preferences_contain_json: preferences.map(str::to_owned),
            ..Default::default()
        };
        let page = answer(server.profiles().list_profiles(request).await);
        let goals = page
            .profiles
            .into_iter()
            .filter_map(|profile| profile.learning_goals);
        let mut goals: Vec<String> = goals.collect();
        goals.sort();
        goals
    };
    for (contained, found) in CONTAINED {
        assert_eq!(goals(None, Some(contained)).await, found, "{contained}");
    }
    assert_eq!(goals(Some("new"), None).await, ["a", "b"]);
    assert_eq!(goals(Some("New"), None).await, ["c"]);
    assert_eq!(goals(Some("ne%"), None).await.len(), 0);
    assert_eq!(goals(Some(""), None).await.len(), 0);
    assert_eq!(goals(Some("new"), Some(r#"{"n":"1"}"#)).await, ["b"]);
}

#[tokio::test]
async fn only_the_owners_sessions_are_listed() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (ada, eve) = (new_user(&server).await.id, new_user(&server).await.id);
    for (owner, title) in [
        (Some(&ada), "a1"),
        (Some(&eve), "e1"),
        (None, "n1"),
        (Some(&ada), "a2"),
    ] {
        new_titled(&server, owner.map(String::as_str), title, "").await;
    }
    for order in [
        pb::SessionOrder::Unspecified,
        pb::SessionOrder::LastActiveDesc,
        pb::SessionOrder::CreatedDesc,
    ] {
        let of = |owner: Owner| pb::ListSessionsRequest {
            owner: Some(owner),
            order_by: order.into(),
            ..Default::default()
        };
        assert_eq!(
            titles(&server, of(Owner::UserId(ada.clone()))).await,
            ["a1", "a2"]
        );
        assert_eq!(
            titles(&server, of(Owner::UserId(eve.to_uppercase()))).await,
            ["e1"]
        );
        assert_eq!(titles(&server, of(Owner::UserId(id()))).await.len(), 0);
        if order == pb::SessionOrder::LastActiveDesc {
            let refused = server.sessions().list_sessions(of(Owner::Anonymous(true))).await;
            assert_invalid(refused, &["order_by"]);
        } else {
            assert_eq!(titles(&server, of(Owner::Anonymous(true))).await, ["n1"]);
        }
    }
    let nobody = pb::ListSessionsRequest::default();
    assert_invalid(server.sessions().list_sessions(nobody).await, &["owner"]);
    let request = pb::ListSessionsRequest {
        owner: Some(Owner::Anonymous(false)),
        ..Default::default()
    };
    assert_invalid(server.sessions().list_sessions(request).await, &["anonymous"]);
}
