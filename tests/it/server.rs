//! What surrounds the RPCs: health, reflection, compression, limits on a request, and what is told of
//! methods that don't exist.

use std::time::Duration;

use chatledger::migrations::Scope;
use tokio_stream::StreamExt;
use tonic::{Code, codec::CompressionEncoding};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::*;

const AUTH: [&str; 2] = ["chatledger.v1.UserService", "chatledger.v1.ProfileService"];
const CHAT: [&str; 5] = [
    "chatledger.v1.SessionService",
    "chatledger.v1.MessageService",
    "chatledger.v1.CitationService",
    "chatledger.v1.DocumentService",
    "chatledger.v1.AnalyticsService",
];

async fn health(server: &TestServer, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    match HealthClient::new(server.channel.clone()).check(request).await {
        Ok(response) => Ok(response.into_inner().status()),
        Err(status) => Err(status.code()),
    }
}

async fn assert_health(server: &TestServer, services: &[&str], expected: Result<ServingStatus, Code>) {
    for service in services {
        assert_eq!(health(server, service).await, expected, "{service:?}");
    }
}

#[tokio::test]
async fn health_has_an_entry_for_the_server_and_each_served_service() {
    let database = TestDatabase::new().await;
    let serving = Ok(ServingStatus::Serving);
    let absent = Err(Code::NotFound);
    for (scope, auth, chat) in [
        (Scope::All, serving, serving),
        (Scope::Auth, serving, absent),
        (Scope::Chat, absent, serving),
    ] {
        let server = start_with(&database, |options| options.scope = scope).await;
        assert_health(&server, &[""], serving).await;
        assert_health(&server, &AUTH, auth).await;
        assert_health(&server, &CHAT, chat).await;
        assert_health(&server, &["chatledger.v1.NoSuchService"], absent).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn health_follows_the_database_and_a_watcher_is_told() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.connect_for = Duration::from_millis(200);
    })
    .await;
    let request = HealthCheckRequest {
        service: CHAT[1].to_owned(),
    };
    let mut client = HealthClient::new(server.channel.clone());
    let mut watch = client.watch(request).await.expect("a watch").into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await;
        next.expect("in time")
            .expect("an event")
            .expect("no error")
            .status()
    };
    assert_eq!(next().await, ServingStatus::Serving);

    new_session(&server).await;
    proxy.go_away();
    let request = pb::CreateSessionRequest::default();
    let refused = server.sessions().create_session(request).await;
    assert_eq!(refused.expect_err("no database").code(), Code::Unavailable);
    assert_eq!(next().await, ServingStatus::NotServing);
    for services in [&[""], AUTH.as_slice(), CHAT.as_slice()] {
        assert_health(&server, services, Ok(ServingStatus::NotServing)).await;
    }

    // No request is needed for the server to find out.
    proxy.come_back();
    assert_eq!(next().await, ServingStatus::Serving);
    for services in [&[""], AUTH.as_slice(), CHAT.as_slice()] {
        assert_health(&server, services, Ok(ServingStatus::Serving)).await;
    }
    new_session(&server).await;
    drop((client, watch));
    server.stop().await;
}

#[tokio::test]
async fn health_stays_not_serving_while_the_schema_is_older_than_the_server() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.connect_for = Duration::from_millis(200);
    })
    .await;
    new_session(&server).await;

    // As where a backup from before the last migration is restored.
    proxy.go_away();
    let client = database.client().await;
    let history = "FROM chatledger_chat_migrations WHERE version = (SELECT max(version) FROM chatledger_chat_migrations)";
    client
        .batch_execute(&format!(
            "CREATE TABLE removed AS SELECT * {history}; DELETE {history}"
        ))
        .await
        .expect("an older schema");
    let request = pb::CreateSessionRequest::default();
    server
        .sessions()
        .create_session(request)
        .await
        .expect_err("no database");
    eventually("NOT_SERVING", async || {
        (health(&server, "").await == Ok(ServingStatus::NotServing)).then_some(())
    })
    .await;

    let before = proxy.asked();
    proxy.come_back();
    eventually("the server looks", async || {
        (proxy.asked() > before + 500).then_some(())
    })
    .await;
    assert_health(&server, &[""], Ok(ServingStatus::NotServing)).await;
    client
        .batch_execute("INSERT INTO chatledger_chat_migrations SELECT * FROM removed")
        .await
        .expect("the right schema");
    eventually("SERVING", async || {
        (health(&server, "").await == Ok(ServingStatus::Serving)).then_some(())
    })
    .await;
    server.stop().await;
}

async fn reflect(server: &TestServer, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection")
        .into_inner();
    let answer = answers.next().await.expect("an answer").expect("no error");
    answer.message_response.expect("an answer")
}

#[tokio::test]
async fn reflection_lists_the_services_and_has_their_files() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let MessageResponse::ListServicesResponse(list) =
        reflect(&server, MessageRequest::ListServices(String::new())).await
    else {
        panic!("not a list");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in AUTH.iter().chain(&CHAT).chain(&["grpc.health.v1.Health"]) {
        assert!(names.contains(name), "{name} isn't among {names:?}");
    }

    for (symbol, file) in [
        ("chatledger.v1.MessageService", "chatledger/v1/message.proto"),
        (
            "chatledger.v1.MessageService.AppendMessage",
            "chatledger/v1/message.proto",
        ),
        ("chatledger.v1.Profile", "chatledger/v1/profile.proto"),
        ("grpc.health.v1.Health", "health.proto"),
    ] {
        let request = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let MessageResponse::FileDescriptorResponse(found) = reflect(&server, request).await else {
            panic!("no file for {symbol}");
        };
        let names: Vec<String> = found
            .file_descriptor_proto
            .iter()
            .map(|file| name_of(file))
            .collect();
        assert!(names[0].ends_with(file), "{symbol}: {names:?}");
    }
    for file in ["chatledger/v1/citation.proto", "google/protobuf/timestamp.proto"] {
        let request = MessageRequest::FileByFilename(file.to_owned());
        let MessageResponse::FileDescriptorResponse(found) = reflect(&server, request).await else {
            panic!("no {file}");
        };
        assert_eq!(name_of(&found.file_descriptor_proto[0]), file);
    }
    server.stop().await;
}

fn name_of(file: &[u8]) -> String {
    use prost::Message;
    prost_types::FileDescriptorProto::decode(file)
        .expect("a descriptor")
        .name()
        .to_owned()
}

#[tokio::test]
async fn compressed_requests_are_read() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session_id = new_session(&server).await;
    let content = "compress me ".repeat(1000);
    let request = pb::AppendMessageRequest {
        session_id: session_id.clone(),
        message: Some(text(&content)),
    };
    let mut client = server.messages().send_compressed(CompressionEncoding::Gzip);
    client.append_message(request).await.expect("a receipt");
    assert_eq!(messages_of(&server, &session_id).await[0].content, content);
    server.stop().await;
}

#[tokio::test]
async fn a_request_over_8_mib_is_refused_compressed_or_not() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session_id = new_session(&server).await;
    let request = |bytes: usize| pb::AppendMessageRequest {
        session_id: session_id.clone(),
        message: Some(text(&"x".repeat(bytes))),
    };
    // Within the limit on requests, another one applies.
    let within = server
        .messages()
        .append_message(request((8 << 20) - (1 << 10)))
        .await;
    assert_invalid(within, &["message.content"]);
    for encoding in [None, Some(CompressionEncoding::Gzip)] {
        let mut client = server.messages();
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        let refused = client.append_message(request(8 << 20)).await;
        let status = refused.expect_err("too large");
        assert!(status.message().contains("8388608"), "{encoding:?}: {status}");
        assert_invalid(Err::<tonic::Response<()>, _>(status), &["request"]);
    }
    // The connection goes on.
    append(&server, &session_id, text("small"))
        .await
        .expect("a receipt");
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_method_or_service_is_unimplemented_with_details() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for path in [
        "/chatledger.v1.MessageService/NoSuchMethod",
        "/chatledger.v1.NoSuchService/Get",
        "/chatledger.v2.MessageService/AppendMessage",
    ] {
        let status = raw::call(server.address, path, &[], &pb::GetSessionRequest::default()).await;
        let refusal = refusal_of(&status);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unimplemented, "UNIMPLEMENTED"),
            "{path}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_protobuf_is_refused_with_details() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    // Its field 1 is a number, and that of a GetSessionRequest is a text.
    let wrong = pb::CaughtUp { last_seq: 7 };
    let path = "/chatledger.v1.SessionService/GetSession";
    let refusal = refusal_of(&raw::call(server.address, path, &[], &wrong).await);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::InvalidArgument, "INVALID_FIELD")
    );
    server.stop().await;
}
