//! `WatchMessages` where several servers share the database: how one hears of the other's appends.

use std::time::Duration;

use futures_util::future::{join, join_all};

use crate::harness::*;

/// A server that polls too seldom for a test to wait for it.
async fn start_without_polls(database: &TestDatabase) -> TestServer {
    start_with(database, |options| {
        options.watch.safety_poll = Duration::from_hours(1);
    })
    .await
}

/// Until the server's connection that listens is there, so that what follows isn't heard by a poll.
pub async fn listening(database: &TestDatabase, count: usize) {
    let client = database.client().await;
    eventually("as many listen", async || {
        (listeners(&client).await.len() == count).then_some(())
    })
    .await;
}

async fn listeners(client: &tokio_postgres::Client) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[tokio::test]
async fn another_server_is_told_by_a_notification() {
    let database = TestDatabase::new().await;
    let (here, there) = (start(&database).await, start_without_polls(&database).await);
    let session = new_session(&here).await;
    let mut watch = watch(&there, &session, 0).await;
    watch.event().await;
    listening(&database, 1).await;
    for seq in 1..=20 {
        append(&here, &session, text("from here")).await.unwrap();
        assert_eq!(watch.message().await.seq, seq);
    }
}

#[tokio::test]
async fn many_sessions_are_told_as_all() {
    let database = TestDatabase::new().await;
    let (here, there) = (start(&database).await, start_without_polls(&database).await);
    // More than a notification has room for.
    let sessions = join_all((0..300).map(|_| new_session(&here))).await;
    let mut watches = Vec::new();
    // A connection has 200 streams.
    for session in sessions.iter().step_by(3) {
        watches.push(watch(&there, session, 0).await);
    }
    listening(&database, 1).await;
    let appends = join_all(
        sessions
            .iter()
            .map(async |session| append(&here, session, text("1")).await.unwrap()),
    );
    let reads = join_all(watches.iter_mut().map(async |watch| watch.message().await.seq));
    let (seqs, _) = join(reads, appends).await;
    assert!(seqs.iter().all(|&seq| seq == 1));
}

#[tokio::test]
async fn the_connection_that_listens_is_killed_while_messages_flow() {
    let database = TestDatabase::new().await;
    let (here, there) = (start(&database).await, start_without_polls(&database).await);
    let session = new_session(&here).await;
    let mut watch = watch(&there, &session, 0).await;
    let client = database.client().await;
    let appends = async {
        for _ in 0..5 {
            // Some go while it is away, since nobody waits for it to come back.
            for _ in 0..20 {
                append(&here, &session, text("flowing")).await.unwrap();
            }
            let pid = eventually("somebody listens", async || listeners(&client).await.pop()).await;
            client
                .execute("SELECT pg_terminate_backend($1)", &[&pid])
                .await
                .unwrap();
        }
    };
    let (messages, ()) = join(watch.messages_until(100), appends).await;
    assert_gapless(&messages);
}

#[tokio::test]
async fn behind_a_pooler_sessions_are_polled() {
    let database = TestDatabase::new().await;
    let here = start(&database).await;
    let there = start_with(&database, |options| options.listener = None).await;
    let session = new_session(&here).await;
    let mut watch = watch(&there, &session, 0).await;
    let (messages, ()) = join(watch.messages_until(10), async {
        for _ in 0..10 {
            append(&here, &session, text("polled")).await.unwrap();
        }
    })
    .await;
    assert_gapless(&messages);
    assert!(listeners(&database.client().await).await.is_empty());
}

#[tokio::test]
async fn what_people_insert_by_hand_is_told_as_well() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let mut watch = watch(&server, &session, 0).await;
    let insert =
        format!("INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'user', 'by hand')");
    database.client().await.batch_execute(&insert).await.unwrap();
    assert_eq!(watch.message().await.content, "by hand");
}

#[tokio::test]
async fn nothing_is_sent_while_nobody_watches_or_appends() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start(&database).await;
    let server = start_with(&database, |options| {
        options.connector = proxy.connector(&database);
        options.listener = Some(proxy.connector(&database));
    })
    .await;
    let session = new_session(&server).await;
    let client = database.client().await;

    let first = watch(&server, &session, 0).await;
    listening(&database, 1).await;
    drop(first);
    listening(&database, 0).await;
    eventually("nothing is sent", async || {
        // Longer than any poll would take, if there were one. (The last one may still be under way at first.)
        let before = (proxy.opened(), proxy.asked());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        ((proxy.opened(), proxy.asked()) == before).then_some(())
    })
    .await;

    // And it works again.
    let mut again = watch(&server, &session, 0).await;
    append(&server, &session, text("again")).await.unwrap();
    assert_eq!(again.message().await.seq, 1);
    assert_eq!(
        listeners(&client).await.len().min(1),
        listeners(&client).await.len()
    );
}

#[tokio::test]
async fn two_servers_and_their_watchers_see_the_same() {
    let database = TestDatabase::new().await;
    let servers = [start(&database).await, start(&database).await];
    let sessions = join_all((0..10).map(|_| new_session(&servers[0]))).await;
    let mut watches = Vec::new();
    for session in &sessions {
        for server in &servers {
            watches.push(watch(server, session, 0).await);
        }
    }
    let writers = sessions.iter().flat_map(|session| {
        servers.iter().map(async move |server| {
            for i in 0..30 {
                append(server, session, text(&i.to_string())).await.unwrap();
            }
        })
    });
    let reads = join_all(
        watches
            .iter_mut()
            .map(async |watch| watch.messages_until(60).await),
    );
    let (read, _) = join(reads, join_all(writers)).await;
    for both in read.chunks(2) {
        assert_gapless(&both[0]);
        assert_eq!(both[0], both[1]);
    }
}
