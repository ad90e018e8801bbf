//! `ClaimSessions`: anonymous sessions become the user's who has signed in.

use tonic::{Code, Response, Status};

use crate::harness::*;

type ClaimAnswer = Result<Response<pb::ClaimSessionsResponse>, Status>;

async fn claim<T: AsRef<str>>(server: &TestServer, user_id: &str, ids: &[T]) -> ClaimAnswer {
    let request = pb::ClaimSessionsRequest {
        user_id: user_id.to_owned(),
        session_ids: ids.iter().map(|id| id.as_ref().to_owned()).collect(),
        claim_secrets: Vec::new(),
    };
    server.sessions().claim_sessions(request).await
}

async fn get(server: &TestServer, id: &str) -> pb::Session {
    let request = pb::GetSessionRequest {
        session_id: id.to_owned(),
    };
    answer(server.sessions().get_session(request).await)
        .session
        .expect("a session")
}

#[tokio::test]
async fn what_is_nobodys_or_ones_own_is_claimed_in_the_order_asked_for() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (ada, eve) = (new_user(&server).await.id, new_user(&server).await.id);
    let first = new_session(&server).await;
    let second = new_session(&server).await;
    let own = new_session_of(&server, Some(&ada)).await;
    let others = new_session_of(&server, Some(&eve)).await;
    let untouched = new_session(&server).await;
    append(&server, &second, text("before")).await.expect("a receipt");
    let before = get(&server, &second).await;

    // Neither by id nor by age; any case is read, and lower case is answered.
    let asked = [&second.to_uppercase(), &id(), &own.id, &others.id, &first];
    let claimed = answer(claim(&server, &ada, &asked).await).claimed_session_ids;
    assert_eq!(claimed, [&*second, &*own.id, &*first]);

    let after = get(&server, &second).await;
    assert!(nanos(after.update_time) > nanos(before.update_time));
    assert_eq!(
        after,
        pb::Session {
            user_id: Some(ada.clone()),
            update_time: after.update_time,
            ..before
        }
    );
    assert_eq!(get(&server, &first).await.user_id, Some(ada.clone()));
    assert_eq!(get(&server, &own.id).await, own);
    assert_eq!(get(&server, &others.id).await, others);
    assert_eq!(get(&server, &untouched).await.user_id, None);
    // The conversation goes on.
    let receipt = append(&server, &second, text("after")).await.expect("a receipt");
    assert_eq!(receipt.seq, 2);

    // Again: the same answer, and nothing is changed.
    let before = get(&server, &second).await;
    let claimed = answer(claim(&server, &ada, &asked).await).claimed_session_ids;
    assert_eq!(claimed, [&*second, &*own.id, &*first]);
    assert_eq!(get(&server, &second).await, before);
    // Somebody else gets none of them.
    let claimed = answer(claim(&server, &eve, &asked).await).claimed_session_ids;
    assert_eq!(claimed, [&*others.id]);
}

#[tokio::test]
async fn bad_claims_are_refused_with_every_bad_field() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user(&server).await.id;
    let session = new_session(&server).await;
    let twice = [&session, &id(), &session.to_uppercase()];
    assert_invalid(claim(&server, &ada, &twice).await, &["session_ids[2]"]);
    assert_invalid(
        claim(&server, "me", &[&*session, "", "x", &*session]).await,
        &["user_id", "session_ids[1]", "session_ids[2]", "session_ids[3]"],
    );
    assert_eq!(get(&server, &session).await.user_id, None);
}

#[tokio::test]
async fn up_to_500_sessions_are_claimed_at_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user(&server).await.id;
    let sql = "INSERT INTO chat_sessions SELECT FROM generate_series(1, 501) RETURNING id::text";
    let rows = database.client().await.query(sql, &[]).await.expect("sessions");
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_invalid(claim(&server, &ada, &ids).await, &["session_ids"]);
    let claimed = answer(claim(&server, &ada, &ids[1..]).await).claimed_session_ids;
    assert_eq!(claimed, ids[1..]);
    assert_eq!(get(&server, &ids[0]).await.user_id, None);
    let none = answer(claim(&server, &ada, &ids[..0]).await).claimed_session_ids;
    assert_eq!(none, Vec::<String>::new());
}

#[tokio::test]
async fn a_user_who_does_not_exist_claims_nothing() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let eve = new_user(&server).await.id;
    let free = new_session(&server).await;
    let taken = new_session_of(&server, Some(&eve)).await.id;
    for ids in [vec![&free], vec![&taken], vec![&taken, &free], vec![]] {
        let claimed = claim(&server, &id(), &ids).await;
        assert_refused(claimed, Code::NotFound, "USER_NOT_FOUND");
    }
    assert_eq!(get(&server, &free).await.user_id, None);
}

#[tokio::test]
async fn each_of_many_sessions_claimed_by_two_at_the_same_moment_goes_to_one() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let (ada, eve) = (new_user(&one).await.id, new_user(&one).await.id);
    let sql = "INSERT INTO chat_sessions SELECT FROM generate_series(1, 200) RETURNING id::text";
    let rows = database.client().await.query(sql, &[]).await.expect("sessions");
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    // In opposite orders, which would be a deadlock if they were locked as they come.
    let backwards: Vec<String> = ids.iter().rev().cloned().collect();
    let (for_ada, for_eve) = tokio::join!(claim(&one, &ada, &ids), claim(&two, &eve, &backwards));
    let for_ada = answer(for_ada).claimed_session_ids;
    let mut for_eve = answer(for_eve).claimed_session_ids;
    for id in &ids {
        let owner = get(&one, id).await.user_id.expect("an owner");
        assert_eq!(for_ada.contains(id), owner == ada);
        assert_eq!(for_eve.contains(id), owner == eve);
    }
    let mut both = for_ada;
    both.append(&mut for_eve);
    both.sort();
    let mut all = ids;
    all.sort();
    assert_eq!(both, all);
}

/// A claim with a secret for each session.
async fn claim_by(server: &TestServer, user_id: &str, ids: &[&str], secrets: &[&str]) -> ClaimAnswer {
    let request = pb::ClaimSessionsRequest {
        user_id: user_id.to_owned(),
        session_ids: ids.iter().map(ToString::to_string).collect(),
        claim_secrets: secrets.iter().map(ToString::to_string).collect(),
    };
    server.sessions().claim_sessions(request).await
}

async fn create_with(server: &TestServer, id: &str, secret: Option<&str>) -> Result<pb::Session, Status> {
    let request = pb::CreateSessionRequest {
        session_id: Some(id.to_owned()),
        claim_secret: secret.map(str::to_owned),
        ..Default::default()
    };
    let created = server.sessions().create_session(request).await;
    created.map(|response| response.into_inner().session.expect("a session"))
}

const SECRET: &str = "the secret of the first";
const OTHER: &str = "the secret of another one";

#[tokio::test]
async fn a_service_may_give_secrets_and_then_they_have_to_be_right() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user(&server).await.id;
    let (first, second, third, open) = (id(), id(), id(), new_session(&server).await);
    for id in [&first, &second, &third] {
        create_with(&server, id, Some(SECRET)).await.expect("a session");
    }
    let claimed = claim_by(&server, &ada, &[&first, &second, &open], &[SECRET, OTHER, SECRET]).await;
    assert_eq!(answer(claimed).claimed_session_ids, [&*first]);
    assert_eq!(get(&server, &second).await.user_id, None);
    assert_eq!(get(&server, &open).await.user_id, None);
    // A retry finds its own. Nothing is left of the secret of what is claimed.
    let claimed = claim_by(&server, &ada, &[&first], &[SECRET]).await;
    assert_eq!(answer(claimed).claimed_session_ids, [&*first]);
    let hashes = "SELECT count(*) FROM chat_sessions WHERE claim_hash IS NOT NULL AND user_id IS NULL";
    let row = database
        .client()
        .await
        .query_one(hashes, &[])
        .await
        .expect("a count");
    assert_eq!(row.get::<_, i64>(0), 2);
    // None is needed of a service.
    let claimed = claim(&server, &ada, &[&second, &third]).await;
    assert_eq!(answer(claimed).claimed_session_ids, [&*second, &*third]);
    let hashes = "SELECT count(*) FROM chat_sessions WHERE claim_hash IS NOT NULL";
    let row = database
        .client()
        .await
        .query_one(hashes, &[])
        .await
        .expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_secret_belongs_to_an_anonymous_session_and_is_part_of_its_identity() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ada = new_user(&server).await.id;
    let (with, without) = (id(), id());
    let created = create_with(&server, &with, Some(SECRET))
        .await
        .expect("a session");
    create_with(&server, &without, None).await.expect("a session");
    let again = create_with(&server, &with, Some(SECRET)).await;
    assert_eq!(again.expect("the same"), created);
    for (id, secret) in [(&with, Some(OTHER)), (&with, None), (&without, Some(SECRET))] {
        let refused = create_with(&server, id, secret).await;
        assert_refused(refused.map(Response::new), Code::AlreadyExists, "ID_TAKEN");
    }
    let request = pb::CreateSessionRequest {
        user_id: Some(ada.clone()),
        claim_secret: Some(SECRET.to_owned()),
        ..Default::default()
    };
    assert_invalid(server.sessions().create_session(request).await, &["claim_secret"]);

    let (shortest, longest) = ("x".repeat(16), "x".repeat(512));
    for secret in [&shortest, &longest] {
        create_with(&server, &id(), Some(secret))
            .await
            .expect("a session");
    }
    for secret in [String::new(), "x".repeat(15), "x".repeat(513)] {
        let refused = create_with(&server, &id(), Some(&secret)).await;
        assert_invalid(refused.map(Response::new), &["claim_secret"]);
        let refused = claim_by(&server, &ada, &[&with], &[&secret]).await;
        assert_invalid(refused, &["claim_secrets[0]"]);
    }
    let refused = claim_by(&server, &ada, &[&with], &[SECRET, SECRET]).await;
    assert_invalid(refused, &["claim_secrets"]);
    let refused = claim_by(&server, &ada, &[&with, &without], &[SECRET]).await;
    assert_invalid(refused, &["claim_secrets"]);
    assert_eq!(get(&server, &with).await.user_id, None);
}
