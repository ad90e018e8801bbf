//! Appends: what is stored, and what a retry is.

use prost_types::Timestamp;
use tonic::Code;

use crate::harness::*;

/// A message with everything that one can have.
fn full(message_id: &str) -> pb::NewMessage {
    pb::NewMessage {
        message_id: Some(message_id.to_owned()),
        role: pb::Role::Assistant.into(),
        content: "Middleware [1] [2].".to_owned(),
        selected_text: Some("ROS 2 uses DDS".to_owned()),
        metadata_json: r#"{"tokens": 4096, "big": 9007199254740993}"#.to_owned(),
        payload: Some(vec![0, 159, 146, 150].into()),
        citations: vec![
            citation("module-1", "chunk-3", 0.9),
            citation("module-2", "", -1.5),
        ],
        create_time: None,
    }
}

#[tokio::test]
async fn everything_of_a_message_is_returned_as_given() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let message_id = id();
    let receipt = append(&server, &session, full(&message_id))
        .await
        .expect("a receipt");
    assert_eq!(receipt.message_id, message_id);
    assert_eq!(receipt.session_id, session);
    assert_eq!(receipt.seq, 1);
    assert!(!receipt.deduplicated);

    let message = get_message(&server, &session, &message_id)
        .await
        .expect("a message");
    assert_eq!(message.id, message_id);
    assert_eq!(message.session_id, session);
    assert_eq!(message.seq, 1);
    assert_eq!(message.role(), pb::Role::Assistant);
    assert_eq!(message.content, "Middleware [1] [2].");
    assert_eq!(message.selected_text.as_deref(), Some("ROS 2 uses DDS"));
    assert_eq!(
        message.metadata_json,
        r#"{"big": 9007199254740993, "tokens": 4096}"#
    );
    assert_eq!(message.payload.as_deref(), Some(&[0, 159, 146, 150][..]));
    assert_eq!(message.create_time, receipt.create_time);
    let cited: Vec<_> = message
        .citations
        .iter()
        .map(|c| {
            (
                c.document_id.as_str(),
                c.chunk_id.as_str(),
                c.score,
                c.citation_index,
            )
        })
        .collect();
    assert_eq!(
        cited,
        [("module-1", "chunk-3", 0.9, 1), ("module-2", "", -1.5, 2)]
    );
    assert_eq!(messages_of(&server, &session).await, [message]);
}

#[tokio::test]
async fn what_is_left_out_stays_out_and_every_role_is_kept() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let roles = [
        pb::Role::User,
        pb::Role::Assistant,
        pb::Role::System,
        pb::Role::Tool,
    ];
    for role in roles {
        let message = pb::NewMessage {
            role: role.into(),
            ..Default::default()
        };
        append(&server, &session, message).await.expect("a receipt");
    }
    // Present and empty is not the same as left out.
    let message = pb::NewMessage {
        selected_text: Some(String::new()),
        payload: Some(Vec::new().into()),
        ..text("")
    };
    append(&server, &session, message).await.expect("a receipt");

    let messages = messages_of(&server, &session).await;
    assert_gapless(&messages);
    let kept: Vec<_> = messages.iter().map(pb::Message::role).collect();
    assert_eq!(kept[..4], roles);
    for message in &messages[..4] {
        assert_eq!(
            (message.content.as_str(), message.metadata_json.as_str()),
            ("", "{}")
        );
        assert_eq!((&message.selected_text, &message.payload), (&None, &None));
        assert!(message.citations.is_empty());
    }
    assert_eq!(messages[4].selected_text.as_deref(), Some(""));
    assert_eq!(messages[4].payload.as_deref(), Some(&[][..]));
}

#[tokio::test]
async fn an_append_moves_the_session() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let before = new_session_of(&server, None).await;
    assert_eq!((before.last_seq, before.last_message_time), (0, None));
    let receipts = append_batch(&server, &before.id, vec![text("a"), text("b"), text("c")], None)
        .await
        .expect("receipts");
    let after = get_session(&server, &before.id).await;
    assert_eq!(after.last_seq, 3);
    assert_eq!(after.last_message_time, receipts[2].create_time);
    assert!(micros(after.update_time.as_ref()) > micros(before.update_time.as_ref()));
}

#[tokio::test]
async fn given_indexes_of_citations_are_kept_and_the_others_filled_in_around_them() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let at = |document: &str, citation_index| pb::Citation {
        citation_index,
        ..citation(document, "", 0.5)
    };
    let message = pb::NewMessage {
        citations: vec![at("c", 0), at("a", 1), at("d", 0), at("z", i32::MAX)],
        ..text("x")
    };
    append(&server, &session, message).await.expect("a receipt");
    let messages = messages_of(&server, &session).await;
    let cited: Vec<_> = messages[0]
        .citations
        .iter()
        .map(|c| (c.citation_index, c.document_id.as_str()))
        .collect();
    assert_eq!(cited, [(1, "a"), (2, "c"), (3, "d"), (i32::MAX, "z")]);
}

#[tokio::test]
async fn a_session_that_is_not_there_takes_no_messages() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let nowhere = id();
    assert_refused(
        append(&server, &nowhere, text("x")).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    for expected in [None, Some(0)] {
        assert_refused(
            append_batch(&server, &nowhere, vec![text("x")], expected).await,
            Code::NotFound,
            "SESSION_NOT_FOUND",
        );
    }
}

#[tokio::test]
async fn a_retry_answers_the_first_receipt_also_after_a_restart_and_on_another_server() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let message_id = id();
    let first = append(&server, &session, full(&message_id))
        .await
        .expect("a receipt");
    append(&server, &session, text("later")).await.expect("a receipt");
    let again = pb::Receipt {
        deduplicated: true,
        ..first
    };
    let retry = async |server: &TestServer, message| {
        let receipt = append(server, &session, message).await.expect("a receipt");
        assert_eq!(receipt, again);
    };
    retry(&server, full(&message_id)).await;
    // An id is read in any case.
    retry(&server, full(&message_id.to_uppercase())).await;
    // Metadata and citations may have changed since.
    let changed = pb::NewMessage {
        metadata_json: r#"{"other": true}"#.to_owned(),
        citations: vec![citation("another", "", 0.1)],
        ..full(&message_id)
    };
    retry(&server, changed).await;
    let second = start(&database).await;
    retry(&second, full(&message_id)).await;
    server.stop().await;
    let third = start(&database).await;
    retry(&third, full(&message_id)).await;

    let messages = messages_of(&third, &session).await;
    assert_gapless(&messages);
    assert_eq!(messages.len(), 2);
    // A retry changes nothing.
    assert_eq!(messages[0].citations.len(), 2);
    assert!(!messages[0].metadata_json.contains("other"));
    assert_eq!(get_session(&third, &session).await.last_seq, 2);
}

#[tokio::test]
async fn an_id_with_another_payload_is_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let message_id = id();
    append(&server, &session, full(&message_id))
        .await
        .expect("a receipt");
    let others = [
        pb::NewMessage {
            role: pb::Role::Tool.into(),
            ..full(&message_id)
        },
        pb::NewMessage {
            content: "other".to_owned(),
            ..full(&message_id)
        },
        pb::NewMessage {
            selected_text: None,
            ..full(&message_id)
        },
        pb::NewMessage {
            payload: None,
            ..full(&message_id)
        },
        pb::NewMessage {
            payload: Some(Vec::new().into()),
            ..full(&message_id)
        },
    ];
    for other in others {
        for expected in [None, Some(1)] {
            assert_refused(
                append_batch(&server, &session, vec![other.clone()], expected).await,
                Code::AlreadyExists,
                "MESSAGE_ID_REUSED",
            );
        }
        assert_refused(
            append(&server, &session, other).await,
            Code::AlreadyExists,
            "MESSAGE_ID_REUSED",
        );
    }
    assert_eq!(messages_of(&server, &session).await.len(), 1);
    assert_eq!(get_session(&server, &session).await.last_seq, 1);
}

#[tokio::test]
async fn a_deleted_id_is_never_stored_again() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let (deleted, cleared) = (id(), id());
    append(&server, &session, text_with_id(&deleted, "secret"))
        .await
        .expect("a receipt");
    delete_message(&server, &session, &deleted)
        .await
        .expect("a deletion");
    append(&server, &session, text_with_id(&cleared, "secret"))
        .await
        .expect("a receipt");
    clear_messages(&server, &session).await.expect("a count");
    for message_id in [&deleted, &cleared] {
        // The same payload, another, and what the row looks like now.
        for content in ["secret", "other", ""] {
            assert_refused(
                append(&server, &session, text_with_id(message_id, content)).await,
                Code::FailedPrecondition,
                "MESSAGE_DELETED",
            );
        }
        let batch = vec![text("new"), text_with_id(message_id, "secret")];
        assert_refused(
            append_batch(&server, &session, batch, None).await,
            Code::FailedPrecondition,
            "MESSAGE_DELETED",
        );
    }
    assert_eq!(messages_of(&server, &session).await, []);
    assert_eq!(get_session(&server, &session).await.last_seq, 2);
}

#[tokio::test]
async fn a_batch_gets_consecutive_seqs_and_a_retry_of_it_its_first_receipts() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    append(&server, &session, text("before"))
        .await
        .expect("a receipt");
    let batch: Vec<_> = (0..5)
        .map(|n| text_with_id(&id(), &format!("message {n}")))
        .collect();
    let first = append_batch(&server, &session, batch.clone(), None)
        .await
        .expect("receipts");
    assert_eq!(
        first.iter().map(|receipt| receipt.seq).collect::<Vec<_>>(),
        [2, 3, 4, 5, 6]
    );
    assert!(first.iter().all(|receipt| !receipt.deduplicated));
    append(&server, &session, text("after")).await.expect("a receipt");

    let mut backwards = batch.clone();
    backwards.reverse();
    let second_server = start(&database).await;
    for (server, batch, order) in [
        (&server, batch, [0, 1, 2, 3, 4]),
        (&second_server, backwards, [4, 3, 2, 1, 0]),
    ] {
        // Duplicates are looked at before expected_last_seq.
        for expected in [None, Some(1), Some(7), Some(1000)] {
            let again = append_batch(server, &session, batch.clone(), expected)
                .await
                .expect("receipts");
            let expected: Vec<_> = order
                .iter()
                .map(|&n| pb::Receipt {
                    deduplicated: true,
                    ..first[n].clone()
                })
                .collect();
            assert_eq!(again, expected);
        }
    }
    let messages = messages_of(&server, &session).await;
    assert_gapless(&messages);
    let contents: Vec<_> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(
        contents,
        [
            "before",
            "message 0",
            "message 1",
            "message 2",
            "message 3",
            "message 4",
            "after"
        ]
    );
}

#[tokio::test]
async fn a_batch_of_which_some_ids_are_stored_stores_nothing() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let stored = text_with_id(&id(), "stored");
    append(&server, &session, stored.clone())
        .await
        .expect("a receipt");
    for batch in [
        vec![stored.clone(), text_with_id(&id(), "new")],
        vec![text_with_id(&id(), "new"), stored.clone()],
        vec![text("new"), stored.clone(), text("new")],
    ] {
        for expected in [None, Some(1), Some(5)] {
            assert_refused(
                append_batch(&server, &session, batch.clone(), expected).await,
                Code::AlreadyExists,
                "MESSAGE_ID_REUSED",
            );
        }
    }
    assert_eq!(messages_of(&server, &session).await.len(), 1);
    let next = append(&server, &session, text("next")).await.expect("a receipt");
    assert_eq!(next.seq, 2);
}

#[tokio::test]
async fn an_unexpected_last_seq_is_a_conflict_that_tells_the_last_seq() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    append_batch(&server, &session, vec![text("1"), text("2")], Some(0))
        .await
        .expect("receipts");
    for expected in [0, 1, 3, i64::MAX] {
        let refusal = refusal(append_batch(&server, &session, vec![text("3")], Some(expected)).await);
        assert_eq!(refusal.code, Code::Aborted);
        assert_eq!(refusal.reason, "SEQUENCE_CONFLICT");
        assert_eq!(refusal.metadata["last_seq"], "2");
    }
    // A deleted message still counts.
    clear_messages(&server, &session).await.expect("a count");
    let receipts = append_batch(&server, &session, vec![text("3")], Some(2))
        .await
        .expect("receipts");
    assert_eq!(receipts[0].seq, 3);
}

fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

#[tokio::test]
async fn imports_keep_their_times_and_the_order_given() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let times = [
        (1_700_000_000, 123_456_000),
        (1_600_000_000, 0),
        (-1, 999_999_000),
        (-62_135_596_800, 0),
    ];
    let batch = times
        .iter()
        .map(|&(seconds, nanos)| pb::NewMessage {
            create_time: at(seconds, nanos),
            citations: vec![citation("d", "", 0.5)],
            ..text("old")
        })
        .collect();
    let receipts = append_batch(&server, &session, batch, None)
        .await
        .expect("receipts");
    let messages = messages_of(&server, &session).await;
    assert_eq!(seqs(&messages), [1, 2, 3, 4]);
    for (n, &(seconds, nanos)) in times.iter().enumerate() {
        assert_eq!(receipts[n].create_time, at(seconds, nanos));
        assert_eq!(messages[n].create_time, at(seconds, nanos));
    }
    let last = get_session(&server, &session).await.last_message_time;
    assert_eq!(last, at(1_700_000_000, 123_456_000));
    // What is said now is later than all of them; a retry answers the import's own time.
    let import = pb::NewMessage {
        create_time: at(1_650_000_000, 999),
        ..text_with_id(&id(), "older")
    };
    let batch = vec![text("now"), import.clone(), text("and now")];
    let receipts = append_batch(&server, &session, batch, None)
        .await
        .expect("receipts");
    assert!(micros(receipts[0].create_time.as_ref()) > 1_700_000_000_000_000);
    assert_eq!(receipts[1].create_time, at(1_650_000_000, 0));
    assert!(micros(receipts[2].create_time.as_ref()) > micros(receipts[0].create_time.as_ref()));
    let retry = append(&server, &session, import).await.expect("a receipt");
    assert_eq!(retry.create_time, receipts[1].create_time);
    assert_eq!((retry.seq, retry.deduplicated), (6, true));
}

#[tokio::test]
async fn a_time_in_the_future_or_out_of_range_is_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let now = jiff::Timestamp::now().as_second();
    for (seconds, nanos) in [
        (now + 3600, 0),
        (now, -1),
        (now - 1, 1_000_000_000),
        // One second before the year 1, and times that PostgreSQL can't hold.
        (-62_135_596_801, 0),
        (-300_000_000_000, 0),
        (i64::MIN, 0),
        (i64::MAX, 0),
    ] {
        let message = pb::NewMessage {
            create_time: at(seconds, nanos),
            ..text("x")
        };
        assert_invalid(append(&server, &session, message).await, &["message.create_time"]);
    }
    assert_eq!(get_session(&server, &session).await.last_seq, 0);
}
