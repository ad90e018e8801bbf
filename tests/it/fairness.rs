//! Greedy neighbours: whatever one client does, another that asks one thing at a time is served, and never refused.

mod tenants;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::stream;
use prost::Message;
use tokio::{task::JoinSet, time::timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::harness::*;

/// As many as are worth waiting for: each has three requests.
const ROUNDS: usize = 20;

/// A connection of its own.
fn channel_to(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an endpoint")
        .connect_lazy()
}

/// A client that asks one thing at a time.
struct PoliteClient {
    sessions: pb::session_service_client::SessionServiceClient<Channel>,
    messages: pb::message_service_client::MessageServiceClient<Channel>,
    session: String,
}

impl PoliteClient {
    async fn new(server: &TestServer) -> PoliteClient {
        let channel = channel_to(server.address);
        PoliteClient {
            sessions: pb::session_service_client::SessionServiceClient::new(channel.clone()),
            messages: pb::message_service_client::MessageServiceClient::new(channel),
            session: new_session(server).await,
        }
    }

    /// Is served, in time, whatever it asks.
    async fn be_served(mut self) {
        for round in 0..ROUNDS {
            timeout(PATIENCE, self.ask())
                .await
                .expect("in time")
                .unwrap_or_else(|status| panic!("refused in round {round}: {status:?}"));
        }
        let list = pb::ListMessagesRequest {
            session_id: self.session,
            page_size: 100,
            ..Default::default()
        };
        let page = answer(self.messages.list_messages(list).await);
        assert_eq!(page.messages.len(), ROUNDS);
    }

    async fn ask(&mut self) -> Result<(), Status> {
        let append = pb::AppendMessageRequest {
            session_id: self.session.clone(),
            message: Some(text("polite")),
        };
        self.messages.append_message(append).await?;
        let get = pb::GetSessionRequest {
            session_id: self.session.clone(),
        };
        self.sessions.get_session(get).await?;
        let list = pb::ListMessagesRequest {
            session_id: self.session.clone(),
            page_size: 5,
            ..Default::default()
        };
        self.messages.list_messages(list).await.map(drop)
    }
}

/// Sends entries of that size into a session without end, as fast as they are taken, and counts the answers.
fn pour(greedy: &mut JoinSet<()>, server: &TestServer, session: &str, size: usize) -> Arc<AtomicUsize> {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let frame = pb::StreamAppendMessagesRequest {
        entries: vec![
            pb::AppendEntry {
                session_id: session.to_owned(),
                message: Some(text(&"s".repeat(size))),
            };
            8
        ],
    };
    let channel = channel_to(server.address);
    greedy.spawn(async move {
        let mut client = pb::message_service_client::MessageServiceClient::new(channel);
        let frames = stream::repeat(frame);
        let mut answers = answer(client.stream_append_messages(frames).await);
        // It may end refused: it is greedy.
        while let Ok(Some(frame)) = answers.message().await {
            count.fetch_add(frame.results.len(), Ordering::Relaxed);
        }
    });
    answered
}

/// Waits until the greedy one has been answered so often, if only with refusals.
async fn answered(count: &AtomicUsize, least: usize) {
    eventually("it is under way", async || {
        (count.load(Ordering::Relaxed) >= least).then_some(())
    })
    .await;
}

#[tokio::test]
async fn beside_a_stream_of_large_messages() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let polite = PoliteClient::new(&server).await;
    let mut greedy = JoinSet::new();
    let count = pour(&mut greedy, &server, &new_session(&server).await, 64 << 10);
    answered(&count, 100).await;
    polite.be_served().await;
    assert!(!greedy.is_empty());
    greedy.shutdown().await;
    server.stop().await;
}

#[tokio::test]
async fn beside_a_stream_into_a_locked_session() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let polite = PoliteClient::new(&server).await;
    let session = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session).await;
    let mut greedy = JoinSet::new();
    let count = pour(&mut greedy, &server, &session, 512);
    waiting(&database, 1).await;
    polite.be_served().await;
    lock.release().await;
    answered(&count, 100).await;
    greedy.shutdown().await;
    server.stop().await;
}

#[tokio::test]
async fn beside_the_deletion_of_a_large_user_and_a_stream_into_its_session() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let polite = PoliteClient::new(&server).await;
    let user = new_user(&server).await.id;
    let session = new_session_of(&server, Some(&user)).await.id;
    fill(&database, &session, 30_000).await;
    let mut greedy = JoinSet::new();
    let count = pour(&mut greedy, &server, &session, 512);
    answered(&count, 100).await;
    let mut users = pb::user_service_client::UserServiceClient::new(channel_to(server.address));
    let deleting = tokio::spawn(async move {
        let delete = pb::DeleteUserRequest { user_id: user };
        users.delete_user(delete).await
    });
    polite.be_served().await;
    deleting.await.expect("no panic").expect("deleted");
    greedy.shutdown().await;
    server.stop().await;
}

#[tokio::test]
async fn beside_thousands_of_streams_of_one_client() {
    const STREAMS: usize = 3000;
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.max_streams = STREAMS).await;
    let polite = PoliteClient::new(&server).await;
    let session = new_session(&server).await;
    let entry = pb::AppendEntry {
        session_id: session.clone(),
        message: Some(text("many")),
    };
    let request = pb::StreamAppendMessagesRequest {
        entries: vec![entry; 2],
    };
    let frame = raw::frame(&request.encode_to_vec());
    let mut client = raw::RawClient::connect(server.address).await;
    let mut calls = Vec::new();
    for _ in 0..STREAMS {
        let path = "/chatledger.v1.MessageService/StreamAppendMessages";
        calls.push(client.begin(path, &[], frame.clone(), false).await);
    }
    polite.be_served().await;
    let stored = async || {
        let get = pb::GetSessionRequest {
            session_id: session.clone(),
        };
        let found = answer(server.sessions().get_session(get).await);
        found.session.expect("a session").last_seq
    };
    // The greedy one is served as well.
    eventually("all is stored", async || {
        (usize::try_from(stored().await) == Ok(2 * STREAMS)).then_some(())
    })
    .await;
    drop((calls, client));
    server.stop().await;
}

#[tokio::test]
async fn beside_searches_of_twenty_clients() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let polite = PoliteClient::new(&server).await;
    let user = new_user(&server).await.id;
    for _ in 0..4 {
        let session = new_session_of(&server, Some(&user)).await.id;
        fill(&database, &session, 5000).await;
    }
    let mut greedy = JoinSet::new();
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let search = pb::SearchMessagesRequest {
            query: "robot broker".to_owned(),
            user_id: Some(user.clone()),
            ..Default::default()
        };
        let (channel, count) = (channel_to(server.address), Arc::clone(&count));
        greedy.spawn(async move {
            let mut client = pb::message_service_client::MessageServiceClient::new(channel);
            loop {
                // It may be refused.
                let _ = client.search_messages(search.clone()).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    answered(&count, 1).await;
    polite.be_served().await;
    greedy.shutdown().await;
    server.stop().await;
}

/// Puts messages into a session that is empty.
async fn fill(database: &TestDatabase, session: &str, count: usize) {
    let sql = format!(
        "INSERT INTO messages (id, session_id, seq, role, content)
            SELECT gen_random_uuid(), '{session}', n, 'user', 'the robot arm moved ' || n || repeat(' broker', 20)
            FROM generate_series(1, {count}) n;
        UPDATE chat_sessions SET last_seq = {count} WHERE id = '{session}'"
    );
    let client = database.client().await;
    client.batch_execute(&sql).await.expect("messages");
}
