use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet},
};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{keys::TokenKeys, *};
use crate::watched::Watched;

const SECRET: &[u8] = b"a secret with thirty-two bytes or more";

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// What every good token says.
fn claims() -> Value {
    json!({"sub": "ada", "exp": now() + 600, "iss": "https://issuer.example", "aud": "chatledger"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

fn rules() -> TokenRules {
    TokenRules {
        issuers: vec!["https://issuer.example".to_owned()],
        audiences: vec!["chatledger".to_owned()],
        leeway: Duration::from_secs(30),
        tenant_claim: Some("org".to_owned()),
        scopes_claim: Some("scope".to_owned()),
    }
}

fn of_secret() -> TokenVerifier {
    let keys = TokenKeys::of_secret(SECRET).expect("long enough");
    TokenVerifier::new(KeySource::File(Watched::fixed(keys)), rules())
}

fn signed(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).expect("a token")
}

/// A token with any header, signed as the secret's are.
fn encode_with(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{signed}.{signature}")
}

async fn fault_of(verifier: &TokenVerifier, token: &str) -> CredentialFault {
    match verifier.verify(token, Timestamp::now()).await {
        Err(Error::CredentialsRefused(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair for ECDSA or EdDSA, and its place in a set.
fn pair(algorithm: Algorithm, name: &str) -> (EncodingKey, Jwk) {
    let of = if algorithm == Algorithm::ES256 {
        &rcgen::PKCS_ECDSA_P256_SHA256
    } else {
        &rcgen::PKCS_ED25519
    };
    let pair = KeyPair::generate_for(of).expect("a pair");
    let public = pair.public_key_raw();
    let (key, jwk) = if algorithm == Algorithm::ES256 {
        // Uncompressed: a byte that says so, x, and y.
        let (x, y) = public[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
        (EncodingKey::from_ec_der(pair.serialized_der()), jwk)
    } else {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64(public)});
        (EncodingKey::from_ed_der(pair.serialized_der()), jwk)
    };
    let mut jwk: Jwk = serde_json::from_value(jwk).expect("a public key");
    jwk.common.key_id = Some(name.to_owned());
    (key, jwk)
}

fn of_set(keys: Vec<Jwk>) -> TokenVerifier {
    let json = serde_json::to_vec(&JwkSet { keys }).expect("JSON");
    let keys = TokenKeys::of_set(&json).expect("a set");
    TokenVerifier::new(KeySource::File(Watched::fixed(keys)), rules())
}

fn signed_by(key: &EncodingKey, algorithm: Algorithm, name: &str) -> String {
    let header = Header {
        kid: Some(name.to_owned()),
        ..Header::new(algorithm)
    };
    encode(&header, &claims(), key).expect("a token")
}

#[tokio::test]
async fn a_good_token_says_who_it_is_about() {
    let verifier = of_secret();
    let token = verifier
        .verify(&signed(&claims()), Timestamp::now())
        .await
        .expect("a good one");
    assert_eq!(
        (token.subject.as_str(), &token.tenant, token.scopes),
        ("ada", &None, None)
    );
    let of_service = with("scope", json!("openid chatledger:write read"));
    let token = verifier
        .verify(&signed(&of_service), Timestamp::now())
        .await
        .expect("a good one");
    assert_eq!(token.scopes.expect("scopes").names(), ["read", "write"]);
    let of_tenant = with("org", json!("acme"));
    let token = verifier
        .verify(&signed(&of_tenant), Timestamp::now())
        .await
        .expect("a good one");
    assert_eq!(token.tenant.as_deref(), Some("acme"));
    // A claim of scopes without one of ours is a service that may do nothing, and no end user.
    let of_other = with("scope", json!(["openid"]));
    let token = verifier
        .verify(&signed(&of_other), Timestamp::now())
        .await
        .expect("a good one");
    assert!(token.scopes.expect("scopes").is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told() {
    let verifier = of_secret();
    for (claims, expected) in [
        (with("exp", json!(now() - 60)), CredentialFault::Expired),
        (with("nbf", json!(now() + 60)), CredentialFault::NotYetValid),
        (
            with("iss", json!("https://other.example")),
            CredentialFault::WrongIssuer,
        ),
        (without("iss"), CredentialFault::WrongIssuer),
        (with("aud", json!("another")), CredentialFault::WrongAudience),
        (without("aud"), CredentialFault::WrongAudience),
        (without("exp"), CredentialFault::Unknown),
        (without("sub"), CredentialFault::Unknown),
        (with("sub", json!("")), CredentialFault::Unknown),
        (with("sub", json!(7)), CredentialFault::Unknown),
        (with("sub", json!("a\u{0}b")), CredentialFault::Unknown),
        (with("exp", json!("soon")), CredentialFault::Unknown),
        (with("org", json!(["acme"])), CredentialFault::Unknown),
        (with("org", json!("a".repeat(256))), CredentialFault::Unknown),
        (with("org", json!("acme\n")), CredentialFault::Unknown),
        (with("sub", json!("a".repeat(256))), CredentialFault::Unknown),
        (with("scope", json!(7)), CredentialFault::Unknown),
    ] {
        assert_eq!(fault_of(&verifier, &signed(&claims)).await, expected, "{claims}");
    }
    // Within the leeway.
    let late = signed(&with("exp", json!(now() - 10)));
    assert!(verifier.verify(&late, Timestamp::now()).await.is_ok());
}

#[tokio::test]
async fn a_token_that_was_good_ends() {
    let verifier = of_secret();
    let token = signed(&claims());
    assert!(verifier.verify(&token, Timestamp::now()).await.is_ok());
    let later = Timestamp::now() + 700.seconds();
    match verifier.verify(&token, later).await {
        Err(Error::CredentialsRefused(CredentialFault::Expired)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_algorithm_has_its_own_keys() {
    let (es, es_public) = pair(Algorithm::ES256, "es");
    let (ed, of_ed) = pair(Algorithm::EdDSA, "ed");
    let verifier = of_set(vec![es_public.clone(), of_ed.clone()]);
    for (key, algorithm, name) in [(&es, Algorithm::ES256, "es"), (&ed, Algorithm::EdDSA, "ed")] {
        let token = signed_by(key, algorithm, name);
        assert!(verifier.verify(&token, Timestamp::now()).await.is_ok(), "{name}");
        let token = encode(&Header::new(algorithm), &claims(), key).expect("a token");
        assert!(
            verifier.verify(&token, Timestamp::now()).await.is_ok(),
            "without a name"
        );
    }
    let (foreign, _) = pair(Algorithm::ES256, "es");
    for token in [
        signed_by(&foreign, Algorithm::ES256, "es"),
        signed_by(&es, Algorithm::ES256, "ed"),
        signed_by(&es, Algorithm::ES256, "nobody's"),
        // An HMAC with what everybody knows.
        signed_by(
            &EncodingKey::from_secret(&serde_json::to_vec(&es_public).expect("JSON")),
            Algorithm::HS256,
            "es",
        ),
        signed(&claims()),
    ] {
        assert_eq!(fault_of(&verifier, &token).await, CredentialFault::Unknown);
    }
}

#[tokio::test]
async fn what_is_not_signed_is_refused() {
    let verifier = of_secret();
    let part = |value: &Value| base64(value.to_string().as_bytes());
    let good = signed(&claims());
    let (signed_part, signature) = good.rsplit_once('.').expect("a signature");
    for token in [
        format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims())),
        format!("{}.{}.", part(&json!({"alg": "None"})), part(&claims())),
        format!(
            "{}.{}.{signature}",
            part(&json!({"alg": "none"})),
            part(&claims())
        ),
        format!("{signed_part}."),
        {
            let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
            encode_with(&header, &claims())
        },
        format!(
            "{}.{}.{signature}",
            part(&json!({"alg": "HS256"})),
            part(&with("sub", json!("eve")))
        ),
        "..".to_owned(),
        "a.b.c".to_owned(),
        String::new(),
    ] {
        assert_eq!(
            fault_of(&verifier, &token).await,
            CredentialFault::Unknown,
            "{token}"
        );
    }
}

#[test]
fn keys_that_are_not_for_us_are_passed_over() {
    let (_, es) = pair(Algorithm::ES256, "es");
    let mut for_encryption = es.clone();
    for_encryption.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    let mut of_another_algorithm = es.clone();
    of_another_algorithm.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES384);
    for bad in [for_encryption, of_another_algorithm] {
        let json = serde_json::to_vec(&JwkSet { keys: vec![bad] }).expect("JSON");
        let error = TokenKeys::of_set(&json).expect_err("no key");
        assert!(
            error.to_string().contains("no key for RS256, ES256 or EdDSA"),
            "{error}"
        );
    }
    // A symmetric key in a public set is a mistake of somebody's.
    let symmetric = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]});
    assert!(TokenKeys::of_set(symmetric.to_string().as_bytes()).is_err());
    assert!(TokenKeys::of_set(b"{}").is_err());
    assert!(TokenKeys::of_secret(b"short").is_err());
    // Random bytes may end like lines; one such end is cut off.
    assert!(TokenKeys::of_secret(&[b'\n'; 34]).is_ok());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n", "A".repeat(64));
    assert!(TokenKeys::of_secret(pem.as_bytes()).is_err());
}
