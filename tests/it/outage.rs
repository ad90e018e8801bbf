//! What callers see of a database that goes away, is slow to answer or loses answers: through a proxy that
//! does all that.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tonic::{Code, Status};

use crate::harness::{proxy::PASSWORD, *};

async fn behind(proxy: &Proxy, database: &TestDatabase, pool_size: usize) -> TestServer {
    start_with(database, |options| {
        options.connector = proxy.connector(database);
        options.db.pool_size = pool_size;
    })
    .await
}

fn get(session_id: &str) -> pb::GetSessionRequest {
    pb::GetSessionRequest {
        session_id: session_id.to_owned(),
    }
}

/// The service over the raw client, which hears everything that the server says before the deadline.
async fn get_raw(server: &TestServer, session_id: &str, timeout: &str) -> Status {
    let path = "/chatledger.v1.SessionService/GetSession";
    raw::call(
        server.address,
        path,
        &[("grpc-timeout", timeout)],
        &get(session_id),
    )
    .await
}

#[track_caller]
fn assert_unavailable(status: &Status) {
    let refusal = refusal_of(status);
    assert_eq!(
        (refusal.code, refusal.reason.as_str(), refusal.retry),
        (Code::Unavailable, "DATABASE_UNAVAILABLE", true),
        "{status}"
    );
    let shown = format!("{status:?}");
    for secret in [
        PASSWORD,
        "postgres://",
        "127.0.0.1",
        "SELECT",
        "INSERT",
        "chat_sessions",
    ] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_recovery_needs_nobody() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.connect_for = Duration::from_millis(200);
    })
    .await;
    let session_id = new_session(&server).await;
    for _ in 0..2 {
        proxy.go_away();
        let read = server.sessions().get_session(get(&session_id)).await;
        assert_unavailable(&read.expect_err("no database"));
        let write = pb::CreateSessionRequest::default();
        let write = server.sessions().create_session(write).await;
        assert_unavailable(&write.expect_err("no database"));
        let transaction = pb::UpdateSessionRequest {
            session_id: session_id.clone(),
            title: Some("x".to_owned()),
            ..Default::default()
        };
        let transaction = server.sessions().update_session(transaction).await;
        assert_unavailable(&transaction.expect_err("no database"));
        let append = append(&server, &session_id, text("lost")).await;
        assert_unavailable(&append.expect_err("no database"));

        proxy.come_back();
        append_and_read(&server, &session_id).await;
    }
    server.stop().await;
}

async fn append_and_read(server: &TestServer, session_id: &str) {
    let receipt = append(server, session_id, text("kept")).await.expect("a receipt");
    let messages = messages_of(server, session_id).await;
    assert_eq!(messages.last().map(|message| message.seq), Some(receipt.seq));
    assert!(messages.iter().all(|message| message.content == "kept"));
}

#[tokio::test]
async fn who_can_not_be_waited_for_is_told_unavailable_shortly_before_the_deadline() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, 4).await;
    for stalled in [false, true] {
        if stalled {
            proxy.stall();
        } else {
            proxy.go_away();
        }
        for millis in [300, 700, 2000] {
            answers_before(&server, millis).await;
        }
    }
    server.stop().await;
}

/// Some tens of milliseconds are what the server leaves itself, and a busy machine may take them all: one of
/// three tries must be right.
async fn answers_before(server: &TestServer, millis: u64) {
    let mut tries = 0;
    loop {
        tries += 1;
        let began = Instant::now();
        let status = get_raw(server, &id(), &format!("{millis}m")).await;
        // It never gives up early.
        let least = Duration::from_millis(millis) - Duration::from_millis(150);
        assert!(began.elapsed() >= least, "{millis} ms: {:?}", began.elapsed());
        if tries == 3 || status.code() == Code::Unavailable {
            return assert_unavailable(&status);
        }
    }
}

#[tokio::test]
async fn more_callers_than_the_pool_has_room_for_are_told_that_the_database_is_away() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.db.pool_size = 1;
        options.db.wait_timeout = Duration::from_millis(100);
        options.db.connect_for = Duration::from_millis(500);
    })
    .await;
    let session_id = new_session(&server).await;
    proxy.go_away();
    let append_one = async || append(&server, &session_id, text("lost")).await;
    // From here on the server knows.
    assert_unavailable(&append_one().await.expect_err("no database"));
    for result in futures_util::future::join_all((0..5).map(|_| append_one())).await {
        assert_unavailable(&result.expect_err("no database"));
    }
    proxy.come_back();
    append_and_read(&server, &session_id).await;
    server.stop().await;
}

#[tokio::test]
async fn connecting_goes_on_until_the_database_is_back() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, 4).await;
    let session_id = new_session(&server).await;

    proxy.go_away();
    let before = proxy.opened();
    let mut sessions = server.sessions();
    let read = sessions.get_session(get(&session_id));
    let append = append(&server, &session_id, text("patient"));
    let back = async {
        // Not until both have tried and tried again.
        eventually("the server tries again", async || {
            (proxy.opened() >= before + 6).then_some(())
        })
        .await;
        proxy.come_back();
    };
    let (read, append, ()) = tokio::join!(read, append, back);
    read.expect("a session");
    assert_eq!(append.expect("a receipt").seq, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_stalled_connection_attempt_is_waited_for() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, 1).await;
    proxy.stall();
    let session_id = async { new_session(&server).await };
    let back = async {
        eventually("the server connects", async || (proxy.opened() > 0).then_some(())).await;
        proxy.come_back();
    };
    let (session_id, ()) = tokio::join!(session_id, back);
    append_and_read(&server, &session_id).await;
    server.stop().await;
}

#[tokio::test]
async fn reads_on_connections_that_have_just_been_broken_succeed() {
    const READERS: usize = 8;
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, READERS).await;
    let session_id = new_session(&server).await;
    append(&server, &session_id, text("kept"))
        .await
        .expect("a receipt");
    for round in 0..20 {
        // As many at a time as fill the pool.
        let readers = || (0..READERS).map(|_| messages_of(&server, &session_id));
        futures_util::future::join_all(readers()).await;
        // Some find out before they ask, and some while they wait for the answer.
        let breaking = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            proxy.break_all();
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(readers()), breaking);
        assert!(answers.iter().all(|messages| messages.len() == 1));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_is_run_again() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, 1).await;
    let session_id = new_session(&server).await;
    for _ in 0..3 {
        // Prepared by now, so there is one answer.
        server
            .sessions()
            .get_session(get(&session_id))
            .await
            .expect("a session");
        proxy.lose_answer(1);
        server
            .sessions()
            .get_session(get(&session_id))
            .await
            .expect("a session");
        assert!(proxy.has_lost_answer());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_write_that_is_no_append_is_not_run_twice() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, 1).await;
    new_user(&server).await;
    let request = pb::CreateUserRequest {
        email: "once@example.com".to_owned(),
        ..Default::default()
    };
    proxy.lose_answer(1);
    let refused = server.users().create_user(request.clone()).await;
    assert!(proxy.has_lost_answer());
    assert_unavailable(&refused.expect_err("it isn't known whether the user was created"));
    server.stop().await;
}

struct SessionContent {
    seqs: Vec<i64>,
    contents: Vec<String>,
}

async fn stored(client: &Client, session_id: &str) -> SessionContent {
    let sql = "SELECT seq, content FROM messages WHERE session_id = $1 ORDER BY seq";
    let session_id: uuid::Uuid = session_id.parse().expect("a UUID");
    let rows = client.query(sql, &[&session_id]).await.expect("rows");
    SessionContent {
        seqs: rows.iter().map(|row| row.get(0)).collect(),
        contents: rows.iter().map(|row| row.get(1)).collect(),
    }
}

/// Runs appends of one kind, each of which loses another of the database's answers, until one needed fewer
/// answers than that. Each must be stored once and acknowledged as it is stored.
async fn lose_each_answer(expected: bool, with_id: bool, least: u32) {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, 1).await;
    let client = database.client().await;
    let session_id = new_session(&server).await;
    let mut last_seq = 0;
    let mut next = async |content: &str| {
        let message = |part: &str| pb::NewMessage {
            message_id: with_id.then(id),
            citations: vec![citation("document", part, 0.5)],
            ..text(&format!("{content}{part}"))
        };
        let messages = vec![message("a"), message("b")];
        let ids: Vec<_> = messages
            .iter()
            .map(|message| message.message_id.clone())
            .collect();
        let receipts = append_batch(&server, &session_id, messages, expected.then_some(last_seq))
            .await
            .expect("receipts");
        for (receipt, id) in receipts.iter().zip(ids) {
            last_seq += 1;
            assert_eq!(receipt.seq, last_seq, "{content}");
            assert!(id.is_none_or(|id| id == receipt.message_id), "{content}");
            assert!(
                with_id || !receipt.deduplicated,
                "{content}: it is the first of its id"
            );
        }
        last_seq
    };

    let mut lost = 0;
    let last_seq = loop {
        // Prepares the statements on whichever connection is there.
        next(&format!("{lost} before ")).await;
        proxy.lose_answer(lost + 1);
        let last_seq = next(&format!("{lost} ")).await;
        if !proxy.has_lost_answer() {
            break last_seq;
        }
        lost += 1;
    };
    assert!(lost >= least, "only {lost} answers were lost");

    let stored = stored(&client, &session_id).await;
    assert_eq!(stored.seqs, (1..=last_seq).collect::<Vec<_>>());
    let expected: Vec<String> = (0..=lost)
        .flat_map(|n| {
            [
                format!("{n} before a"),
                format!("{n} before b"),
                format!("{n} a"),
                format!("{n} b"),
            ]
        })
        .collect();
    assert_eq!(stored.contents, expected);
    let citations: i64 = client
        .query_one("SELECT count(*) FROM message_citations", &[])
        .await
        .expect("a count")
        .get(0);
    assert_eq!(citations, last_seq);
    server.stop().await;
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_stored_once_and_acknowledged() {
    lose_each_answer(false, true, 1).await;
}

#[tokio::test]
async fn an_append_without_an_id_whose_answer_was_lost_is_stored_once_and_acknowledged() {
    lose_each_answer(false, false, 1).await;
}

#[tokio::test]
async fn an_append_in_a_transaction_is_stored_once_whichever_answer_was_lost() {
    // BEGIN, the locks, the look-up, the insert, COMMIT.
    lose_each_answer(true, true, 5).await;
}

#[tokio::test]
async fn an_append_in_a_transaction_without_an_id_is_stored_once_whichever_answer_was_lost() {
    lose_each_answer(true, false, 5).await;
}

#[tokio::test]
async fn appends_during_one_outage_after_the_other_are_stored_once_and_in_order() {
    const WRITERS: usize = 4;
    const EACH: usize = 50;
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = behind(&proxy, &database, WRITERS).await;
    let session_id = new_session(&server).await;
    let writer = async |writer: usize| {
        let mut receipts = Vec::new();
        for n in 0..EACH {
            let message = text_with_id(&id(), &format!("{writer}/{n}"));
            let receipt = eventually("an acknowledgement", async || {
                match append(&server, &session_id, message.clone()).await {
                    Ok(receipt) => Some(receipt),
                    Err(status) => {
                        assert_unavailable(&status);
                        None
                    }
                }
            })
            .await;
            receipts.push((receipt.seq, message.content));
        }
        receipts
    };
    let done = std::cell::Cell::new(false);
    let writers = async {
        let receipts = futures_util::future::join_all((0..WRITERS).map(&writer)).await;
        done.set(true);
        receipts.concat()
    };
    let outages = async {
        let mut outages = 0;
        while !done.get() {
            // After a while of whatever happens to be under way.
            let asked = proxy.asked();
            eventually("some bytes", async || {
                (done.get() || proxy.asked() > asked + 5_000).then_some(())
            })
            .await;
            proxy.break_all();
            outages += 1;
        }
        outages
    };
    let (mut receipts, outages) = tokio::join!(writers, outages);
    assert!(outages > 2, "only {outages} outages");
    receipts.sort();
    let stored = stored(&database.client().await, &session_id).await;
    assert_eq!(stored.seqs.len(), WRITERS * EACH);
    let stored: Vec<_> = stored.seqs.into_iter().zip(stored.contents).collect();
    assert_eq!(receipts, stored);
    server.stop().await;
}

#[tokio::test]
async fn connections_that_the_database_ends_are_replaced() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.db.pool_size = 2).await;
    let session_id = new_session(&server).await;
    let client = database.client().await;
    for _ in 0..5 {
        append_and_read(&server, &session_id).await;
        // As in a restart, or a serverless database that goes to sleep.
        let ended = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let ended: i64 = client.query_one(ended, &[]).await.expect("an end").get(0);
        assert!(ended >= 1);
        append_and_read(&server, &session_id).await;
    }
    server.stop().await;
}
