//! Refusals are complete, reach every client, and tell nothing that they shouldn't.

use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::*;

/// What grpc's C core, and with it Python, takes of trailers before it may refuse them.
const MAX_TRAILERS: usize = 8 << 10;

#[tokio::test]
async fn a_refusal_of_a_thousand_fields_still_reaches_the_client() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::ClaimSessionsRequest {
        user_id: "me".into(),
        session_ids: vec!["garbage".into(); 500],
        claim_secrets: Vec::new(),
    };
    let status = server
        .sessions()
        .claim_sessions(request)
        .await
        .expect_err("a refusal");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let refusal = refusal_of(&status);
    assert_eq!(refusal.reason, "INVALID_FIELD");
    // The first ones are told as ever.
    assert_eq!(
        refusal.fields[..3],
        ["user_id", "session_ids[0]", "session_ids[1]"]
    );
    let bad = status.get_details_bad_request().expect("a BadRequest");
    let last = bad.field_violations.last().expect("a violation");
    assert!(last.description.contains("more"), "{last:?}");
    // Both as they travel: percent-encoded, and in base64.
    let size = status.message().len() * 3 + status.details().len().div_ceil(3) * 4;
    assert!(size < MAX_TRAILERS, "{size}");
}

#[tokio::test]
async fn what_was_sent_is_not_sent_back_at_length() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::UpdateUserRequest {
        user_id: id(),
        update_mask: mask(&[&"x".repeat(1 << 20)]),
        ..Default::default()
    };
    assert_invalid(server.users().update_user(request).await, &["update_mask"]);
    let request = pb::CreateUserRequest {
        email: "x".repeat(1 << 20),
        password: Some("secret ".repeat(1000)),
        ..Default::default()
    };
    let status = server.users().create_user(request).await.expect_err("a refusal");
    assert_eq!(refusal_of(&status).fields, ["email", "password"]);
    assert!(!format!("{status:?}").contains("secret"));
    // A JSON text that is no object.
    for text in ["x".repeat(60_000), "é".repeat(30_000)] {
        let request = pb::CreateSessionRequest {
            metadata_json: format!("\"{text}\""),
            ..Default::default()
        };
        let status = server
            .sessions()
            .create_session(request)
            .await
            .expect_err("a refusal");
        assert_eq!(refusal_of(&status).fields, ["metadata_json"]);
        assert!(status.message().contains("JSON object"), "{status:?}");
        assert!(!status.message().contains(&text[..100]));
    }
}

#[tokio::test]
async fn refusals_show_neither_sql_nor_what_others_have() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateUserRequest {
        user_id: Some(id()),
        email: "ada@example.com".into(),
        external_id: Some("sub-1".into()),
        ..Default::default()
    };
    answer(server.users().create_user(request.clone()).await);
    let mut same_id = request.clone();
    same_id.email = "eve@example.com".into();
    let mut same_email = request.clone();
    same_email.user_id = None;
    same_email.external_id = None;
    let mut same_external_id = request;
    same_external_id.user_id = None;
    same_external_id.email = "eve@example.com".into();
    let mut statuses = Vec::new();
    for request in [same_id, same_email, same_external_id] {
        statuses.push(server.users().create_user(request).await.expect_err("a refusal"));
    }
    let request = pb::CreateSessionRequest {
        user_id: Some(id()),
        ..Default::default()
    };
    let refused = server.sessions().create_session(request).await;
    statuses.push(refused.expect_err("a refusal"));
    // A database that isn't as it should be: the log says so, the client hears of no table.
    let client = database.client().await;
    client
        .batch_execute("DROP TABLE documents")
        .await
        .expect("no table");
    let request = pb::ListDocumentsRequest::default();
    let refused = server.documents().list_documents(request).await;
    statuses.push(refused.expect_err("a refusal"));
    let reasons: Vec<String> = statuses.iter().map(|status| refusal_of(status).reason).collect();
    assert_eq!(
        reasons,
        [
            "ID_TAKEN",
            "EMAIL_TAKEN",
            "EXTERNAL_ID_TAKEN",
            "USER_NOT_FOUND",
            "INTERNAL"
        ]
    );
    for status in statuses {
        let shown = format!("{status:?}").to_lowercase();
        for word in [
            "select",
            "insert",
            "relation",
            "constraint",
            "_key",
            "fkey",
            "ada@",
            "sub-1",
        ] {
            assert!(!shown.contains(word), "{word} in {shown}");
        }
    }
}
