//! API keys: made, listed, revoked, expired, shared beforehand; and what a caller is taken for.

use chatledger::auth::key_file::KeyFile;
use tonic::Code;
use tonic_types::StatusExt;

use super::world::*;
use crate::harness::*;

fn reason(status: &tonic::Status) -> (Code, String) {
    let info = status.get_details_error_info().expect("ErrorInfo");
    (status.code(), info.reason)
}

async fn who_am_i(server: &TestServer, bearer: &str) -> Result<pb::WhoAmIResponse, tonic::Status> {
    let answer = server.access().who_am_i(by(bearer, pb::WhoAmIRequest {})).await?;
    Ok(answer.into_inner())
}

fn new_key(name: &str, scopes: &[&str]) -> pb::CreateApiKeyRequest {
    pb::CreateApiKeyRequest {
        name: name.to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn without_authentication_everybody_is_the_local_service() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let me = who_am_i(&server, "whatever").await.expect("an answer");
    assert_eq!(me.kind(), pb::CallerKind::Local);
    assert_eq!((me.tenant.as_str(), me.scopes.len()), ("default", 4));
    // Such a service may make the first keys, of any tenant.
    let request = pb::CreateApiKeyRequest {
        tenant: Some("acme".to_owned()),
        ..new_key("first", &["admin"])
    };
    let made = server
        .access()
        .create_api_key(request)
        .await
        .expect("a key")
        .into_inner();
    assert_eq!(made.api_key.expect("a key").tenant, "acme");
}

#[tokio::test]
async fn a_key_lives_from_its_making_to_its_end() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let admin = key(&database, "acme", &["admin"]).await;
    let mut access = server.access();
    let made = access
        .create_api_key(by(&admin, new_key("rag-worker", &["write", "read"])))
        .await;
    let made = made.expect("a key").into_inner();
    let stored = made.api_key.expect("a key");
    assert_eq!(
        (stored.name.as_str(), stored.tenant.as_str()),
        ("rag-worker", "acme")
    );
    assert!(made.secret.starts_with(&format!("cl_{}_", stored.id)));

    // It is taken at once.
    let me = who_am_i(&server, &made.secret).await.expect("an answer");
    assert_eq!((me.kind(), me.tenant.as_str()), (pb::CallerKind::Service, "acme"));
    assert_eq!(
        (me.key_id.as_deref(), me.scopes),
        (
            Some(stored.id.as_str()),
            vec!["read".to_owned(), "write".to_owned()]
        )
    );

    // Nothing has its secret: neither the list nor the table.
    let list = access
        .list_api_keys(by(&admin, pb::ListApiKeysRequest::default()))
        .await;
    let list = list.expect("a list").into_inner().api_keys;
    assert_eq!(
        list.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(),
        [stored.id.as_str(), id_of(&admin)]
    );
    let client = database.client().await;
    let rows = client
        .query("SELECT k::text FROM api_keys k", &[])
        .await
        .expect("rows");
    let secret = made.secret.rsplit('_').next().expect("a secret");
    assert!(rows.iter().all(|row| !row.get::<_, String>(0).contains(secret)));

    // Its use is noted.
    eventually("a last use", || async {
        let list = server
            .access()
            .list_api_keys(by(&admin, pb::ListApiKeysRequest::default()))
            .await;
        let list = list.expect("a list").into_inner().api_keys;
        list.iter().all(|key| key.last_use_time.is_some()).then_some(())
    })
    .await;

    let revoke = pb::RevokeApiKeyRequest {
        api_key_id: stored.id.clone(),
    };
    access
        .revoke_api_key(by(&admin, revoke.clone()))
        .await
        .expect("its end");
    access
        .revoke_api_key(by(&admin, revoke.clone()))
        .await
        .expect("the same");
    let refused = who_am_i(&server, &made.secret).await.expect_err("revoked");
    assert_eq!(
        reason(&refused),
        (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned())
    );
    assert_eq!(
        refused.get_details_error_info().expect("details").metadata["cause"],
        "REVOKED"
    );

    // Another tenant's admin sees none of it.
    let other = key(&database, "other", &["admin"]).await;
    let absent = access
        .revoke_api_key(by(&other, revoke))
        .await
        .expect_err("another's");
    assert_eq!(reason(&absent), (Code::NotFound, "API_KEY_NOT_FOUND".to_owned()));
    let list = access
        .list_api_keys(by(&other, pb::ListApiKeysRequest::default()))
        .await;
    assert_eq!(list.expect("a list").into_inner().api_keys.len(), 1);
}

#[tokio::test]
async fn a_key_is_checked_before_it_is_made() {
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let admin = key(&database, "acme", &["admin"]).await;
    let past = prost_types::Timestamp { seconds: 1, nanos: 0 };
    for (request, field) in [
        (new_key("", &["read"]), "name"),
        (new_key("x", &[]), "scopes"),
        (new_key("x", &["read", "all"]), "scopes[1]"),
        (
            pb::CreateApiKeyRequest {
                tenant: Some("other".to_owned()),
                ..new_key("x", &["read"])
            },
            "tenant",
        ),
        (
            pb::CreateApiKeyRequest {
                expire_time: Some(past),
                ..new_key("x", &["read"])
            },
            "expire_time",
        ),
    ] {
        let refused = server
            .access()
            .create_api_key(by(&admin, request))
            .await
            .expect_err("a mistake");
        let bad = refused.get_details_bad_request().expect("BadRequest");
        assert_eq!(bad.field_violations[0].field, field);
    }
}

#[tokio::test]
async fn what_changes_elsewhere_is_heard_of() {
    let database = TestDatabase::new().await;
    let (one, two) = (guarded(&database).await, guarded(&database).await);
    let admin = key(&database, "acme", &["admin"]).await;
    who_am_i(&one, &admin).await.expect("known");
    let made = one
        .access()
        .create_api_key(by(&admin, new_key("new", &["read"])))
        .await;
    let made = made.expect("a key").into_inner();
    // A key that isn't known is asked for.
    eventually("a new key", || async { who_am_i(&two, &made.secret).await.ok() }).await;
    change_key(&database, &made.secret, "expires_at = now()").await;
    for server in [&one, &two] {
        let refused = eventually("its end", || async { who_am_i(server, &made.secret).await.err() }).await;
        assert_eq!(
            refused.get_details_error_info().expect("details").metadata["cause"],
            "EXPIRED"
        );
    }
}

#[tokio::test]
async fn preshared_keys_are_taken_beside_stored_ones() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.access = Box::new(|store| {
            let file = "[[api_keys]]\nname = 'worker'\nsecret = 'a-secret-of-at-least-32-characters'\n\
                        scopes = ['read']\ntenant = 'acme'\n";
            with_key_file(store, KeyFile::parse(file).expect("a file"))
        });
    })
    .await;
    let me = who_am_i(&server, "a-secret-of-at-least-32-characters")
        .await
        .expect("known");
    assert_eq!((me.tenant.as_str(), me.key_id), ("acme", None));
    let stored = key(&database, "default", &["read"]).await;
    assert_eq!(who_am_i(&server, &stored).await.expect("known").tenant, "default");
    let refused = who_am_i(&server, "another-secret-of-at-least-32-characters").await;
    assert_eq!(reason(&refused.expect_err("unknown")).0, Code::Unauthenticated);
}

#[tokio::test]
async fn health_is_open_and_reflection_is_for_admins() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let database = TestDatabase::new().await;
    let server = guarded(&database).await;
    let request = HealthCheckRequest::default();
    HealthClient::new(server.channel.clone())
        .check(request)
        .await
        .expect("an answer");
    let ask = |bearer: Option<String>| {
        let channel = server.channel.clone();
        async move {
            let request = ServerReflectionRequest {
                message_request: Some(MessageRequest::ListServices(String::new())),
                ..Default::default()
            };
            let stream = tokio_stream::once(request);
            let request = match bearer {
                Some(bearer) => by(&bearer, stream),
                None => tonic::Request::new(stream),
            };
            ServerReflectionClient::new(channel)
                .server_reflection_info(request)
                .await
                .map(drop)
        }
    };
    let (admin, users) = (
        key(&database, "default", &["admin"]).await,
        key(&database, "default", &["users"]).await,
    );
    ask(Some(admin)).await.expect("the contract");
    let refused = ask(Some(users)).await.expect_err("too little");
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "SCOPE_REQUIRED".to_owned())
    );
    let refused = ask(None).await.expect_err("nobody");
    assert_eq!(
        reason(&refused),
        (Code::Unauthenticated, "CREDENTIALS_REQUIRED".to_owned())
    );
}
