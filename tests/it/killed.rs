//! Two servers on one database, one of them killed by SIGKILL again and again while both are written to.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Instant,
};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use pb::{
    append_result::Result as Of, message_service_client::MessageServiceClient, watch_messages_response::Event,
};
use tonic::{Status, transport::Channel};

use crate::harness::{process::serve, *};

const KILLS: usize = 5;
/// Of each writer between two kills: some are acknowledged, some are not.
const FRAME: usize = 20;

/// A server process that is started anew after each kill.
struct Victim<'a> {
    database: &'a TestDatabase,
    running: RefCell<(ServerProcess, Channel)>,
}

impl<'a> Victim<'a> {
    fn start(database: &'a TestDatabase) -> Self {
        Victim {
            database,
            running: RefCell::new(Self::run(database)),
        }
    }

    fn run(database: &TestDatabase) -> (ServerProcess, Channel) {
        let process = ServerProcess::start(serve().env("DATABASE_URL", database.url()));
        let channel = process.channel();
        (process, channel)
    }

    fn kill(&self) {
        self.running.borrow().0.signal(Signal::SIGKILL);
        self.running.replace(Self::run(self.database));
    }

    fn client(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.running.borrow().1.clone())
    }
}

/// Streams a frame of messages, and answers the receipts that came before the server went.
async fn stream(
    mut client: MessageServiceClient<Channel>,
    session_id: &str,
    messages: &[pb::NewMessage],
) -> Vec<pb::Receipt> {
    let entries = messages.iter().map(|message| pb::AppendEntry {
        session_id: session_id.to_owned(),
        message: Some(message.clone()),
    });
    // An entry a frame, so that a kill may come between.
    let frames: Vec<_> = entries
        .map(|entry| pb::StreamAppendMessagesRequest { entries: vec![entry] })
        .collect();
    let mut receipts = Vec::new();
    let Ok(answers) = client
        .stream_append_messages(futures_util::stream::iter(frames))
        .await
    else {
        return receipts;
    };
    let mut answers = answers.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        for result in answer.results {
            // A server that is being killed answers nothing else.
            if let Some(Of::Receipt(receipt)) = result.result {
                receipts.push(receipt);
            }
        }
    }
    receipts
}

/// Writes to the victim until told to stop, sends again what wasn't acknowledged, and answers all receipts.
async fn write(victim: &Victim<'_>, session_id: &str, writer: usize, stop: &Cell<bool>) -> Vec<pb::Receipt> {
    let mut all = Vec::new();
    while !stop.get() {
        let base = all.len();
        let mut left: Vec<pb::NewMessage> = (base..base + FRAME)
            .map(|i| text_with_id(&id(), &format!("{writer}:{i}")))
            .collect();
        let end = Instant::now() + PATIENCE;
        while !left.is_empty() {
            assert!(Instant::now() < end, "the server doesn't come back");
            let receipts = stream(victim.client(), session_id, &left).await;
            // Answers come in the order sent.
            left.drain(..receipts.len());
            all.extend(receipts);
        }
    }
    all
}

/// Watches a session through the victim, resuming after each kill, up to a message with this content.
async fn watch_through(victim: &Victim<'_>, session_id: &str, last: &str) -> Vec<pb::Message> {
    let mut seen: Vec<pb::Message> = Vec::new();
    loop {
        let request = pb::WatchMessagesRequest {
            session_id: session_id.to_owned(),
            after_seq: seen.last().map_or(0, |message| message.seq),
        };
        let watch: Result<_, Status> = victim.client().watch_messages(request).await;
        let Ok(watch) = watch else {
            // It is starting.
            tokio::task::yield_now().await;
            continue;
        };
        let mut watch = watch.into_inner();
        while let Ok(Some(event)) = watch.message().await {
            if let Some(Event::Message(message)) = event.event {
                let is_last = message.content == last;
                seen.push(message);
                if is_last {
                    return seen;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_killed_again_and_again_loses_nothing_acknowledged() {
    let database = TestDatabase::new().await;
    let stays = start(&database).await;
    let victim = Victim::start(&database);
    let session = new_session(&stays).await;
    let mut steady = watch(&stays, &session, 0).await;
    let stop = Cell::new(false);

    let writers = async {
        let through_victim = (0..3).map(|writer| write(&victim, &session, writer, &stop));
        let through_other = async {
            let mut receipts = Vec::new();
            while !stop.get() {
                let message = text(&format!("other:{}", receipts.len()));
                receipts.push(append(&stays, &session, message).await.expect("a receipt"));
            }
            receipts
        };
        let (killed, other) = tokio::join!(join_all(through_victim), through_other);
        append(&stays, &session, text("last")).await.expect("a receipt");
        [killed.concat(), other].concat()
    };
    let kills = async {
        let client = database.client().await;
        for _ in 0..KILLS {
            let count = "SELECT count(*) FROM messages";
            let before: i64 = client.query_one(count, &[]).await.unwrap().get(0);
            eventually("some more are stored", async || {
                let now: i64 = client.query_one(count, &[]).await.unwrap().get(0);
                (now > before + 200).then_some(())
            })
            .await;
            victim.kill();
        }
        stop.set(true);
    };
    let resumed = watch_through(&victim, &session, "last");
    let told = async {
        let mut told = Vec::new();
        while told
            .last()
            .is_none_or(|message: &pb::Message| message.content != "last")
        {
            told.push(steady.message().await);
        }
        told
    };
    let (receipts, (), resumed, told) = tokio::join!(writers, kills, resumed, told);

    let stored = messages_of(&stays, &session).await;
    assert_gapless(&stored);
    let by_id: HashMap<&str, i64> = stored
        .iter()
        .map(|message| (message.id.as_str(), message.seq))
        .collect();
    assert_eq!(by_id.len(), stored.len(), "an id is stored twice");
    for receipt in &receipts {
        assert_eq!(
            by_id.get(receipt.message_id.as_str()),
            Some(&receipt.seq),
            "{receipt:?}"
        );
    }
    // Each writer's messages are there once, in its order.
    for writer in ["0", "1", "2", "other"] {
        let own: Vec<&str> = stored
            .iter()
            .filter_map(|message| message.content.split_once(':'))
            .filter(|(of, _)| *of == writer)
            .map(|(_, number)| number)
            .collect();
        let expected: Vec<String> = (0..own.len()).map(|i| i.to_string()).collect();
        assert_eq!(own, expected, "writer {writer}");
    }
    assert_eq!(told, stored);
    assert_eq!(resumed, stored);
}
