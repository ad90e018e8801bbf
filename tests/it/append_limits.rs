//! What an append may hold: every limit at its edge, and all that is wrong told at once.

use bytes::Bytes;
use tonic::Code;

use crate::harness::*;

const MIB: usize = 1 << 20;

async fn server_and_session(database: &TestDatabase) -> (TestServer, String) {
    let server = start(database).await;
    let session = new_session(&server).await;
    (server, session)
}

/// `length` bytes in which a multi-byte character and a quote occur.
fn bytes_of_text(length: usize) -> String {
    let mut text = "é'\\".repeat(length / 4);
    text.push_str(&"x".repeat(length - text.len()));
    text
}

/// A JSON object of that many bytes.
fn json_of(length: usize) -> String {
    let shell = r#"{"k":""}"#.len();
    format!(r#"{{"k":"{}"}}"#, "x".repeat(length - shell))
}

/// A JSON object of that many levels.
fn json_deep(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

/// Each field that has a limit in bytes, of `length` bytes.
type Fill = fn(&mut pb::NewMessage, usize);

const SIZED: [(&str, usize, Fill); 6] = [
    ("message.content", MIB, |m, length| {
        m.content = bytes_of_text(length);
    }),
    ("message.payload", MIB, |m, length| {
        m.payload = Some(vec![0xFF; length].into());
    }),
    ("message.selected_text", 64 << 10, |m, length| {
        m.selected_text = Some(bytes_of_text(length));
    }),
    ("message.metadata_json", 64 << 10, |m, length| {
        m.metadata_json = json_of(length);
    }),
    ("message.citations[0].document_id", 512, |m, length| {
        m.citations = vec![citation(&bytes_of_text(length), "", 0.5)];
    }),
    ("message.citations[0].chunk_id", 512, |m, length| {
        m.citations = vec![citation("d", &bytes_of_text(length), 0.5)];
    }),
];

#[tokio::test]
async fn every_field_is_kept_up_to_its_limit_and_refused_beyond() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    for (field, limit, fill) in SIZED {
        let mut message = text_with_id(&id(), "x");
        fill(&mut message, limit);
        append(&server, &session, message.clone())
            .await
            .unwrap_or_else(|status| panic!("{field}: {status:?}"));
        let stored = get_message(&server, &session, message.message_id())
            .await
            .expect("a message");
        assert_eq!(stored.content, message.content, "{field}");
        assert_eq!(stored.payload, message.payload, "{field}");
        assert_eq!(stored.selected_text, message.selected_text, "{field}");
        if !message.metadata_json.is_empty() {
            assert_eq!(stored.metadata_json.replace(": ", ":"), message.metadata_json);
        }
        for (stored, given) in stored.citations.iter().zip(&message.citations) {
            assert_eq!(
                (&stored.document_id, &stored.chunk_id),
                (&given.document_id, &given.chunk_id)
            );
        }
        fill(&mut message, limit + 1);
        assert_invalid(append(&server, &session, message).await, &[field]);
    }
}

#[tokio::test]
async fn a_message_with_everything_at_its_limit_is_read_back_on_one_page() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    let mut message = text("");
    for (_, limit, fill) in SIZED {
        fill(&mut message, limit);
    }
    let long = bytes_of_text(512);
    message.citations = vec![citation(&long, &long, f64::MIN_POSITIVE); 100];
    append(&server, &session, message.clone())
        .await
        .expect("a receipt");
    let messages = messages_of(&server, &session).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].citations.len(), 100);
    assert_eq!(messages[0].payload, message.payload);
    assert_eq!(messages[0].content, message.content);
}

#[tokio::test]
async fn a_message_has_at_most_100_citations() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    let with = |count| pb::NewMessage {
        citations: vec![citation("d", "c", 0.5); count],
        ..text("x")
    };
    append(&server, &session, with(100)).await.expect("a receipt");
    assert_invalid(append(&server, &session, with(101)).await, &["message.citations"]);
    let indexes: Vec<i32> = messages_of(&server, &session).await[0]
        .citations
        .iter()
        .map(|citation| citation.citation_index)
        .collect();
    assert_eq!(indexes, (1..=100).collect::<Vec<i32>>());
}

#[tokio::test]
async fn json_that_the_database_could_not_hold_is_refused_beforehand() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    let with = |json: &str| pb::NewMessage {
        metadata_json: json.to_owned(),
        ..text("x")
    };
    for good in [
        json_deep(32),
        r#"{"a": "\ud83d\ude00", "n": 1e2, "n2": 123456789012345678901234567890.5}"#.to_owned(),
        format!(r#"{{"n": 1e{}}}"#, 60_000),
        "  {}  ".to_owned(),
    ] {
        append(&server, &session, with(&good))
            .await
            .unwrap_or_else(|status| panic!("{good}: {status:?}"));
    }
    for bad in [
        json_deep(33),
        format!(r#"{{"n": 1e{}}}"#, 70_000),
        r#"{"n": 1e-99999}"#.to_owned(),
        r#"{"a": "\u0000"}"#.to_owned(),
        r#"{"\u0000": 1}"#.to_owned(),
        r#"{"a": "\ud83d"}"#.to_owned(),
        "[]".to_owned(),
        "1".to_owned(),
        "null".to_owned(),
        "{".to_owned(),
        r#"{"a": 1} x"#.to_owned(),
        r#"{"a": NaN}"#.to_owned(),
        "{\"a\": \"\0\"}".to_owned(),
    ] {
        assert_invalid(
            append(&server, &session, with(&bad)).await,
            &["message.metadata_json"],
        );
    }
    let spelled = messages_of(&server, &session).await;
    assert_eq!(
        spelled[1].metadata_json,
        r#"{"a": "😀", "n": 100, "n2": 123456789012345678901234567890.5}"#
    );
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_with_its_path() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    let twice = id();
    let cited = |citations| pb::NewMessage {
        citations,
        ..text("x")
    };
    let messages = vec![
        pb::NewMessage {
            message_id: Some("x".to_owned()),
            role: 0,
            content: "a\0b".to_owned(),
            selected_text: Some("\0".to_owned()),
            metadata_json: "[]".to_owned(),
            payload: Some(Bytes::from_static(b"\0 is fine here")),
            citations: vec![citation("", "\0", f64::NAN)],
            create_time: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: -1,
            }),
        },
        text_with_id(&twice, "fine"),
        text_with_id(&twice.to_uppercase(), "the same id"),
        cited(vec![
            citation("d", "", f64::INFINITY),
            pb::Citation {
                citation_index: -1,
                ..citation("d", "", 0.5)
            },
            pb::Citation {
                citation_index: 7,
                ..citation("d", "", 0.5)
            },
            pb::Citation {
                citation_index: 7,
                ..citation("d\0", "", f64::NEG_INFINITY)
            },
        ]),
        pb::NewMessage {
            message_id: Some(String::new()),
            role: 99,
            ..text("x")
        },
    ];
    let mut fields = refusal(append_batch(&server, "not-a-uuid", messages, Some(-1)).await).fields;
    fields.sort();
    let mut expected = [
        "session_id",
        "expected_last_seq",
        "messages[0].message_id",
        "messages[0].role",
        "messages[0].content",
        "messages[0].selected_text",
        "messages[0].metadata_json",
        "messages[0].create_time",
        "messages[0].citations[0].document_id",
        "messages[0].citations[0].chunk_id",
        "messages[0].citations[0].score",
        "messages[2].message_id",
        "messages[3].citations[0].score",
        "messages[3].citations[1].citation_index",
        "messages[3].citations[3].document_id",
        "messages[3].citations[3].score",
        "messages[3].citations[3].citation_index",
        "messages[4].message_id",
        "messages[4].role",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);

    // One message: the same, under another name.
    let request = pb::AppendMessageRequest::default();
    assert_invalid(
        server.messages().append_message(request).await,
        &["session_id", "message"],
    );
    let message = pb::NewMessage {
        citations: vec![citation("", "", 0.5)],
        ..pb::NewMessage::default()
    };
    assert_invalid(
        append(&server, &session, message).await,
        &["message.role", "message.citations[0].document_id"],
    );
    assert_eq!(get_session(&server, &session).await.last_seq, 0);
}

#[tokio::test]
async fn an_id_twice_in_a_batch_is_refused_whatever_the_id() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    for message_id in [id(), uuid::Uuid::nil().to_string(), uuid::Uuid::max().to_string()] {
        let batch = vec![text_with_id(&message_id, "x"), text_with_id(&message_id, "x")];
        assert_invalid(
            append_batch(&server, &session, batch, None).await,
            &["messages[1].message_id"],
        );
        append(&server, &session, text_with_id(&message_id, "x"))
            .await
            .expect("a receipt");
    }
}

#[tokio::test]
async fn a_batch_has_1_to_500_messages() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    for bad in [vec![], vec![text("x"); 501]] {
        assert_invalid(append_batch(&server, &session, bad, None).await, &["messages"]);
    }
    let receipts = append_batch(&server, &session, vec![text("x"); 500], None)
        .await
        .expect("receipts");
    assert_eq!(receipts.len(), 500);
    assert_gapless(&messages_of(&server, &session).await);
    assert_eq!(receipts[499].seq, 500);
}

#[tokio::test]
async fn a_bad_message_keeps_its_whole_batch_out() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    let bad = pb::NewMessage {
        content: "\0".to_owned(),
        ..text("x")
    };
    assert_invalid(
        append_batch(&server, &session, vec![text("a"), bad, text("c")], None).await,
        &["messages[1].content"],
    );
    assert_eq!(messages_of(&server, &session).await, []);
    let next = append(&server, &session, text("next")).await.expect("a receipt");
    assert_eq!(next.seq, 1);
}

/// A batch whose request has `size` bytes.
fn request_of(session: &str, size: usize) -> pb::BatchAppendMessagesRequest {
    use prost::Message;

    let mut request = pb::BatchAppendMessagesRequest {
        session_id: session.to_owned(),
        messages: vec![text(&"x".repeat(MIB)); 7],
        expected_last_seq: None,
    };
    request.messages.push(text(&"x".repeat(MIB / 2)));
    let missing = size - request.encoded_len();
    request.messages[7].content.push_str(&"x".repeat(missing));
    assert_eq!(request.encoded_len(), size);
    request
}

#[tokio::test]
async fn a_request_has_at_most_8_mib() {
    let database = TestDatabase::new().await;
    let (server, session) = server_and_session(&database).await;
    for size in [8 * MIB + 1, 8 * MIB + 1000] {
        // Several times: the answer comes while the request is still being sent.
        for _ in 0..10 {
            let request = request_of(&session, size);
            assert_invalid(
                server.messages().batch_append_messages(request).await,
                &["request"],
            );
        }
    }
    assert_eq!(get_session(&server, &session).await.last_seq, 0);
    let request = request_of(&session, 8 * MIB);
    let response = server.messages().batch_append_messages(request).await;
    assert_eq!(response.expect("receipts").into_inner().receipts.len(), 8);
    // It was the request, not the connection, that was refused.
    let refusal = refusal(append(&server, &id(), text("x")).await);
    assert_eq!(refusal.code, Code::NotFound);
}
