//! What is kept of what was done.

use chatledger::{
    audit::{Audit, AuditEvent, AuditRecord},
    auth::Access,
};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::json;

use super::world::*;
use crate::harness::*;

async fn audited(database: &TestDatabase) -> TestServer {
    start_with(database, |options| {
        options.access = Box::new(|store| Access {
            audit: Audit::to_table(store.clone(), SignedDuration::from_hours(48)),
            ..access(store)
        });
    })
    .await
}

async fn who_am_i(server: &TestServer, bearer: &str) -> Result<(), tonic::Status> {
    server
        .access()
        .who_am_i(by(bearer, pb::WhoAmIRequest {}))
        .await
        .map(drop)
}

/// The records, as text.
async fn records(database: &TestDatabase) -> Vec<String> {
    let client = database.client().await;
    let sql = "SELECT concat_ws(' ', event, tenant_id, actor, subject, method, cause) FROM audit_events ORDER BY at";
    let rows = client.query(sql, &[]).await.expect("records");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn who_did_what_is_kept_without_contents_and_secrets() {
    let database = TestDatabase::new().await;
    let server = audited(&database).await;
    let admin = key(&database, "acme", &["admin"]).await;
    let actor = format!("key:{}", id_of(&admin));
    let user = pb::CreateUserRequest {
        email: "ada@example.com".to_owned(),
        ..Default::default()
    };
    let user = server
        .users()
        .create_user(by(&admin, user))
        .await
        .expect("a user");
    let user = user.into_inner().user.expect("a user").id;
    let new = pb::CreateApiKeyRequest {
        name: "worker".to_owned(),
        scopes: vec!["read".to_owned()],
        ..Default::default()
    };
    let made = server
        .access()
        .create_api_key(by(&admin, new))
        .await
        .expect("a key")
        .into_inner();
    let made_id = made.api_key.expect("a key").id;
    let revoke = pb::RevokeApiKeyRequest {
        api_key_id: made_id.clone(),
    };
    server
        .access()
        .revoke_api_key(by(&admin, revoke))
        .await
        .expect("its end");
    // Whose a revoked key is, is known.
    assert!(who_am_i(&server, &made.secret).await.is_err());
    // What a service is kept from doing for somebody is kept as well.
    let nobody = id();
    let get = pb::GetUserRequest {
        key: Some(pb::get_user_request::Key::UserId(nobody.clone())),
    };
    assert!(
        server
            .users()
            .get_user(for_user(&admin, &nobody, get))
            .await
            .is_err()
    );
    let bad = "cl_0123456789abcdef_secret-that-nobody-has";
    assert!(
        server
            .access()
            .who_am_i(by(bad, pb::WhoAmIRequest {}))
            .await
            .is_err()
    );
    let expired = token(&user, json!({"exp": 1, "tenant": "acme"}));
    assert!(
        server
            .access()
            .who_am_i(by(&expired, pb::WhoAmIRequest {}))
            .await
            .is_err()
    );
    let session = pb::CreateSessionRequest {
        title: Some("a secret title".to_owned()),
        ..Default::default()
    };
    server
        .sessions()
        .create_session(for_user(&admin, &user, session))
        .await
        .expect("a session");
    let wrong = pb::VerifyPasswordRequest {
        email: "ada@example.com".to_owned(),
        password: "hunter2hunter2".to_owned(),
    };
    assert!(server.users().verify_password(by(&admin, wrong)).await.is_err());
    let delete = pb::DeleteUserRequest {
        user_id: user.clone(),
    };
    server
        .users()
        .delete_user(by(&admin, delete))
        .await
        .expect("its end");

    let who_am_i = "/chatledger.v1.AccessService/WhoAmI";
    let expected = [
        format!("key_created acme {actor} {made_id} CreateApiKey"),
        format!("key_revoked acme {actor} {made_id} RevokeApiKey"),
        format!("authentication_failed acme key:{made_id} {who_am_i} REVOKED"),
        format!("acted_for_user acme {actor} {nobody} /chatledger.v1.UserService/GetUser USER_NOT_FOUND"),
        format!("authentication_failed  unknown {who_am_i} UNKNOWN"),
        format!("authentication_failed  unknown {who_am_i} EXPIRED"),
        format!("acted_for_user acme {actor} {user} /chatledger.v1.SessionService/CreateSession"),
        format!("sign_in_failed acme {actor} {user} VerifyPassword"),
        format!("user_deleted acme {actor} {user} DeleteUser"),
    ];
    let found = eventually("all records", || async {
        let found = records(&database).await;
        (found.len() >= expected.len()).then_some(found)
    })
    .await;
    assert_eq!(found, expected);
    let client = database.client().await;
    let whole = "SELECT string_agg(a::text, ' ') FROM audit_events a";
    let whole: String = client.query_one(whole, &[]).await.expect("a text").get(0);
    for secret in [
        "ada@example.com",
        "hunter2",
        "secret",
        "worker",
        &made.secret,
        &admin,
        &expired,
    ] {
        assert!(!whole.contains(secret), "{secret} in {whole}");
    }
    assert_eq!(whole.matches("127.0.0.1:").count(), expected.len());
}

#[tokio::test]
async fn records_stay_as_they_are_until_they_are_old() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let server = start(&database).await;
    let store = chatledger::store::Store::new(
        server.db.clone(),
        std::sync::Arc::default(),
        chatledger::migrations::Scope::All,
        "english",
    );
    let at = |hours: i64| AuditRecord {
        at: Timestamp::now() - hours.hours(),
        ..AuditRecord::new(AuditEvent::KeyCreated, "acme", "a test")
    };
    store.keep_audit(&[at(0), at(47), at(49)]).await.expect("records");
    for change in [
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
    ] {
        let refused = client.batch_execute(change).await.expect_err("append-only");
        let refused = refused.as_db_error().expect("an answer").message().to_owned();
        assert!(refused.contains("append-only"), "{refused}");
    }
    assert_eq!(records(&database).await.len(), 3);
    // The next record that comes has the old ones deleted.
    let audit = Audit::to_table(store, SignedDuration::from_hours(48));
    audit.record(at(0));
    eventually("the oldest goes", || async {
        let old = "SELECT count(*) FROM audit_events WHERE at < now() - interval '48 hours'";
        let old: i64 = client.query_one(old, &[]).await.expect("a count").get(0);
        (old == 0).then_some(())
    })
    .await;
    assert_eq!(records(&database).await.len(), 3);
}
