//! Claims of end users: for themselves, and by the secret alone.

use chatledger::domain::{Error, Resource};
use uuid::Uuid;

use super::{
    rooms,
    trials::claim,
    world::{Belongings, SECRET, TENANT, caller},
};
use crate::harness::TestDatabase;

#[tokio::test]
async fn an_end_user_claims_by_the_secret_alone_and_for_itself_alone() {
    let database = TestDatabase::new().await;
    let rooms = rooms(&database).await;
    let of = Belongings::new(&rooms).await;
    let eve = Belongings::new(&rooms).await.user_id;
    let before = of.stored(&rooms).await;

    let wrong = "another secret that nobody has";
    for secret in [None, Some(wrong)] {
        let claim = claim(&of, eve, secret);
        let claimed = rooms
            .store
            .claim_sessions(&caller(TENANT, Some(eve)), &claim)
            .await;
        assert_eq!(claimed.expect("an answer"), Vec::<Uuid>::new(), "{secret:?}");
    }
    // One that has no secret is a service's to give.
    let open = "UPDATE chat_sessions SET claim_hash = NULL WHERE id = $1";
    let kept = "UPDATE chat_sessions SET claim_hash = sha256(convert_to($2, 'UTF8')) WHERE id = $1";
    rooms
        .client
        .execute(open, &[&of.anonymous_id])
        .await
        .expect("SQL");
    for secret in [None, Some(SECRET)] {
        let claim = claim(&of, eve, secret);
        let claimed = rooms
            .store
            .claim_sessions(&caller(TENANT, Some(eve)), &claim)
            .await;
        assert_eq!(claimed.expect("an answer"), Vec::<Uuid>::new(), "{secret:?}");
    }
    rooms
        .client
        .execute(kept, &[&of.anonymous_id, &SECRET])
        .await
        .expect("SQL");
    // For another user, who is there, or isn't: the same answer.
    for user_id in [of.user_id, Uuid::now_v7()] {
        let claim = claim(&of, user_id, Some(SECRET));
        let claimed = rooms
            .store
            .claim_sessions(&caller(TENANT, Some(eve)), &claim)
            .await;
        assert!(
            matches!(claimed, Err(Error::NotFound(Resource::User))),
            "{claimed:?}"
        );
    }
    // In another tenant there is no such user, nor session.
    let claimed = rooms
        .store
        .claim_sessions(&caller("other", Some(eve)), &claim(&of, eve, Some(SECRET)))
        .await;
    assert!(
        matches!(claimed, Err(Error::NotFound(Resource::User))),
        "{claimed:?}"
    );
    assert_eq!(of.stored(&rooms).await, before);

    let owner = caller(TENANT, Some(of.user_id));
    for _ in 0..2 {
        let claimed = rooms
            .store
            .claim_sessions(&owner, &claim(&of, of.user_id, Some(SECRET)))
            .await;
        assert_eq!(claimed.expect("an answer"), [of.anonymous_id]);
    }
    // What is somebody's is claimed by nobody else, whatever the secret.
    let claimed = rooms
        .store
        .claim_sessions(&caller(TENANT, Some(eve)), &claim(&of, eve, Some(SECRET)))
        .await;
    assert_eq!(claimed.expect("an answer"), Vec::<Uuid>::new());
}
