//! Passwords: set, verified, refused without a hint, and never shown.

use std::time::{Duration, Instant};

use tonic::{Code, Response, Status};

use crate::harness::*;

/// The first two are jBCrypt's own tests', the last is libxcrypt's (`$2y$`, as PHP writes them).
const FOREIGN: [(&str, &str); 3] = [
    (
        "a",
        "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
    ),
    (
        "abc",
        "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
    ),
    (
        "rasmuslerdorf",
        "$2y$07$BCryptRequires22Chrcte/VlQH0piJtjXl.0t1XkA8pw9dMXTpOq",
    ),
];

async fn new_user_with(server: &TestServer, email: &str, password: Option<&str>) -> pb::User {
    let request = pb::CreateUserRequest {
        email: email.to_owned(),
        password: password.map(str::to_owned),
        ..Default::default()
    };
    answer(server.users().create_user(request).await)
        .user
        .expect("a user")
}

async fn verify(
    server: &TestServer,
    email: &str,
    password: &str,
) -> Result<Response<pb::VerifyPasswordResponse>, Status> {
    let request = pb::VerifyPasswordRequest {
        email: email.to_owned(),
        password: password.to_owned(),
    };
    server.users().verify_password(request).await
}

async fn set(
    server: &TestServer,
    user_id: &str,
    password: &str,
) -> Result<Response<pb::SetPasswordResponse>, Status> {
    let request = pb::SetPasswordRequest {
        user_id: user_id.to_owned(),
        password: password.to_owned(),
    };
    server.users().set_password(request).await
}

async fn stored_hash(database: &TestDatabase, email: &str) -> String {
    let sql = "SELECT hashed_password FROM users WHERE email = $1";
    let row = database.client().await.query_one(sql, &[&email]).await;
    row.expect("a user").get(0)
}

async fn store_hash(database: &TestDatabase, email: &str, hash: &str) {
    let sql = "UPDATE users SET hashed_password = $2 WHERE email = $1";
    let client = database.client().await;
    assert_eq!(client.execute(sql, &[&email, &hash]).await.expect("an update"), 1);
}

#[tokio::test]
async fn the_right_password_answers_the_user() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user_with(&server, "ada@example.com", Some("correct horse")).await;
    let verified = answer(verify(&server, "ADA@example.com", "correct horse").await);
    assert_eq!(verified.user, Some(ada));
    let hash = stored_hash(&database, "ada@example.com").await;
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    assert!(!hash.contains("correct horse"));
}

#[tokio::test]
async fn a_password_that_is_set_replaces_the_one_before() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user_with(&server, "ada@example.com", None).await;
    for password in ["first", "second"] {
        answer(set(&server, &ada.id, password).await);
        let verified = answer(verify(&server, "ada@example.com", password).await);
        assert_eq!(verified.user.expect("a user").id, ada.id);
    }
    let old = verify(&server, "ada@example.com", "first").await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn creating_a_user_again_does_not_change_the_password() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = |password: &str| pb::CreateUserRequest {
        user_id: Some("0193b2a4-7c1e-7d2a-9f3b-5e8d1c0a4b6f".into()),
        email: "ada@example.com".into(),
        password: Some(password.into()),
        ..Default::default()
    };
    answer(server.users().create_user(request("first")).await);
    answer(server.users().create_user(request("second")).await);
    answer(verify(&server, "ada@example.com", "first").await);
    let second = verify(&server, "ada@example.com", "second").await;
    assert_refused(second, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn every_refusal_is_one_and_the_same_after_the_same_time() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    new_user_with(&server, "ada@example.com", Some("secret")).await;
    new_user_with(&server, "without@example.com", None).await;
    new_user_with(&server, "garbled@example.com", Some("secret")).await;
    store_hash(&database, "garbled@example.com", "secret").await;
    let inactive = new_user_with(&server, "inactive@example.com", Some("secret")).await;
    let request = pb::UpdateUserRequest {
        user_id: inactive.id,
        is_active: Some(false),
        ..Default::default()
    };
    answer(server.users().update_user(request).await);
    let mut refusals = Vec::new();
    for (email, password) in [
        ("ada@example.com", "Secret"),
        ("ada@example.com", "secret "),
        ("without@example.com", "secret"),
        ("without@example.com", "decoy"),
        ("garbled@example.com", "secret"),
        ("inactive@example.com", "secret"),
        ("nobody@example.com", "secret"),
        ("no email at all", "secret"),
        ("ada@example.com\0", "secret"),
    ] {
        let began = Instant::now();
        let status = verify(&server, email, password).await.expect_err(email);
        // Longer than any hash takes to verify on a machine that does nothing else.
        assert!(began.elapsed() >= Duration::from_millis(500), "{email}");
        refusals.push((
            status.code(),
            status.message().to_owned(),
            status.details().to_vec(),
        ));
    }
    assert!(
        refusals.iter().all(|refusal| *refusal == refusals[0]),
        "{refusals:?}"
    );
    let refused = verify(&server, "nobody@example.com", "secret").await;
    assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    // And once active again, the user is let in.
    answer(verify(&server, "ada@example.com", "secret").await);
}

#[tokio::test]
async fn passwords_have_1_to_1024_bytes() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user_with(&server, "ada@example.com", None).await;
    for (n, good) in ["x".to_owned(), "x".repeat(1024), "é".repeat(512)]
        .iter()
        .enumerate()
    {
        answer(set(&server, &ada.id, good).await);
        answer(verify(&server, "ada@example.com", good).await);
        new_user_with(&server, &format!("{n}@example.com"), Some(good)).await;
    }
    for bad in [String::new(), "x".repeat(1025), "é".repeat(513)] {
        assert_invalid(set(&server, &ada.id, &bad).await, &["password"]);
        assert_invalid(verify(&server, "ada@example.com", &bad).await, &["password"]);
        let request = pb::CreateUserRequest {
            email: "new@example.com".into(),
            password: Some(bad),
            ..Default::default()
        };
        assert_invalid(server.users().create_user(request).await, &["password"]);
    }
    assert_invalid(verify(&server, "", "").await, &["password", "email"]);
}

#[tokio::test]
async fn bcrypt_hashes_of_other_systems_are_verified_and_rewritten() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for (n, (password, hash)) in FOREIGN.into_iter().enumerate() {
        let email = format!("{n}@example.com");
        let user = new_user_with(&server, &email, None).await;
        store_hash(&database, &email, hash).await;
        let wrong = verify(&server, &email, "wrong").await;
        assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
        assert_eq!(stored_hash(&database, &email).await, hash);

        let verified = answer(verify(&server, &email, password).await);
        assert_eq!(verified.user, Some(user));
        let rewritten = stored_hash(&database, &email).await;
        assert!(rewritten.starts_with("$argon2id$"), "{rewritten}");
        answer(verify(&server, &email, password).await);
        // Written once: argon2id isn't rewritten.
        assert_eq!(stored_hash(&database, &email).await, rewritten);
        let wrong = verify(&server, &email, "wrong").await;
        assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
}

#[tokio::test]
async fn bcrypt_looks_at_72_bytes_and_the_rewritten_hash_at_all() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    new_user_with(&server, "ada@example.com", None).await;
    let long = "0123456789".repeat(10);
    let hash = bcrypt::hash(&long[..72], 4).expect("a hash");
    store_hash(&database, "ada@example.com", &hash).await;
    answer(verify(&server, "ada@example.com", &long).await);
    answer(verify(&server, "ada@example.com", &long).await);
    let other = verify(&server, "ada@example.com", &long[..72]).await;
    assert_refused(other, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn a_bcrypt_hash_of_an_inactive_user_is_refused_and_kept() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    new_user_with(&server, "ada@example.com", None).await;
    let sql = "UPDATE users SET is_active = false";
    database
        .client()
        .await
        .execute(sql, &[])
        .await
        .expect("an update");
    let (password, hash) = FOREIGN[1];
    store_hash(&database, "ada@example.com", hash).await;
    let refused = verify(&server, "ada@example.com", password).await;
    assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(stored_hash(&database, "ada@example.com").await, hash);
}

#[tokio::test]
async fn two_sign_ins_at_the_same_moment_both_succeed() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user_with(&server, "ada@example.com", None).await;
    let (password, hash) = FOREIGN[2];
    store_hash(&database, "ada@example.com", hash).await;
    let (one, two) = tokio::join!(
        verify(&server, "ada@example.com", password),
        verify(&server, "ada@example.com", password),
    );
    assert_eq!(answer(one).user, Some(ada.clone()));
    assert_eq!(answer(two).user, Some(ada));
    answer(verify(&server, "ada@example.com", password).await);
}
