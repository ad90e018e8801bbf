//! The memory budget: what clients leave unread is bounded by it, and others go on.

use std::{net::SocketAddr, time::Duration};

use prost::Message;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{
    raw::{RawClient, frame, packed_frame},
    *,
};

const LIST: &str = "/chatledger.v1.MessageService/ListMessages";
const WATCH: &str = "/chatledger.v1.MessageService/WatchMessages";
const BATCH: &str = "/chatledger.v1.MessageService/BatchAppendMessages";
const STREAM: &str = "/chatledger.v1.MessageService/StreamAppendMessages";

/// Tests that attack a server, each with all that the machine has: two at a time would take the polite client's time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A session with large messages, as lists and watches find it.
async fn large_session(server: &TestServer) -> String {
    let session = new_session(server).await;
    for n in 0..4 {
        let message = text(&n.to_string().repeat(1 << 20));
        append(server, &session, message).await.expect("a receipt");
    }
    session
}

fn list(session: &str) -> Vec<u8> {
    let request = pb::ListMessagesRequest {
        session_id: session.to_owned(),
        ..Default::default()
    };
    frame(&request.encode_to_vec())
}

fn watch_of(session: &str) -> Vec<u8> {
    let request = pb::WatchMessagesRequest {
        session_id: session.to_owned(),
        after_seq: 0,
    };
    frame(&request.encode_to_vec())
}

#[tokio::test]
async fn unread_answers_and_watches_hold_no_more_than_the_budget_and_a_polite_client_goes_on() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.memory_budget = 64 << 20).await;
    let whole = server.memory.free();
    let session = large_session(&server).await;
    let mut greedy = RawClient::connect(server.address).await;
    let mut calls = Vec::new();
    for _ in 0..30 {
        calls.push(greedy.begin(LIST, &[], list(&session), true).await);
        calls.push(greedy.begin(WATCH, &[], watch_of(&session), true).await);
    }
    let unread: Vec<_> = calls
        .into_iter()
        .map(|call| tokio::spawn(call.unread()))
        .collect();
    // They hold what they may, and the rest of them waits or is refused.
    eventually("much is held", async || {
        (whole - server.memory.free() > (12 << 20)).then_some(())
    })
    .await;
    for n in 0..20 {
        append(&server, &session, text(&format!("polite {n}")))
            .await
            .expect("a receipt");
        let request = pb::ListMessagesRequest {
            session_id: session.clone(),
            page_size: 5,
            after_seq: Some(4),
            ..Default::default()
        };
        let page = answer(server.messages().list_messages(request).await);
        assert!(!page.messages.is_empty());
    }
    unread.iter().for_each(tokio::task::JoinHandle::abort);
    drop((greedy, unread));
    eventually("all is given back", async || {
        (server.memory.free() == whole).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_page_and_a_watch_count_citations() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let long = "d".repeat(512);
    for _ in 0..80 {
        let message = pb::NewMessage {
            citations: vec![citation(&long, &long, 0.5); 100],
            ..text("x")
        };
        append(&server, &session, message).await.expect("a receipt");
    }
    let pages = pages_of(async |page_token| {
        let request = pb::ListMessagesRequest {
            session_id: session.clone(),
            page_size: 500,
            page_token,
            ..Default::default()
        };
        let page = answer(server.messages().list_messages(request).await);
        assert!(page.encoded_len() <= 3 << 20);
        (page.messages, page.next_page_token)
    })
    .await;
    assert!(pages.len() >= 3, "{}", pages.len());
    assert_eq!(seqs(&pages.concat()), (1..=80).collect::<Vec<i64>>());
    let mut watch = watch(&server, &session, 0).await;
    let watched = watch.messages_until(80).await;
    assert_eq!(seqs(&watched), (1..=80).collect::<Vec<i64>>());
    assert!(watched.iter().all(|message| message.citations.len() == 100));
    drop(watch);
    server.stop().await;
}

#[tokio::test]
async fn large_messages_reach_watches_that_are_live_and_those_that_come_late() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.memory_budget = 64 << 20).await;
    let session = new_session(&server).await;
    // Each is read all the time: what one leaves unread would fill the connection's window, which all of them share.
    #[allow(clippy::async_yields_async)] // what it answers runs by itself, and is awaited later
    let follow = async || {
        let mut watch = watch(&server, &session, 0).await;
        tokio::spawn(async move { seqs(&watch.messages_until(12).await) })
    };
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(follow().await);
    }
    for n in 1..=12_usize {
        // Some that are read for all, and some that every watch reads for itself.
        let size = if n % 3 == 0 { 100 } else { n * 80_000 };
        append(&server, &session, text(&"x".repeat(size)))
            .await
            .expect("a receipt");
    }
    watches.push(follow().await);
    for watch in watches {
        assert_eq!(watch.await.expect("no panic"), (1..=12).collect::<Vec<i64>>());
    }
    server.stop().await;
}

#[tokio::test]
async fn documents_sessions_and_profiles_are_read_in_portions() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let fill = "INSERT INTO chat_sessions (id, user_id, created_at)
        SELECT gen_random_uuid(), NULL, now() - n * interval '1 s' FROM generate_series(1, 200) n";
    database
        .client()
        .await
        .batch_execute(fill)
        .await
        .expect("sessions");
    let list = async |page_size, page_token| {
        let request = pb::ListSessionsRequest {
            owner: Some(pb::list_sessions_request::Owner::Anonymous(true)),
            page_size,
            page_token,
            ..Default::default()
        };
        let page = answer(server.sessions().list_sessions(request).await);
        (page.sessions, page.next_page_token)
    };
    for (size, expected) in [
        (150, vec![150, 50]),
        (200, vec![200]),
        (128, vec![128, 72]),
        (64, vec![64, 64, 64, 8]),
    ] {
        let pages = pages_of(async |token| list(size, token).await).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), expected);
        let mut ids: Vec<String> = pages.concat().into_iter().map(|session| session.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 200);
    }
    server.stop().await;
}

/// What a process holds now, and has held at most, in KiB.
fn resident(pid: u32, what: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status
        .lines()
        .find(|line| line.starts_with(what))
        .expect("a line");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// Beyond the budget: what the allocator keeps of what was given back (mimalloc, a segment of 32 MiB for each of a few
/// threads).
const MARGIN_KIB: usize = 64 << 10;

#[tokio::test]
async fn the_process_stays_within_its_budget_under_all_attacks_at_once() {
    let _alone = ALONE.lock().await;
    let database = TestDatabase::new().await;
    let filling = start(&database).await;
    let session = large_session(&filling).await;
    let cited = new_session(&filling).await;
    let long = "d".repeat(512);
    for _ in 0..100 {
        let message = pb::NewMessage {
            citations: vec![citation(&long, &long, 0.5); 100],
            ..text("x")
        };
        append(&filling, &cited, message).await.expect("a receipt");
    }
    filling.stop().await;
    let budget = 64 << 20;
    let process = process_within(&database, budget);
    let (address, polite) = polite_client_of(&process);
    let ask = one_of(&session);
    polite.clone().list_messages(ask.clone()).await.expect("a page");
    let idle = resident(process.id(), "VmRSS:");

    let bomb = packed_frame(&[0x12, 0].repeat(4 << 20));
    let gzip = [("grpc-encoding", "gzip")];
    let large = frame(&vec![0; 8 << 20]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::connect(address).await;
        let mut calls = Vec::new();
        for _ in 0..20 {
            for session in [&session, &cited] {
                calls.push(client.begin(LIST, &[], list(session), true).await);
                calls.push(client.begin(WATCH, &[], watch_of(session), true).await);
            }
            calls.push(client.begin(BATCH, &gzip, bomb.clone(), true).await);
            calls.push(client.begin(STREAM, &gzip, bomb.clone(), false).await);
            calls.push(
                client
                    .begin(STREAM, &[], large[..large.len() - 1000].to_vec(), false)
                    .await,
            );
            calls.push(client.begin(BATCH, &[], Vec::new(), false).await);
        }
        let unread = calls.into_iter().map(|call| tokio::spawn(call.unread()));
        held.push((client, unread.collect::<Vec<_>>()));
    }
    stays_within(&process, idle + MARGIN_KIB, budget, polite, ask).await;
    drop(held);
}

fn process_within(database: &TestDatabase, budget: usize) -> ServerProcess {
    let mut command = process::serve();
    command
        .env("DATABASE_URL", database.url())
        .args(["--memory-budget", &budget.to_string()]);
    ServerProcess::start(&mut command)
}

type MessageClient = pb::message_service_client::MessageServiceClient<Channel>;

fn polite_client_of(process: &ServerProcess) -> (SocketAddr, MessageClient) {
    let line = process.ready_line();
    let address = process::address_in(&line).parse().expect("an address");
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .expect("an endpoint")
        .connect_lazy();
    (address, MessageClient::new(channel))
}

fn one_of(session: &str) -> pb::ListMessagesRequest {
    pb::ListMessagesRequest {
        session_id: session.to_owned(),
        page_size: 1,
        ..Default::default()
    }
}

/// Lets an attack go on for a while: the process stays within its budget, and the polite client isn't refused.
async fn stays_within(
    process: &ServerProcess,
    besides_kib: usize,
    budget: usize,
    mut polite: MessageClient,
    ask: pb::ListMessagesRequest,
) {
    for _ in 0..40 {
        polite.list_messages(ask.clone()).await.expect("never refused");
        // Not synchronisation: the attack goes on meanwhile.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let most = resident(process.id(), "VmHWM:");
    let allowed = besides_kib + (budget >> 10);
    println!("at most {most} KiB of {allowed} KiB");
    assert!(most < allowed, "{most} KiB of {allowed} KiB");
}

#[tokio::test]
async fn what_connections_receive_and_nobody_reads_is_within_the_budget() {
    const CLIENTS: usize = 24;
    const CALLS: usize = 32;
    let _alone = ALONE.lock().await;
    let database = TestDatabase::new().await;
    let budget = 64 << 20;
    let process = process_within(&database, budget);
    let (address, polite) = polite_client_of(&process);
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
    let mut sessions = pb::session_service_client::SessionServiceClient::new(channel.connect_lazy());
    let create = pb::CreateSessionRequest::default();
    let created = answer(sessions.create_session(create).await).session;
    let ask = one_of(&created.expect("a session").id);
    polite.clone().list_messages(ask.clone()).await.expect("a page");
    let idle = resident(process.id(), "VmRSS:");
    // 188 MiB in all: the first of it takes the budget, and the rest stays where HTTP/2 has it.
    let part = frame(&vec![0; 8 << 20])[..250 << 10].to_vec();
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = RawClient::connect(address).await;
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            calls.push(client.begin(STREAM, &[], part.clone(), false).await);
        }
        held.push((client, calls));
    }
    // A call is charged for what it takes where the program is optimised; here its tasks are larger by far.
    let unoptimised = CLIENTS * CALLS * 48;
    stays_within(&process, idle + MARGIN_KIB + unoptimised, budget, polite, ask).await;
    drop(held);
}
