//! `DocumentService`: what is known of the sources.

use tonic::Code;

use crate::harness::*;

fn document(id: &str) -> pb::Document {
    pb::Document {
        id: id.to_owned(),
        ..Default::default()
    }
}

fn upsertion(document: pb::Document) -> pb::UpsertDocumentRequest {
    pb::UpsertDocumentRequest {
        document: Some(document),
    }
}

async fn upsert(server: &TestServer, document: pb::Document) -> pb::Document {
    answer(server.documents().upsert_document(upsertion(document)).await)
        .document
        .expect("a document")
}

fn named(id: &str) -> pb::GetDocumentRequest {
    pb::GetDocumentRequest {
        document_id: id.to_owned(),
    }
}

#[tokio::test]
async fn a_document_is_registered_and_then_replaced_as_a_whole() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let given = pb::Document {
        title: "ROS 2 Basics".into(),
        source_uri: "https://example.com/module-1.md".into(),
        mime_type: "text/markdown".into(),
        content_hash: "sha256:00ff".into(),
        metadata_json: r#"{"pages":12}"#.into(),
        ..document("module-1")
    };
    let first = upsert(&server, given.clone()).await;
    assert_eq!(
        first,
        pb::Document {
            metadata_json: r#"{"pages": 12}"#.into(),
            create_time: first.create_time,
            update_time: first.create_time,
            ..given
        }
    );
    assert!(nanos(first.create_time) > 0);
    let found = answer(server.documents().get_document(named("module-1")).await).document;
    assert_eq!(found, Some(first.clone()));

    let replaced = upsert(
        &server,
        pb::Document {
            title: "ROS 2".into(),
            // Output only: not looked at.
            create_time: Some(prost_types::Timestamp::default()),
            ..document("module-1")
        },
    )
    .await;
    assert!(nanos(replaced.update_time) > nanos(first.update_time));
    assert_eq!(
        replaced,
        pb::Document {
            title: "ROS 2".into(),
            metadata_json: "{}".into(),
            create_time: first.create_time,
            update_time: replaced.update_time,
            ..document("module-1")
        }
    );
    let found = answer(server.documents().get_document(named("module-1")).await).document;
    assert_eq!(found, Some(replaced));
}

#[tokio::test]
async fn ids_are_any_text_and_compared_exactly() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let ids = [
        "a",
        "A",
        " a",
        "a ",
        "docs/a.md#1",
        "100%",
        "a\nb",
        "ä",
        "a\u{308}",
        "文書🦀",
    ];
    for id in ids {
        let title = format!("title of {id}");
        let registered = pb::Document {
            title: title.clone(),
            ..document(id)
        };
        assert_eq!(upsert(&server, registered).await.id, id);
    }
    for id in ids {
        let found = answer(server.documents().get_document(named(id)).await).document;
        assert_eq!(found.expect("a document").title, format!("title of {id}"));
    }
}

#[tokio::test]
async fn a_document_that_is_not_registered_is_not_found() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    upsert(&server, document("module-1")).await;
    let found = server.documents().get_document(named("module-2")).await;
    assert_refused(found, Code::NotFound, "DOCUMENT_NOT_FOUND");
    let request = pb::DeleteDocumentRequest {
        document_id: "Module-1".into(),
    };
    let deleted = server.documents().delete_document(request).await;
    assert_refused(deleted, Code::NotFound, "DOCUMENT_NOT_FOUND");
}

#[tokio::test]
async fn a_deleted_document_is_forgotten_and_its_citations_stay() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    upsert(&server, document("module-1")).await;
    let session = new_session(&server).await;
    let mut message = text("see [1]");
    message.citations = vec![citation("module-1", "c", 0.5)];
    append(&server, &session, message).await.expect("a receipt");
    let request = pb::DeleteDocumentRequest {
        document_id: "module-1".into(),
    };
    answer(server.documents().delete_document(request.clone()).await);
    let found = server.documents().get_document(named("module-1")).await;
    assert_refused(found, Code::NotFound, "DOCUMENT_NOT_FOUND");
    let again = server.documents().delete_document(request).await;
    assert_refused(again, Code::NotFound, "DOCUMENT_NOT_FOUND");
    let messages = messages_of(&server, &session).await;
    assert_eq!(messages[0].citations[0].document_id, "module-1");
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let bad = pb::Document {
        id: String::new(),
        title: "\0".into(),
        source_uri: "x".repeat(2049),
        mime_type: "x".repeat(256),
        content_hash: "a\0".into(),
        metadata_json: "[1]".into(),
        ..Default::default()
    };
    assert_invalid(
        server.documents().upsert_document(upsertion(bad)).await,
        &[
            "document.metadata_json",
            "document.id",
            "document.title",
            "document.source_uri",
            "document.mime_type",
            "document.content_hash",
        ],
    );
    let nothing = pb::UpsertDocumentRequest::default();
    assert_invalid(
        server.documents().upsert_document(nothing).await,
        &["document.id"],
    );
    for bad in ["", "a\0b", &"x".repeat(513)] {
        assert_invalid(
            server.documents().get_document(named(bad)).await,
            &["document_id"],
        );
        let request = pb::DeleteDocumentRequest {
            document_id: bad.into(),
        };
        assert_invalid(
            server.documents().delete_document(request).await,
            &["document_id"],
        );
    }
    let request = pb::ListDocumentsRequest {
        page_size: i32::MIN,
        page_token: "garbage".into(),
        title_contains: Some("\0".into()),
        metadata_contains_json: Some("x".into()),
    };
    assert_invalid(
        server.documents().list_documents(request).await,
        &[
            "page_size",
            "page_token",
            "title_contains",
            "metadata_contains_json",
        ],
    );
}

#[tokio::test]
async fn texts_hold_their_limits() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    // Titles are counted in characters, everything else in bytes.
    for (letter, bytes) in [("x", 1), ("é", 2), ("🦀", 4)] {
        let of_bytes = |max: usize| letter.repeat(max / bytes) + &"x".repeat(max % bytes);
        let longest = pb::Document {
            title: letter.repeat(500),
            source_uri: of_bytes(2048),
            mime_type: of_bytes(255),
            content_hash: of_bytes(255),
            metadata_json: "{}".into(),
            ..document(&of_bytes(512))
        };
        let stored = upsert(&server, longest.clone()).await;
        let expected = pb::Document {
            create_time: stored.create_time,
            update_time: stored.update_time,
            ..longest
        };
        assert_eq!(stored, expected);
        let found = answer(server.documents().get_document(named(&stored.id)).await).document;
        assert_eq!(found, Some(expected));

        let longer = pb::Document {
            title: letter.repeat(501),
            source_uri: of_bytes(2049),
            mime_type: of_bytes(256),
            content_hash: of_bytes(256),
            ..document(&of_bytes(513))
        };
        assert_invalid(
            server.documents().upsert_document(upsertion(longer)).await,
            &[
                "document.id",
                "document.title",
                "document.source_uri",
                "document.mime_type",
                "document.content_hash",
            ],
        );
    }
}

#[tokio::test]
async fn a_document_upserted_by_two_at_the_same_moment_is_one_document() {
    let database = TestDatabase::new().await;
    let (one, two) = tokio::join!(start(&database), start(&database));
    let titled = |title: &str| pb::Document {
        title: title.into(),
        ..document("module-1")
    };
    let (first, second) = tokio::join!(upsert(&one, titled("one")), upsert(&two, titled("two")));
    assert_eq!((first.title.as_str(), second.title.as_str()), ("one", "two"));
    let stored = answer(one.documents().get_document(named("module-1")).await)
        .document
        .expect("a document");
    assert!(stored == first || stored == second, "{stored:?}");
}
