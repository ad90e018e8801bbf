//! Two tenants, their users and what is theirs, and everybody's credentials.

use std::time::Duration;

use chatledger::{
    audit::Audit,
    auth::{
        Access, Authenticator, NewSecret,
        key_file::KeyFile,
        known_keys::KnownKeys,
        known_users::KnownUsers,
        token::{
            TokenRules, TokenVerifier,
            keys::{KeySource, TokenKeys},
        },
    },
    store::Store,
    watched::Watched,
};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};

use crate::harness::*;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "chatledger";
const TOKEN_SECRET: &[u8] = b"the secret of the tests' own issuer";

/// Keys and tokens, and nothing besides.
pub fn access(store: &Store) -> Access {
    with_key_file(store, KeyFile::default())
}

pub fn with_key_file(store: &Store, key_file: KeyFile) -> Access {
    let users = KnownUsers::new(store.clone());
    let rules = TokenRules {
        issuers: vec![ISSUER.to_owned()],
        audiences: vec![AUDIENCE.to_owned()],
        leeway: Duration::from_secs(1),
        tenant_claim: Some("tenant".to_owned()),
        scopes_claim: Some("scope".to_owned()),
    };
    let keys = TokenKeys::of_secret(TOKEN_SECRET).expect("long enough");
    Access {
        authenticator: Some(Authenticator {
            keys: KnownKeys::new(store.clone()),
            key_file: Some(Watched::fixed(key_file)),
            tokens: Some(TokenVerifier::new(KeySource::File(Watched::fixed(keys)), rules)),
            certificates: None,
            users: users.clone(),
        }),
        users,
        reflection_is_open: false,
        audit: Audit::default(),
    }
}

/// A server that asks for credentials.
pub async fn guarded(database: &TestDatabase) -> TestServer {
    start_with(database, |options| options.access = Box::new(access)).await
}

/// A request with a bearer's text.
pub fn by<T>(bearer: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {bearer}")).expect("a header");
    request.metadata_mut().insert("authorization", value);
    request
}

/// The same for a user.
pub fn for_user<T>(bearer: &str, user: &str, message: T) -> Request<T> {
    let mut request = by(bearer, message);
    let value = MetadataValue::try_from(user).expect("a header");
    request.metadata_mut().insert("x-chatledger-user", value);
    request
}

/// A token of the tests' own issuer, which ends in ten minutes, with other claims than the usual ones.
pub fn token(subject: &str, others: Value) -> String {
    let mut claims = json!({
        "sub": subject,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": Timestamp::now().as_second() + 600,
    });
    for (name, value) in others.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(TOKEN_SECRET),
    )
    .expect("a token")
}

/// Stores a key by hand, as `chatledger key` would; the whole key.
pub async fn key(database: &TestDatabase, tenant: &str, scopes: &[&str]) -> String {
    let secret = NewSecret::generate().expect("random numbers");
    let client = database.client().await;
    let hash = secret.hash.bytes().as_slice();
    client
        .execute(
            "INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes) VALUES ($1, $2, 'test', $3, $4)",
            &[&secret.id, &tenant, &hash, &scopes],
        )
        .await
        .expect("a key");
    secret.key
}

/// The part of a key that is no secret.
pub fn id_of(key: &str) -> &str {
    key.split('_').nth(1).expect("an id")
}

/// Changes a key by hand, in a way that servers hear of.
pub async fn change_key(database: &TestDatabase, key: &str, change: &str) {
    let client = database.client().await;
    let sql = format!("UPDATE api_keys SET {change}, changed_at = clock_timestamp() WHERE id = $1");
    client.execute(&sql, &[&id_of(key)]).await.expect("a change");
}
