//! Attempts at passwords.

use tonic::{Code, Status};

use super::{limit_of, limited};
use crate::harness::*;

async fn verify(server: &TestServer, email: &str, password: &str) -> Result<(), Status> {
    let request = pb::VerifyPasswordRequest {
        email: email.to_owned(),
        password: password.to_owned(),
    };
    server.users().verify_password(request).await.map(drop)
}

async fn user_with(server: &TestServer, email: &str, password: &str) {
    let request = pb::CreateUserRequest {
        email: email.to_owned(),
        password: Some(password.to_owned()),
        ..Default::default()
    };
    answer(server.users().create_user(request).await);
}

#[track_caller]
fn is_wrong(result: Result<(), Status>) {
    assert_refused(result, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

const LIMITS: &str = "[logins]\nfree_by_account = 2\nfirst_delay = '1h'\nlongest_delay = '1h'\n";

#[tokio::test]
async fn an_account_waits_after_wrong_passwords_whether_somebody_has_it_or_not() {
    let database = TestDatabase::new().await;
    let server = limited(&database, LIMITS).await;
    user_with(&server, "ada@example.com", "correct horse").await;
    user_with(&server, "bob@example.com", "correct horse").await;
    let mut refusals = Vec::new();
    for email in ["ada@example.com", "nobody@example.com"] {
        is_wrong(verify(&server, email, "battery staple").await);
        is_wrong(verify(&server, &email.to_uppercase(), "battery staple").await);
        // Also the right one, without a look.
        let refused = verify(&server, email, "correct horse")
            .await
            .expect_err("a delay");
        let text = refused.message().to_owned();
        let limit = limit_of::<()>(Err(refused), "RATE_LIMITED");
        assert_eq!(limit, "logins.account");
        refusals.push(text);
    }
    assert_eq!(refusals[0], refusals[1]);
    verify(&server, "bob@example.com", "correct horse")
        .await
        .expect("another account");
}

#[tokio::test]
async fn a_right_password_begins_anew_and_many_at_a_time_are_no_way_around() {
    let database = TestDatabase::new().await;
    let server = limited(&database, LIMITS).await;
    user_with(&server, "ada@example.com", "correct horse").await;
    for _ in 0..3 {
        is_wrong(verify(&server, "ada@example.com", "battery staple").await);
        verify(&server, "ada@example.com", "correct horse")
            .await
            .expect("the right one");
    }
    let attempts = (0..8).map(|_| verify(&server, "ada@example.com", "battery staple"));
    let outcomes = futures_util::future::join_all(attempts).await;
    let looked_at = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let looked_at = looked_at.filter(|status| status.code() == Code::Unauthenticated);
    assert_eq!(looked_at.count(), 2);
}
