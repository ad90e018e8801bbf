//! One message id in two sessions: message ids are unique within their session only.

use tonic::Code;

use crate::harness::*;

/// Two sessions with a message of the same id each, appended to the first one first.
struct Twins {
    server: TestServer,
    first: String,
    second: String,
    id: String,
    receipts: [pb::Receipt; 2],
}

fn message(id: &str, of: &str) -> pb::NewMessage {
    pb::NewMessage {
        citations: vec![citation("shared", of, 0.5)],
        ..text_with_id(id, of)
    }
}

async fn twins(database: &TestDatabase) -> Twins {
    let server = start(database).await;
    let (first, second) = (new_session(&server).await, new_session(&server).await);
    append(&server, &second, text("before")).await.expect("a receipt");
    let id = id();
    let receipts = [
        append(&server, &first, message(&id, "first"))
            .await
            .expect("a receipt"),
        append(&server, &second, message(&id, "second"))
            .await
            .expect("a receipt"),
    ];
    Twins {
        server,
        first,
        second,
        id,
        receipts,
    }
}

impl Twins {
    async fn get(&self, session: &str) -> pb::Message {
        get_message(&self.server, session, &self.id)
            .await
            .expect("a message")
    }

    /// Retries both appends, as a batch would and as a single append would.
    async fn assert_retried(&self) {
        for (session, of, receipt) in [
            (&self.first, "first", &self.receipts[0]),
            (&self.second, "second", &self.receipts[1]),
        ] {
            let again = pb::Receipt {
                deduplicated: true,
                ..receipt.clone()
            };
            let retried = append(&self.server, session, message(&self.id, of)).await;
            assert_eq!(retried.expect("a receipt"), again, "{of}");
            let batch = vec![message(&self.id, of)];
            let retried = append_batch(&self.server, session, batch, Some(99)).await;
            assert_eq!(retried.expect("receipts"), [again], "{of}");
        }
    }
}

#[tokio::test]
async fn both_are_kept_and_shown_with_the_id_that_was_given() {
    let database = TestDatabase::new().await;
    let twins = twins(&database).await;
    assert_eq!((twins.receipts[0].seq, twins.receipts[1].seq), (1, 2));
    for (session, of, seq) in [(&twins.first, "first", 1), (&twins.second, "second", 2)] {
        let message = twins.get(session).await;
        assert_eq!(
            (&message.id, message.content.as_str(), message.seq),
            (&twins.id, of, seq)
        );
        assert_eq!(message.citations[0].chunk_id, of);
        assert_eq!(messages_of(&twins.server, session).await.last(), Some(&message));
    }
    for receipt in &twins.receipts {
        assert_eq!(receipt.message_id, twins.id);
        assert!(!receipt.deduplicated);
    }
}

#[tokio::test]
async fn retries_of_both_answer_their_own_receipts() {
    let database = TestDatabase::new().await;
    let twins = twins(&database).await;
    twins.assert_retried().await;
    // The other's payload is another payload.
    for (session, of) in [(&twins.first, "second"), (&twins.second, "first")] {
        assert_refused(
            append(&twins.server, session, message(&twins.id, of)).await,
            Code::AlreadyExists,
            "MESSAGE_ID_REUSED",
        );
    }
    assert_eq!(messages_of(&twins.server, &twins.first).await.len(), 1);
    assert_eq!(messages_of(&twins.server, &twins.second).await.len(), 2);
}

#[tokio::test]
async fn both_are_updated_and_cited_apart() {
    let database = TestDatabase::new().await;
    let twins = twins(&database).await;
    for (session, of) in [(&twins.first, "first"), (&twins.second, "second")] {
        let request = pb::UpdateMessageRequest {
            session_id: session.clone(),
            message_id: twins.id.clone(),
            metadata_json: format!(r#"{{"of": "{of}"}}"#),
            ..Default::default()
        };
        let updated = twins.server.messages().update_message(request).await;
        let updated = updated
            .expect("a message")
            .into_inner()
            .message
            .expect("a message");
        assert_eq!((&updated.id, &updated.session_id), (&twins.id, session));
        let added = add_citations(&twins.server, session, &twins.id, vec![citation("d2", of, 0.1)])
            .await
            .expect("citations");
        assert_eq!((&added[0].message_id, &added[0].session_id), (&twins.id, session));
        assert_eq!(added[0].citation_index, 2);
    }
    for (session, of) in [(&twins.first, "first"), (&twins.second, "second")] {
        let message = twins.get(session).await;
        assert_eq!(message.metadata_json, format!(r#"{{"of": "{of}"}}"#));
        assert!(message.citations.iter().all(|citation| citation.chunk_id == of));
        assert_eq!(message.citations.len(), 2);
        let request = pb::ListCitationsRequest {
            source: Some(pb::list_citations_request::Source::Message(pb::MessageKey {
                session_id: session.clone(),
                message_id: twins.id.clone(),
            })),
            ..Default::default()
        };
        let listed = twins.server.citations().list_citations(request).await;
        let listed = listed.expect("citations").into_inner().citations;
        assert_eq!(listed.len(), 2);
        assert!(
            listed
                .iter()
                .all(|c| c.message_id == twins.id && c.chunk_id == of)
        );
    }
    // Of the document, both, each with its session.
    let request = pb::ListCitationsRequest {
        source: Some(pb::list_citations_request::Source::DocumentId(
            "shared".to_owned(),
        )),
        ..Default::default()
    };
    let listed = twins.server.citations().list_citations(request).await;
    let listed = listed.expect("citations").into_inner().citations;
    let mut sessions: Vec<_> = listed
        .iter()
        .map(|c| (c.session_id.as_str(), c.chunk_id.as_str()))
        .collect();
    sessions.sort_by_key(|&(_, of)| of);
    assert_eq!(
        sessions,
        [(twins.first.as_str(), "first"), (twins.second.as_str(), "second")]
    );
    let request = pb::DeleteCitationRequest {
        session_id: twins.second.clone(),
        message_id: twins.id.clone(),
        citation_index: 1,
    };
    twins
        .server
        .citations()
        .delete_citation(request)
        .await
        .expect("a deletion");
    assert_eq!(twins.get(&twins.first).await.citations.len(), 2);
    assert_eq!(twins.get(&twins.second).await.citations.len(), 1);
}

#[tokio::test]
async fn both_are_deleted_apart_and_neither_comes_back() {
    for first_goes_first in [true, false] {
        let database = TestDatabase::new().await;
        let twins = twins(&database).await;
        let mut order = [(&twins.first, "first"), (&twins.second, "second")];
        if !first_goes_first {
            order.reverse();
        }
        delete_message(&twins.server, order[0].0, &twins.id)
            .await
            .expect("a deletion");
        assert_eq!(twins.get(order[1].0).await.content, order[1].1);
        assert_eq!(twins.get(order[1].0).await.citations.len(), 1);
        for _ in 0..2 {
            assert_refused(
                append(&twins.server, order[0].0, message(&twins.id, order[0].1)).await,
                Code::FailedPrecondition,
                "MESSAGE_DELETED",
            );
        }
        let retry = append(&twins.server, order[1].0, message(&twins.id, order[1].1)).await;
        assert!(retry.expect("a receipt").deduplicated);
        // A third session may still use the id.
        let third = new_session(&twins.server).await;
        let receipt = append(&twins.server, &third, message(&twins.id, "third")).await;
        assert!(!receipt.expect("a receipt").deduplicated);
        clear_messages(&twins.server, order[1].0).await.expect("a count");
        assert_refused(
            append(&twins.server, order[1].0, message(&twins.id, order[1].1)).await,
            Code::FailedPrecondition,
            "MESSAGE_DELETED",
        );
    }
}

#[tokio::test]
async fn a_retry_stays_one_after_the_session_that_had_the_id_first_is_deleted() {
    let database = TestDatabase::new().await;
    let mut twins = twins(&database).await;
    let request = pb::DeleteSessionRequest {
        session_id: twins.first.clone(),
    };
    twins
        .server
        .sessions()
        .delete_session(request)
        .await
        .expect("a deletion");
    let again = pb::Receipt {
        deduplicated: true,
        ..twins.receipts[1].clone()
    };
    let other_id = id();
    for batch in [
        vec![message(&twins.id, "second")],
        vec![text_with_id(&other_id, "new")],
    ] {
        let retried = append_batch(&twins.server, &twins.second, batch, None)
            .await
            .expect("receipts");
        assert!(retried[0] == again || retried[0].message_id == other_id);
    }
    // Also by hand.
    let client = database.client().await;
    let insert = format!(
        "INSERT INTO messages (id, session_id, role, content) VALUES ('{}', '{}', 'user', 'second')
         ON CONFLICT (id) DO NOTHING",
        twins.id, twins.second
    );
    assert_eq!(client.execute(&insert, &[]).await.expect("an insert"), 0);
    let messages = messages_of(&twins.server, &twins.second).await;
    let contents: Vec<_> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["before", "second", "new"]);
    assert_gapless(&messages);

    // A session that comes now gets the id as its own, and both are still told apart.
    twins.first = new_session(&twins.server).await;
    twins.receipts[0] = append(&twins.server, &twins.first, message(&twins.id, "first"))
        .await
        .expect("a receipt");
    assert!(!twins.receipts[0].deduplicated);
    twins.assert_retried().await;
}

#[tokio::test]
async fn one_batch_may_hold_new_ids_and_ids_of_other_sessions() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (first, second) = (new_session(&server).await, new_session(&server).await);
    let ids: Vec<String> = (0..6).map(|_| id()).collect();
    let batch =
        |n: std::ops::Range<usize>, of: &str| -> Vec<_> { ids[n].iter().map(|id| message(id, of)).collect() };
    append_batch(&server, &first, batch(0..4, "first"), None)
        .await
        .expect("receipts");
    let receipts = append_batch(&server, &second, batch(2..6, "second"), None)
        .await
        .expect("receipts");
    let again = append_batch(&server, &second, batch(2..6, "second"), None)
        .await
        .expect("receipts");
    assert!(again.iter().all(|receipt| receipt.deduplicated));
    for (receipt, again) in receipts.iter().zip(&again) {
        assert_eq!((&receipt.message_id, receipt.seq), (&again.message_id, again.seq));
    }
    for (session, range, of) in [(&first, 0..4, "first"), (&second, 2..6, "second")] {
        let messages = messages_of(&server, session).await;
        assert_gapless(&messages);
        let kept: Vec<_> = messages.iter().map(|message| &message.id).collect();
        assert_eq!(kept, ids[range].iter().collect::<Vec<_>>());
        assert!(messages.iter().all(|m| m.citations[0].chunk_id == of));
    }
}
