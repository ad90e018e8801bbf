//! Tokens: whom they name, and what those may do; and services that act for users.

use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use super::world::*;
use crate::harness::*;

fn code_and_reason(status: &tonic::Status) -> (Code, String) {
    (
        status.code(),
        status.get_details_error_info().expect("ErrorInfo").reason,
    )
}

async fn user(server: &TestServer, admin: &str, external_id: Option<&str>) -> pb::User {
    let request = pb::CreateUserRequest {
        email: format!("{}@example.com", id()),
        external_id: external_id.map(str::to_owned),
        ..Default::default()
    };
    let made = server
        .users()
        .create_user(by(admin, request))
        .await
        .expect("a user");
    made.into_inner().user.expect("a user")
}

fn get_user(user_id: &str) -> pb::GetUserRequest {
    pb::GetUserRequest {
        key: Some(pb::get_user_request::Key::UserId(user_id.to_owned())),
    }
}

#[tokio::test]
async fn a_subject_is_a_user_s_id_or_external_id_within_the_tenant() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let admin = key(&database, "default", &["admin"]).await;
    let other_admin = key(&database, "other", &["admin"]).await;
    let ada = user(&server, &admin, Some("auth0|ada")).await;
    let namesake = user(&server, &other_admin, Some("auth0|ada")).await;
    for (token, expected) in [
        (token(&ada.id, json!({})), &ada),
        (token("auth0|ada", json!({})), &ada),
        (token("auth0|ada", json!({"tenant": "other"})), &namesake),
    ] {
        let me = server.access().who_am_i(by(&token, pb::WhoAmIRequest {})).await;
        let me = me.expect("known").into_inner();
        assert_eq!(
            (me.kind(), me.user_id.as_deref()),
            (pb::CallerKind::EndUser, Some(expected.id.as_str()))
        );
        assert!(me.scopes.is_empty() && me.expire_time.is_some());
        let own = server.users().get_user(by(&token, get_user(&expected.id))).await;
        assert_eq!(
            own.expect("its own").into_inner().user.expect("a user").email,
            expected.email
        );
    }
    for token in [
        token("nobody", json!({})),
        token(&ada.id, json!({"tenant": "other"})),
    ] {
        let refused = server.access().who_am_i(by(&token, pb::WhoAmIRequest {})).await;
        let refused = refused.expect_err("nobody");
        assert_eq!(
            code_and_reason(&refused),
            (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned())
        );
        assert_eq!(
            refused.get_details_error_info().expect("details").metadata["cause"],
            "NO_SUCH_USER"
        );
    }
}

#[tokio::test]
async fn a_deactivated_user_is_out() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let admin = key(&database, "default", &["admin"]).await;
    let ada = user(&server, &admin, None).await;
    let token = token(&ada.id, json!({}));
    server
        .users()
        .get_user(by(&token, get_user(&ada.id)))
        .await
        .expect("its own");
    let request = pb::UpdateUserRequest {
        user_id: ada.id.clone(),
        is_active: Some(false),
        ..Default::default()
    };
    server
        .users()
        .update_user(by(&admin, request))
        .await
        .expect("a change");
    let refused = server
        .users()
        .get_user(by(&token, get_user(&ada.id)))
        .await
        .expect_err("out");
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Nor does a service act for who isn't there.
    let read = key(&database, "default", &["read"]).await;
    let refused = server
        .users()
        .get_user(for_user(&read, &ada.id, get_user(&ada.id)))
        .await;
    assert_eq!(
        code_and_reason(&refused.expect_err("out")),
        (Code::NotFound, "USER_NOT_FOUND".to_owned())
    );
}

#[tokio::test]
async fn an_end_user_does_not_become_another() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let admin = key(&database, "default", &["admin"]).await;
    let ada = user(&server, &admin, None).await;
    let token = token(&ada.id, json!({}));
    for request in [
        pb::UpdateUserRequest {
            user_id: ada.id.clone(),
            external_id: Some("auth0|bob".to_owned()),
            ..Default::default()
        },
        pb::UpdateUserRequest {
            user_id: ada.id.clone(),
            is_active: Some(true),
            ..Default::default()
        },
    ] {
        let refused = server
            .users()
            .update_user(by(&token, request))
            .await
            .expect_err("not its own to say");
        assert_eq!(
            code_and_reason(&refused),
            (Code::PermissionDenied, "SCOPE_REQUIRED".to_owned())
        );
    }
    let request = pb::UpdateUserRequest {
        user_id: ada.id.clone(),
        name: Some("Ada".to_owned()),
        ..Default::default()
    };
    server
        .users()
        .update_user(by(&token, request))
        .await
        .expect("its own");
}

#[tokio::test]
async fn a_service_that_acts_for_a_user_has_that_user_s_sight() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let admin = key(&database, "default", &["admin"]).await;
    let (ada, bob) = (
        user(&server, &admin, None).await,
        user(&server, &admin, None).await,
    );
    let worker = key(&database, "default", &["write"]).await;
    let created = server
        .sessions()
        .create_session(for_user(&worker, &ada.id, pb::CreateSessionRequest::default()))
        .await;
    let session = created
        .expect("a session")
        .into_inner()
        .session
        .expect("a session");
    assert_eq!(session.user_id.as_deref(), Some(ada.id.as_str()));
    let get = pb::GetSessionRequest {
        session_id: session.id.clone(),
    };
    server
        .sessions()
        .get_session(for_user(&worker, &ada.id, get.clone()))
        .await
        .expect("its own");
    let absent = server
        .sessions()
        .get_session(for_user(&worker, &bob.id, get.clone()))
        .await;
    assert_eq!(
        code_and_reason(&absent.expect_err("another's")),
        (Code::NotFound, "SESSION_NOT_FOUND".to_owned())
    );
    // Scopes hold as well, and an end user acts for nobody else.
    let reader = key(&database, "default", &["read"]).await;
    let refused = server
        .sessions()
        .create_session(for_user(&reader, &ada.id, pb::CreateSessionRequest::default()))
        .await;
    assert_eq!(refused.expect_err("too little").code(), Code::PermissionDenied);
    let own = token(&bob.id, json!({}));
    let refused = server.sessions().get_session(for_user(&own, &ada.id, get)).await;
    assert_eq!(
        code_and_reason(&refused.expect_err("another")),
        (Code::NotFound, "USER_NOT_FOUND".to_owned())
    );
    let refused = server
        .users()
        .get_user(for_user(&reader, "ada", get_user(&ada.id)))
        .await
        .expect_err("no id");
    let bad = refused.get_details_bad_request().expect("BadRequest");
    assert_eq!(bad.field_violations[0].field, "x-chatledger-user");
}
