//! CitationService.

use std::sync::Arc;

use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::harness::*;

use pb::list_citations_request::Source;

async fn server_and_message(database: &TestDatabase) -> (TestServer, String, String) {
    let server = start(database).await;
    let session = new_session(&server).await;
    let receipt = append(&server, &session, text("x")).await.expect("a receipt");
    (server, session, receipt.message_id)
}

fn at(citation_index: i32, document: &str) -> pb::Citation {
    pb::Citation {
        citation_index,
        ..citation(document, "chunk", 0.5)
    }
}

fn of_message(session: &str, message: &str) -> Source {
    Source::Message(pb::MessageKey {
        session_id: session.to_owned(),
        message_id: message.to_owned(),
    })
}

async fn page(
    server: &TestServer,
    source: Source,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListCitationsResponse, Status> {
    let request = pb::ListCitationsRequest {
        page_size,
        page_token: page_token.to_owned(),
        source: Some(source),
    };
    let response = server.citations().list_citations(request).await?;
    Ok(response.into_inner())
}

/// All citations of a source, by pages of that size.
async fn all(server: &TestServer, source: Source, page_size: i32) -> Vec<pb::Citation> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(server, source.clone(), page_size, &token)
            .await
            .expect("a page");
        assert!(page.citations.len() <= usize::try_from(page_size).expect("a size"));
        all.extend(page.citations);
        if page.next_page_token.is_empty() {
            return all;
        }
        token = page.next_page_token;
    }
}

async fn delete(server: &TestServer, session: &str, message: &str, index: i32) -> Result<(), Status> {
    let request = pb::DeleteCitationRequest {
        session_id: session.to_owned(),
        message_id: message.to_owned(),
        citation_index: index,
    };
    server.citations().delete_citation(request).await.map(drop)
}

fn indexes(citations: &[pb::Citation]) -> Vec<i32> {
    citations.iter().map(|citation| citation.citation_index).collect()
}

#[tokio::test]
async fn added_citations_are_answered_as_stored_in_the_order_given() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    let added = add_citations(
        &server,
        &session,
        &message,
        vec![at(0, "a"), at(1, "b"), at(7, "c"), at(0, "d")],
    )
    .await
    .expect("citations");
    assert_eq!(indexes(&added), [2, 1, 7, 3]);
    for (citation, document) in added.iter().zip(["a", "b", "c", "d"]) {
        assert_eq!(citation.document_id, document);
        assert_eq!((citation.chunk_id.as_str(), citation.score), ("chunk", 0.5));
        assert_eq!((&citation.session_id, &citation.message_id), (&session, &message));
        assert!(citation.create_time.is_some());
    }
    // Behind the highest, not in the gaps.
    let added = add_citations(&server, &session, &message, vec![at(0, "e")])
        .await
        .expect("citations");
    assert_eq!(indexes(&added), [8]);
    let listed = all(&server, of_message(&session, &message), 100).await;
    assert_eq!(indexes(&listed), [1, 2, 3, 7, 8]);
    let read = get_message(&server, &session, &message).await.expect("a message");
    assert_eq!(indexes(&read.citations), [1, 2, 3, 7, 8]);
}

#[tokio::test]
async fn a_retry_with_explicit_indexes_changes_nothing() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    let given = vec![at(2, "b"), at(1, "a")];
    let first = add_citations(&server, &session, &message, given.clone())
        .await
        .expect("citations");
    let second = start(&database).await;
    for server in [&server, &second] {
        let again = add_citations(server, &session, &message, given.clone())
            .await
            .expect("citations");
        assert_eq!(again, first);
    }
    // Old ones and a new one.
    let mixed = add_citations(&server, &session, &message, vec![at(3, "c"), at(1, "a")])
        .await
        .expect("citations");
    assert_eq!(indexes(&mixed), [3, 1]);
    assert_eq!(mixed[1], first[1]);
    assert_eq!(all(&server, of_message(&session, &message), 10).await.len(), 3);
}

#[tokio::test]
async fn an_index_with_other_content_is_taken_and_nothing_is_added() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    add_citations(&server, &session, &message, vec![at(1, "a"), at(2, "b")])
        .await
        .expect("citations");
    for other in [
        at(2, "other"),
        pb::Citation {
            chunk_id: "other".to_owned(),
            ..at(2, "b")
        },
        pb::Citation {
            score: 0.25,
            ..at(2, "b")
        },
    ] {
        let given = vec![at(3, "new"), at(1, "a"), other];
        let refusal = refusal(add_citations(&server, &session, &message, given).await);
        assert_eq!(refusal.code, Code::AlreadyExists);
        assert_eq!(refusal.reason, "CITATION_INDEX_TAKEN");
        assert_eq!(refusal.metadata["citation_index"], "2");
    }
    assert_eq!(all(&server, of_message(&session, &message), 10).await.len(), 2);
}

#[tokio::test]
async fn there_is_no_index_behind_the_highest_possible_one() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    add_citations(&server, &session, &message, vec![at(i32::MAX, "last")])
        .await
        .expect("citations");
    for given in [
        vec![at(0, "a")],
        vec![at(0, "last"), at(0, "a")],
        vec![at(i32::MAX, "last"), at(0, "last")],
    ] {
        assert_refused(
            add_citations(&server, &session, &message, given).await,
            Code::AlreadyExists,
            "CITATION_INDEX_TAKEN",
        );
    }
    let added = add_citations(&server, &session, &message, vec![at(1, "a")]).await;
    assert_eq!(indexes(&added.expect("citations")), [1]);
}

#[tokio::test]
async fn a_message_never_has_more_than_100_citations() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    let many = |count| vec![citation("d", "c", 0.5); count];
    assert_invalid(
        add_citations(&server, &session, &message, many(101)).await,
        &["citations"],
    );
    add_citations(&server, &session, &message, many(60))
        .await
        .expect("citations");
    assert_invalid(
        add_citations(&server, &session, &message, many(41)).await,
        &["citations"],
    );
    add_citations(&server, &session, &message, many(40))
        .await
        .expect("citations");
    assert_invalid(
        add_citations(&server, &session, &message, many(1)).await,
        &["citations"],
    );
    // A retry of what is there adds nothing, so it is still answered.
    let retry: Vec<_> = (1..=100)
        .map(|index| pb::Citation {
            citation_index: index,
            ..citation("d", "c", 0.5)
        })
        .collect();
    let again = add_citations(&server, &session, &message, retry).await;
    assert_eq!(again.expect("citations").len(), 100);
    delete(&server, &session, &message, 50).await.expect("a deletion");
    let added = add_citations(&server, &session, &message, many(1)).await;
    assert_eq!(indexes(&added.expect("citations")), [101]);
}

#[tokio::test]
async fn what_is_wrong_with_citations_is_told_at_once() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    let long = "x".repeat(513);
    let bad = vec![
        citation("", "", f64::NAN),
        citation(&long, &long, 0.5),
        at(3, "d"),
        at(3, "d"),
        at(-1, "d\0"),
    ];
    let mut fields = refusal(add_citations(&server, "x", "y", bad).await).fields;
    fields.sort();
    assert_eq!(
        fields,
        [
            "citations[0].document_id",
            "citations[0].score",
            "citations[1].chunk_id",
            "citations[1].document_id",
            "citations[3].citation_index",
            "citations[4].citation_index",
            "citations[4].document_id",
            "message_id",
            "session_id",
        ]
    );
    assert_invalid(
        add_citations(&server, &session, &message, vec![]).await,
        &["citations"],
    );
    assert_invalid(
        delete(&server, "x", "", 0).await,
        &["session_id", "message_id", "citation_index"],
    );
    let request = pb::ListCitationsRequest {
        page_size: -1,
        page_token: "?".to_owned(),
        source: None,
    };
    let mut fields = refusal(server.citations().list_citations(request).await).fields;
    fields.sort();
    assert_eq!(fields, ["page_size", "page_token", "source"]);
    assert_invalid(
        page(&server, of_message("", "y"), 0, "").await,
        &["message.session_id", "message.message_id"],
    );
    assert_invalid(
        page(&server, Source::DocumentId(long), 0, "").await,
        &["document_id"],
    );
    let edge = "x".repeat(512);
    let added = add_citations(&server, &session, &message, vec![citation(&edge, &edge, 1e100)])
        .await
        .expect("citations");
    assert_eq!((added[0].document_id.len(), added[0].score), (512, 1e100));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    let other_session = new_session(&server).await;
    let deleted = append(&server, &session, text("x")).await.expect("a receipt");
    delete_message(&server, &session, &deleted.message_id)
        .await
        .expect("a deletion");
    let nowhere = id();
    for (session, message, reason) in [
        (&nowhere, &message, "SESSION_NOT_FOUND"),
        (&session, &nowhere, "MESSAGE_NOT_FOUND"),
        (&other_session, &message, "MESSAGE_NOT_FOUND"),
        (&session, &deleted.message_id, "MESSAGE_NOT_FOUND"),
    ] {
        let code = Code::NotFound;
        assert_refused(
            add_citations(&server, session, message, vec![at(0, "d")]).await,
            code,
            reason,
        );
        assert_refused(delete(&server, session, message, 1).await, code, reason);
        assert_refused(
            page(&server, of_message(session, message), 0, "").await,
            code,
            reason,
        );
    }
    assert_refused(
        delete(&server, &session, &message, 1).await,
        Code::NotFound,
        "CITATION_NOT_FOUND",
    );
    assert_eq!(all(&server, of_message(&session, &message), 10).await, []);
    assert_eq!(
        all(&server, Source::DocumentId("unknown".to_owned()), 10).await,
        []
    );
}

#[tokio::test]
async fn a_deleted_citation_is_gone_and_the_others_keep_their_indexes() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    add_citations(
        &server,
        &session,
        &message,
        vec![at(0, "a"), at(0, "b"), at(0, "c")],
    )
    .await
    .expect("citations");
    delete(&server, &session, &message, 2).await.expect("a deletion");
    assert_refused(
        delete(&server, &session, &message, 2).await,
        Code::NotFound,
        "CITATION_NOT_FOUND",
    );
    let left = all(&server, of_message(&session, &message), 10).await;
    assert_eq!(indexes(&left), [1, 3]);
    assert_eq!(all(&server, Source::DocumentId("b".to_owned()), 10).await, []);
    // Its index may be given to another.
    let added = add_citations(&server, &session, &message, vec![at(2, "other")]).await;
    assert_eq!(added.expect("citations")[0].document_id, "other");
}

#[tokio::test]
async fn a_documents_citations_come_from_all_sessions_by_pages() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        let session = new_session(&server).await;
        for n in 0..4 {
            let message = pb::NewMessage {
                citations: vec![at(0, "wanted"), at(0, "other"), at(0, "wanted")],
                ..text(&format!("message {n}"))
            };
            let receipt = append(&server, &session, message).await.expect("a receipt");
            for index in [1, 3] {
                expected.push((receipt.message_id.clone(), index, session.clone()));
            }
        }
    }
    expected.sort();
    for page_size in [1, 5, 24, 100] {
        let listed = all(&server, Source::DocumentId("wanted".to_owned()), page_size).await;
        let found: Vec<_> = listed
            .iter()
            .map(|c| (c.message_id.clone(), c.citation_index, c.session_id.clone()))
            .collect();
        assert_eq!(found, expected, "pages of {page_size}");
        assert!(listed.iter().all(|c| c.document_id == "wanted"));
    }
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_ended_while_citations_come_and_go() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    add_citations(&server, &session, &message, vec![citation("d", "", 0.5); 10])
        .await
        .expect("citations");
    let source = of_message(&session, &message);
    let first = page(&server, source.clone(), 4, "").await.expect("a page");
    assert_eq!(indexes(&first.citations), [1, 2, 3, 4]);
    for index in [4, 6] {
        delete(&server, &session, &message, index)
            .await
            .expect("a deletion");
    }
    add_citations(&server, &session, &message, vec![at(0, "new")])
        .await
        .expect("citations");
    let token = first.next_page_token;
    let second = page(&server, source, 100, &token).await.expect("a page");
    assert_eq!(indexes(&second.citations), [5, 7, 8, 9, 10, 11]);
    assert_eq!(second.next_page_token, "");
    assert_invalid(
        page(&server, Source::DocumentId("d".to_owned()), 4, &token).await,
        &["page_token"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_meet_get_an_index_each() {
    let database = TestDatabase::new().await;
    let (server, session, message) = server_and_message(&database).await;
    let servers = Arc::new([server, start(&database).await]);
    let writers = (0..8).map(|writer| {
        let (servers, session, message) = (Arc::clone(&servers), session.clone(), message.clone());
        tokio::spawn(async move {
            for n in 0..5 {
                let given = vec![citation("d", &format!("{writer}:{n}"), 0.5)];
                add_citations(&servers[(writer + n) % 2], &session, &message, given)
                    .await
                    .expect("citations");
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
    let listed = all(&servers[0], of_message(&session, &message), 100).await;
    assert_eq!(indexes(&listed), (1..=40).collect::<Vec<i32>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_citation_that_meets_the_deletion_of_its_message_does_not_outlive_it() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let session = new_session(&servers[0]).await;
    for round in 0..40 {
        let receipt = append(&servers[0], &session, text("x")).await.expect("a receipt");
        let message = &receipt.message_id;
        let erase = async {
            if round % 2 == 0 {
                delete_message(&servers[0], &session, message).await
            } else {
                clear_messages(&servers[0], &session).await.map(drop)
            }
        };
        let (erased, added) = tokio::join!(
            erase,
            add_citations(&servers[1], &session, message, vec![at(0, "d")]),
        );
        erased.expect("a deletion");
        if let Err(status) = added {
            assert_eq!(refusal_of(&status).reason, "MESSAGE_NOT_FOUND");
        }
    }
    assert_eq!(
        all(&servers[0], Source::DocumentId("d".to_owned()), 100).await,
        []
    );
    let left: i64 = database
        .client()
        .await
        .query_one("SELECT count(*) FROM message_citations", &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(left, 0);
}
