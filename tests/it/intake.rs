//! What the server makes of requests that aren't as gRPC and the contract say: malformed, endless, or small on the
//! wire and large in memory.

use std::time::{Duration, Instant};

use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic::{Code, Status};

use crate::harness::{
    raw::{RawClient, frame, packed_frame},
    *,
};

const APPEND: &str = "/chatledger.v1.MessageService/AppendMessage";
const BATCH: &str = "/chatledger.v1.MessageService/BatchAppendMessages";
const STREAM: &str = "/chatledger.v1.MessageService/StreamAppendMessages";
const LIST: &str = "/chatledger.v1.MessageService/ListMessages";

fn is_invalid(status: &Status, what: &str) -> Refusal {
    assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    let refusal = refusal_of(status);
    assert_eq!(refusal.reason, "INVALID_FIELD", "{what}");
    refusal
}

/// A field of length-delimited bytes.
fn field(number: i32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(
        u32::try_from(number).expect("a number"),
        prost::encoding::WireType::LengthDelimited,
        &mut out,
    );
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

/// For every text in a message: its path, and a message with bytes in it that are none.
fn bad_texts(set: &FileDescriptorSet, message: &str) -> Vec<(String, Vec<u8>)> {
    let Some(descriptor) = find(set, message) else {
        panic!("no {message}");
    };
    let mut found = Vec::new();
    for of in &descriptor.field {
        let index = if of.label() == Label::Repeated { "[0]" } else { "" };
        let name = format!("{}{index}", of.name());
        match of.r#type() {
            Type::String => found.push((name, field(of.number(), &[b'a', 0xFF]))),
            Type::Message => {
                for (path, bytes) in bad_texts(set, of.type_name()) {
                    found.push((format!("{name}.{path}"), field(of.number(), &bytes)));
                }
            }
            _ => {}
        }
    }
    found
}

fn find<'a>(set: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    set.file.iter().find_map(|file| {
        let short = name.strip_prefix(&format!(".{}.", file.package()))?;
        file.message_type.iter().find(|message| message.name() == short)
    })
}

#[tokio::test]
async fn every_method_refuses_what_is_malformed_as_an_invalid_field() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut client = RawClient::connect(server.address).await;
    let set = FileDescriptorSet::decode(chatledger_protocol::DESCRIPTORS).expect("descriptors");
    let mut methods = 0;
    let services = set
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    for (package, service) in services {
        for method in &service.method {
            methods += 1;
            let path = format!("/{package}.{}/{}", service.name(), method.name());
            let fields = &find(&set, method.input_type()).expect("a message").field;
            // One that has no fields passes over those that it doesn't know, whatever their types.
            let Some(number) = fields.first().map(prost_types::FieldDescriptorProto::number) else {
                continue;
            };
            // No request's first field is a fixed one.
            let mistyped = [
                u8::try_from(number << 3 | 1).expect("small"),
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            let mut cut = frame(&field(number, b"x"));
            cut.pop();
            let mut flagged = frame(&[]);
            flagged[0] = 2;
            let mut cases = vec![
                ("a wrong type", frame(&mistyped)),
                (
                    "a length beyond the end",
                    frame(&[field(number, b"")[0], 9, b'x']),
                ),
                ("a number without end", frame(&[0x80; 12])),
                ("field 0", frame(&[0x02, 0])),
                ("a type that is none", frame(&[0x7F])),
                ("a group without end", frame(&[0x7B])),
                ("a frame that is cut off", cut),
                ("a header that is cut off", vec![0, 0, 0]),
                ("a flag that is none", flagged),
                ("a packed message without a name for it", packed_frame(&[])),
            ];
            if !method.client_streaming() {
                cases.push(("no message", Vec::new()));
                cases.push(("two messages", [frame(&[]), frame(&[])].concat()));
                cases.push(("more than a message", [frame(&[]), vec![0]].concat()));
            }
            for (what, body) in cases {
                let status = client.call(&path, &[], body).await;
                is_invalid(&status, &format!("{path}: {what}"));
            }
            for (text, message) in bad_texts(&set, method.input_type()) {
                let status = client.call(&path, &[], frame(&message)).await;
                let refusal = is_invalid(&status, &format!("{path}: {text}"));
                assert_eq!(refusal.fields, [text], "{path}");
            }
            let gzip = [("grpc-encoding", "gzip")];
            let mut torn = packed_frame(b"abc");
            torn[12] ^= 0xFF;
            let status = client.call(&path, &gzip, torn).await;
            is_invalid(&status, &format!("{path}: bad gzip"));
            let status = client.call(&path, &[("grpc-encoding", "br")], frame(&[])).await;
            assert_eq!(refusal_of(&status).code, Code::Unimplemented, "{path}");
            let read = status.metadata().get("grpc-accept-encoding");
            assert_eq!(
                read.map(tonic::metadata::MetadataValue::as_encoded_bytes),
                Some(&b"identity,gzip"[..])
            );
        }
    }
    assert!(methods > 30, "{methods}");
    server.stop().await;
}

#[tokio::test]
async fn lists_are_counted_before_anything_is_built_of_them() {
    let database = TestDatabase::new().await;
    // Nothing of it would fit.
    let server = start_with(&database, |options| options.memory_budget = 64 << 20).await;
    let mut client = RawClient::connect(server.address).await;
    let user = "/chatledger.v1.UserService/UpdateUser";
    let add = "/chatledger.v1.CitationService/AddCitations";
    let search = "/chatledger.v1.MessageService/SearchMessages";
    let claim = "/chatledger.v1.SessionService/ClaimSessions";
    let profile = "/chatledger.v1.ProfileService/UpdateProfile";
    let many = |element: &[u8]| element.repeat((8 << 20) / element.len() - 8);
    let mask_of = |path: &str| {
        let set = FileDescriptorSet::decode(chatledger_protocol::DESCRIPTORS).expect("descriptors");
        let name = path.rsplit('/').next().expect("a name");
        let request = find(&set, &format!(".chatledger.v1.{name}Request")).expect("a request");
        let mask = request.field.iter().find(|field| field.name() == "update_mask");
        mask.expect("a mask").number()
    };
    let bombs = [
        (BATCH, "messages", many(&[0x12, 0])),
        (BATCH, "messages[0].citations", field(2, &many(&[0x3A, 0]))),
        (APPEND, "message.citations", field(2, &many(&[0x3A, 0]))),
        // One message in millions of parts.
        (APPEND, "message.citations", many(&[0x12, 2, 0x3A, 0])),
        (add, "citations", many(&[0x1A, 0])),
        (LIST, "roles", field(8, &many(&[1]))),
        (LIST, "roles", many(&[0x40, 1])),
        (search, "fields", field(7, &many(&[1]))),
        (claim, "session_ids", many(&[0x12, 0])),
        (user, "update_mask.paths", field(mask_of(user), &many(&[0x0A, 0]))),
        (user, "update_mask.paths", many(&field(mask_of(user), &[0x0A, 0]))),
        (
            profile,
            "update_mask.paths",
            field(mask_of(profile), &many(&[0x0A, 0])),
        ),
        (STREAM, "entries", many(&[0x0A, 0])),
        (STREAM, "entries", Vec::new()),
    ];
    for (path, at, message) in &bombs {
        let status = client
            .call(path, &[("grpc-encoding", "gzip")], packed_frame(message))
            .await;
        let refusal = is_invalid(&status, path);
        assert_eq!(refusal.fields, [*at], "{path}");
    }
    // An entry with millions of citations: the frame takes more than one may.
    let entry = field(1, &field(2, &many(&[0x3A, 0])));
    let status = client.call(STREAM, &[], frame(&entry)).await;
    let refusal = is_invalid(&status, "citations of an entry");
    assert!(refusal.fields[0].starts_with("entries[0].message.citations["));
    // 64 MiB of zeros in 64 KiB.
    let zeros = packed_frame(&vec![0; 64 << 20]);
    let status = client.call(APPEND, &[("grpc-encoding", "gzip")], zeros).await;
    assert_eq!(is_invalid(&status, "zeros").fields, ["request"]);
    // Nothing of all that is held any more.
    eventually("the budget is whole", async || {
        (server.memory.free() + (8 << 10) >= (48 << 20)).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn an_entry_with_too_many_citations_fails_by_itself() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let entry = |citations| pb::AppendEntry {
        session_id: session.clone(),
        message: Some(pb::NewMessage {
            citations: vec![citation("d", "", 0.5); citations],
            ..text("x")
        }),
    };
    let frames = tokio_stream::iter([pb::StreamAppendMessagesRequest {
        entries: vec![entry(100), entry(5000), entry(0)],
    }]);
    let mut answers = answer(server.messages().stream_append_messages(frames).await);
    let mut results = Vec::new();
    while let Some(frame) = answers.message().await.expect("no end but the last") {
        results.extend(frame.results);
    }
    let errors: Vec<Option<String>> = results
        .into_iter()
        .map(|result| match result.result {
            Some(pb::append_result::Result::Error(error)) => Some(error.reason),
            _ => None,
        })
        .collect();
    assert_eq!(errors, [None, Some("INVALID_FIELD".to_owned()), None]);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up_and_denies_nobody_anything() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.max_requests = 1;
        options.read_timeout = Duration::from_millis(500);
    })
    .await;
    let mut client = RawClient::connect(server.address).await;
    let began = Instant::now();
    let large = frame(&vec![0; 1 << 20]);
    let endless = [
        (APPEND, Vec::new()),
        (APPEND, large[..3].to_vec()),
        (APPEND, large[..1000].to_vec()),
        // Complete, but for the end.
        (LIST, frame(&[])),
        (STREAM, large[..large.len() - 1].to_vec()),
    ];
    let mut calls = Vec::new();
    for (path, body) in endless {
        calls.push(client.begin(path, &[], body, false).await);
    }
    // There is one permit, and none of them has it.
    new_session(&server).await;
    // A stream that pauses between its messages is not one of them.
    let whole = frame(
        &pb::StreamAppendMessagesRequest {
            entries: vec![pb::AppendEntry::default()],
        }
        .encode_to_vec(),
    );
    let mut pausing = client.begin(STREAM, &[], whole.clone(), false).await;
    for call in calls {
        let status = call.status().await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(refusal_of(&status).reason, "DEADLINE_EXCEEDED");
    }
    assert!(began.elapsed() >= Duration::from_millis(500));
    pausing.body.send_data(whole.into(), true).expect("a frame");
    assert_eq!(pausing.status().await.code(), Code::Ok);
    server.stop().await;
}

#[tokio::test]
async fn the_headers_of_an_error_end_its_stream() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let missing = pb::GetSessionRequest { session_id: id() };
    let body = frame(&missing.encode_to_vec());
    let mut client = RawClient::connect(server.address).await;
    let path = "/chatledger.v1.SessionService/GetSession";
    let response = client.begin(path, &[], body, true).await.unread().await;
    assert_eq!(response.headers().get("grpc-status").expect("a status"), "5");
    assert!(
        response.body().is_end_stream(),
        "an empty frame behind it breaks clients in C"
    );
}
