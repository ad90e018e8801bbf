//! The append path as the queue will use it: many units in one call.

use std::sync::Arc;

use chatledger::{
    auth::Caller,
    domain::{
        Error, JsonObject, Resource,
        citation::Citation,
        message::{NewMessage, Receipt, Role},
    },
    ledger::{self, Outcome, Unit},
};
use uuid::Uuid;

use crate::harness::*;

fn service() -> Caller {
    Caller::local_service(None)
}

fn message(id: Uuid, content: &str) -> NewMessage {
    NewMessage {
        id,
        id_is_given: true,
        role: Role::User,
        content: content.to_owned(),
        selected_text: None,
        metadata: JsonObject::default(),
        payload: None,
        citations: Vec::new(),
        created_at: None,
    }
}

fn unit(session: &str, contents: &[&str]) -> Unit {
    Unit {
        caller: service(),
        session_id: session.parse().expect("a UUID"),
        messages: contents
            .iter()
            .map(|content| message(Uuid::now_v7(), content))
            .collect(),
        expected_last_seq: None,
    }
}

async fn run(server: &TestServer, units: &[Unit]) -> Vec<Outcome> {
    let borrowed: Vec<&Unit> = units.iter().collect();
    let outcomes = ledger::append(&server.db, &borrowed).await;
    assert_eq!(outcomes.len(), units.len());
    outcomes
}

#[track_caller]
fn seqs_of(outcome: &Outcome) -> Vec<i64> {
    let receipts = outcome.as_ref().expect("receipts");
    receipts.iter().map(|receipt| receipt.seq).collect()
}

async fn contents(server: &TestServer, session: &str) -> Vec<String> {
    let messages = messages_of(server, session).await;
    assert_gapless(&messages);
    messages.into_iter().map(|message| message.content).collect()
}

#[tokio::test]
async fn units_of_many_sessions_are_each_stored_in_the_order_given() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (a, b) = (new_session(&server).await, new_session(&server).await);
    let units = [
        unit(&a, &["a1"]),
        unit(&b, &["b1", "b2"]),
        unit(&a, &["a2", "a3"]),
        unit(&b, &["b3"]),
        unit(&a, &["a4"]),
    ];
    let outcomes = run(&server, &units).await;
    let seqs: Vec<_> = outcomes.iter().map(seqs_of).collect();
    assert_eq!(seqs, [vec![1], vec![1, 2], vec![2, 3], vec![3], vec![4]]);
    assert_eq!(contents(&server, &a).await, ["a1", "a2", "a3", "a4"]);
    assert_eq!(contents(&server, &b).await, ["b1", "b2", "b3"]);
    // The receipts tell what is stored.
    for (unit, outcome) in units.iter().zip(&outcomes) {
        for (message, receipt) in unit.messages.iter().zip(outcome.as_ref().expect("receipts")) {
            let stored = get_message(&server, &unit.session_id.to_string(), &message.id.to_string())
                .await
                .expect("a message");
            assert_eq!(stored.seq, receipt.seq);
            assert_eq!(
                micros(stored.create_time.as_ref()),
                receipt.created_at.as_microsecond()
            );
            assert!(!receipt.deduplicated);
        }
    }
    // The same call again.
    let again = run(&server, &units).await;
    for (first, again) in outcomes
        .iter()
        .flatten()
        .flatten()
        .zip(again.iter().flatten().flatten())
    {
        assert_eq!(
            *again,
            Receipt {
                deduplicated: true,
                ..first.clone()
            }
        );
    }
    assert_eq!(again.iter().flatten().flatten().count(), 7);
    assert_eq!(contents(&server, &a).await.len(), 4);
}

#[tokio::test]
async fn a_bad_unit_harms_no_neighbour() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (a, b) = (new_session(&server).await, new_session(&server).await);
    let stored = message(Uuid::now_v7(), "stored");
    let deleted = message(Uuid::now_v7(), "deleted");
    let of = |messages: Vec<NewMessage>| Unit {
        messages,
        ..unit(&a, &[])
    };
    run(&server, &[of(vec![stored.clone()]), of(vec![deleted.clone()])]).await;
    delete_message(&server, &a, &deleted.id.to_string())
        .await
        .expect("a deletion");

    let units = [
        unit(&a, &["a3"]),
        unit(&id(), &["nowhere"]),
        unit(&b, &["b1"]),
        of(vec![NewMessage {
            content: "other".to_owned(),
            ..stored.clone()
        }]),
        unit(&a, &["a4", "a5"]),
        of(vec![deleted]),
        of(vec![message(Uuid::now_v7(), "new"), stored.clone()]),
        Unit {
            expected_last_seq: Some(2),
            ..unit(&a, &["a conflict"])
        },
        Unit {
            expected_last_seq: Some(5),
            ..unit(&a, &["a6"])
        },
        of(vec![stored]),
        unit(&b, &["b2"]),
    ];
    let outcomes = run(&server, &units).await;
    assert_eq!(seqs_of(&outcomes[0]), [3]);
    assert!(matches!(outcomes[1], Err(Error::NotFound(Resource::Session))));
    assert_eq!(seqs_of(&outcomes[2]), [1]);
    assert!(matches!(outcomes[3], Err(Error::MessageIdReused(_))));
    assert_eq!(seqs_of(&outcomes[4]), [4, 5]);
    assert!(matches!(outcomes[5], Err(Error::MessageDeleted)));
    assert!(matches!(outcomes[6], Err(Error::MessageIdReused(_))));
    assert!(matches!(
        outcomes[7],
        Err(Error::SequenceConflict { last_seq: 5 })
    ));
    assert_eq!(seqs_of(&outcomes[8]), [6]);
    assert!(outcomes[9].as_ref().expect("receipts")[0].deduplicated);
    assert_eq!(seqs_of(&outcomes[9]), [1]);
    assert_eq!(seqs_of(&outcomes[10]), [2]);
    assert_eq!(contents(&server, &b).await, ["b1", "b2"]);
    let seqs = seqs(&messages_of(&server, &a).await);
    assert_eq!(seqs, [1, 3, 4, 5, 6]);
}

/// What the checks in front of the append path keep out: the database refuses it, and only it.
#[tokio::test]
async fn data_that_the_database_refuses_harms_no_neighbour() {
    let cited = |indexes: &[i32]| NewMessage {
        citations: indexes
            .iter()
            .map(|&index| Citation {
                document_id: "d".to_owned(),
                chunk_id: String::new(),
                score: 0.5,
                index,
            })
            .collect(),
        ..message(Uuid::now_v7(), "bad")
    };
    let twice = message(Uuid::now_v7(), "twice");
    for bad in [
        vec![message(Uuid::now_v7(), "\0")],
        vec![cited(&[0])],
        vec![cited(&[1, 1])],
        vec![twice.clone(), twice],
        vec![NewMessage {
            created_at: Some(jiff::Timestamp::MIN),
            ..message(Uuid::now_v7(), "long ago")
        }],
    ] {
        for expected_last_seq in [None, Some(1)] {
            let database = TestDatabase::new().await;
            let server = start(&database).await;
            let (a, b) = (new_session(&server).await, new_session(&server).await);
            let bad = Unit {
                messages: bad.clone(),
                expected_last_seq,
                ..unit(&a, &[])
            };
            let units = [unit(&a, &["a1"]), bad, unit(&b, &["b1"]), unit(&a, &["a2"])];
            let outcomes = run(&server, &units).await;
            assert!(outcomes[1].is_err(), "{:?}", units[1]);
            assert_eq!(seqs_of(&outcomes[0]), [1]);
            assert_eq!(seqs_of(&outcomes[2]), [1]);
            assert_eq!(seqs_of(&outcomes[3]), [2]);
            assert_eq!(contents(&server, &a).await, ["a1", "a2"]);
            assert_eq!(contents(&server, &b).await, ["b1"]);
        }
    }
}

#[tokio::test]
async fn an_id_twice_in_one_call_is_stored_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (a, b) = (new_session(&server).await, new_session(&server).await);
    let first = unit(&a, &["once"]);
    let other = Unit {
        messages: vec![NewMessage {
            content: "other".to_owned(),
            ..first.messages[0].clone()
        }],
        ..first.clone()
    };
    let elsewhere = Unit {
        messages: first.messages.clone(),
        ..unit(&b, &[])
    };
    let units = [
        first.clone(),
        unit(&a, &["between"]),
        first.clone(),
        other,
        elsewhere.clone(),
        elsewhere,
    ];
    let outcomes = run(&server, &units).await;
    assert_eq!(seqs_of(&outcomes[0]), [1]);
    assert_eq!(seqs_of(&outcomes[1]), [2]);
    let repeated = &outcomes[2].as_ref().expect("receipts")[0];
    let original = &outcomes[0].as_ref().expect("receipts")[0];
    assert!(!original.deduplicated && repeated.deduplicated);
    assert_eq!(
        (repeated.seq, repeated.created_at),
        (original.seq, original.created_at)
    );
    assert!(matches!(outcomes[3], Err(Error::MessageIdReused(_))));
    // In another session the id is another message.
    assert!(!outcomes[4].as_ref().expect("receipts")[0].deduplicated);
    assert!(outcomes[5].as_ref().expect("receipts")[0].deduplicated);
    assert_eq!(contents(&server, &a).await, ["once", "between"]);
    assert_eq!(contents(&server, &b).await, ["once"]);
}

#[tokio::test]
async fn units_of_different_callers_for_one_session_are_decided_each_by_its_caller() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (owner, stranger) = (new_user(&server).await.id, new_user(&server).await.id);
    let session = new_session_of(&server, Some(&owner)).await.id;
    let anonymous = new_session(&server).await;
    let user = |id: &str| Caller {
        end_user: Some(id.parse().expect("a UUID")),
        ..service()
    };
    let other_tenant = Caller {
        tenant: Arc::from("other"),
        ..service()
    };
    let by = |caller: &Caller, unit: Unit| Unit {
        caller: caller.clone(),
        ..unit
    };
    let units = [
        by(&user(&stranger), unit(&session, &["a stranger's"])),
        by(&user(&owner), unit(&session, &["the owner's"])),
        by(&other_tenant, unit(&session, &["another tenant's"])),
        by(&service(), unit(&session, &["the service's"])),
        by(&user(&owner), unit(&anonymous, &["not the owner's"])),
        by(&service(), unit(&anonymous, &["anonymous"])),
    ];
    let outcomes = run(&server, &units).await;
    for refused in [0, 2, 4] {
        assert!(matches!(
            outcomes[refused],
            Err(Error::NotFound(Resource::Session))
        ));
    }
    assert_eq!(
        contents(&server, &session).await,
        ["the owner's", "the service's"]
    );
    assert_eq!(contents(&server, &anonymous).await, ["anonymous"]);
    // Each alone, on the fast path, likewise; a stranger's retry of a stored message learns nothing.
    for caller in [user(&stranger), other_tenant] {
        for messages in [units[1].messages.clone(), vec![message(Uuid::now_v7(), "new")]] {
            let alone = Unit {
                messages,
                ..by(&caller, unit(&session, &[]))
            };
            let outcomes = run(&server, &[alone]).await;
            assert!(matches!(outcomes[0], Err(Error::NotFound(Resource::Session))));
        }
    }
    assert_eq!(contents(&server, &session).await.len(), 2);
}

#[tokio::test]
async fn tenants_use_the_same_ids_without_knowing_of_each_other() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ours = new_session(&server).await;
    let theirs = Uuid::now_v7();
    let client = database.client().await;
    client
        .execute(
            "INSERT INTO chat_sessions (id, tenant_id) VALUES ($1, 'other')",
            &[&theirs],
        )
        .await
        .expect("a session");
    let our_unit = unit(&ours, &["ours"]);
    let mut cited = our_unit.messages[0].clone();
    cited.citations.push(Citation {
        document_id: "d".to_owned(),
        chunk_id: String::new(),
        score: 0.5,
        index: 1,
    });
    let their_unit = Unit {
        caller: Caller {
            tenant: Arc::from("other"),
            ..service()
        },
        session_id: theirs,
        messages: vec![cited],
        expected_last_seq: None,
    };
    let outcomes = run(&server, &[our_unit.clone(), their_unit.clone()]).await;
    let again = run(&server, &[their_unit, our_unit]).await;
    for (outcome, expected) in outcomes.iter().chain(&again).zip([false, false, true, true]) {
        let receipts = outcome.as_ref().expect("receipts");
        assert_eq!((receipts[0].seq, receipts[0].deduplicated), (1, expected));
    }
    let message_id = outcomes[1].as_ref().expect("receipts")[0].message_id;
    assert_refused(
        get_message(&server, &theirs.to_string(), &message_id.to_string()).await,
        tonic::Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    let request = pb::ListCitationsRequest {
        source: Some(pb::list_citations_request::Source::DocumentId("d".to_owned())),
        ..Default::default()
    };
    let listed = server.citations().list_citations(request).await;
    assert_eq!(listed.expect("citations").into_inner().citations, []);
    let tenant: String = client
        .query_one("SELECT tenant_id FROM message_citations", &[])
        .await
        .expect("a citation")
        .get(0);
    assert_eq!(tenant, "other");
}

#[tokio::test]
async fn a_seq_given_by_hand_that_is_too_high_breaks_no_later_append() {
    for expected_last_seq in [None, Some(3)] {
        let database = TestDatabase::new().await;
        let server = start(&database).await;
        let (a, b) = (new_session(&server).await, new_session(&server).await);
        run(&server, &[unit(&a, &["1", "2"])]).await;
        let client = database.client().await;
        let insert = format!(
            "INSERT INTO messages (session_id, seq, role, content) VALUES ('{a}', 5, 'user', 'by hand')"
        );
        client.execute(&insert, &[]).await.expect("an insert");
        // One that fits below it, and then a batch that reaches it, beside another session's.
        let outcomes = run(&server, &[unit(&a, &["3"])]).await;
        assert_eq!(seqs_of(&outcomes[0]), [3]);
        let reaching = Unit {
            expected_last_seq,
            ..unit(&a, &["x", "y", "z"])
        };
        let outcomes = run(&server, &[unit(&b, &["b1"]), reaching, unit(&a, &["last"])]).await;
        assert_eq!(seqs_of(&outcomes[0]), [1]);
        let last = if expected_last_seq.is_none() {
            assert_eq!(seqs_of(&outcomes[1]), [6, 7, 8]);
            9
        } else {
            assert!(matches!(
                outcomes[1],
                Err(Error::SequenceConflict { last_seq: 5 })
            ));
            6
        };
        assert_eq!(seqs_of(&outcomes[2]), [last]);
        assert_eq!(get_session(&server, &a).await.last_seq, last);
        // By hand without a seq, beyond another that was given.
        let insert = format!(
            "INSERT INTO messages (session_id, seq, role, content) VALUES ('{a}', 100, 'user', 'by hand')"
        );
        client.execute(&insert, &[]).await.expect("an insert");
        let insert = format!(
            "INSERT INTO messages (session_id, role, content) VALUES ('{a}', 'user', 'by hand') RETURNING seq"
        );
        let seq: i64 = client.query_one(&insert, &[]).await.expect("an insert").get(0);
        assert_eq!(seq, 101);
        assert_eq!(seqs_of(&run(&server, &[unit(&a, &["end"])]).await[0]), [102]);
    }
}

#[tokio::test]
async fn a_unit_that_is_passed_over_has_no_receipt_of_another_session_s_message_with_its_id() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (held, free) = (new_session(&server).await, new_session(&server).await);
    append(&server, &free, text("before")).await.expect("a receipt");
    let twin = unit(&held, &["twin"]);
    let units = [
        twin.clone(),
        Unit {
            session_id: free.parse().expect("a UUID"),
            ..twin
        },
    ];
    let lock = SessionLock::on_session(&database, &held).await;
    let (outcomes, ()) = tokio::join!(run(&server, &units), async {
        waiting(&database, 1).await;
        lock.release().await;
    });
    assert_eq!(seqs_of(&outcomes[0]), [1]);
    assert_eq!(seqs_of(&outcomes[1]), [2]);
    assert_eq!(contents(&server, &held).await, ["twin"]);
    assert_eq!(contents(&server, &free).await, ["before", "twin"]);
}
