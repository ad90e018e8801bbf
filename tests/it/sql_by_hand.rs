//! People insert messages and citations by hand, in SQL that knows nothing of seq, beside the server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::harness::*;

/// As their drivers do it.
const INSERT: &str = "INSERT INTO messages (session_id, role, content, selected_text, metadata)
    VALUES ($1, $2, $3, $4, $5::text::jsonb)";

const CITE: &str = "INSERT INTO message_citations (message_id, document_id, chunk_id, score, citation_index)
    VALUES ($1, 'module-1-ros2', 'chunk_023', 0.89, 1), ($1, 'module-2-gazebo', 'chunk_045', 0.82, 2)";

fn uuid(text: &str) -> Uuid {
    text.parse().expect("a UUID")
}

/// A message with two citations.
async fn insert_cited(client: &Client, session: Uuid, content: &str) -> Uuid {
    let selected: Option<&str> = None;
    let insert = format!("{INSERT} RETURNING id");
    let row = client
        .query_one(&insert, &[&session, &"assistant", &content, &selected, &"{}"])
        .await
        .expect("an insert");
    let id: Uuid = row.get(0);
    assert_eq!(client.execute(CITE, &[&id]).await.expect("citations"), 2);
    id
}

async fn last_seq(client: &Client, session: Uuid) -> i64 {
    client
        .query_one("SELECT last_seq FROM chat_sessions WHERE id = $1", &[&session])
        .await
        .expect("a session")
        .get(0)
}

#[tokio::test]
async fn messages_and_citations_by_hand_are_the_servers_as_well() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let client = database.client().await;
    append(&server, &session, text("by the server"))
        .await
        .expect("a receipt");
    client
        .execute(
            INSERT,
            &[
                &uuid(&session),
                &"user",
                &"What does this mean?",
                &Some("ROS 2 uses DDS for communication"),
                &r#"{"tokens": 12}"#,
            ],
        )
        .await
        .expect("an insert");
    let answer = insert_cited(&client, uuid(&session), "It means …").await;
    append(&server, &session, text("by the server"))
        .await
        .expect("a receipt");

    let messages = messages_of(&server, &session).await;
    assert_gapless(&messages);
    assert_eq!(messages.len(), 4);
    assert_eq!(
        messages[1].selected_text.as_deref(),
        Some("ROS 2 uses DDS for communication")
    );
    assert_eq!(messages[1].metadata_json, r#"{"tokens": 12}"#);
    assert_eq!(messages[2].id, answer.to_string());
    let cited: Vec<_> = messages[2]
        .citations
        .iter()
        .map(|c| {
            (
                c.document_id.as_str(),
                c.chunk_id.as_str(),
                c.score,
                c.citation_index,
            )
        })
        .collect();
    assert_eq!(
        cited,
        [
            ("module-1-ros2", "chunk_023", 0.89, 1),
            ("module-2-gazebo", "chunk_045", 0.82, 2)
        ]
    );
    // And they can be changed like any other.
    let added = add_citations(
        &server,
        &session,
        &answer.to_string(),
        vec![citation("d", "", 0.5)],
    )
    .await
    .expect("citations");
    assert_eq!(added[0].citation_index, 3);
    let retry = pb::NewMessage {
        role: pb::Role::Assistant.into(),
        ..text_with_id(&answer.to_string(), "It means …")
    };
    let receipt = append(&server, &session, retry).await.expect("a receipt");
    assert_eq!((receipt.seq, receipt.deduplicated), (3, true));
    delete_message(&server, &session, &answer.to_string())
        .await
        .expect("a deletion");
    let session = get_session(&server, &session).await;
    assert_eq!(session.last_seq, 4);
    assert_eq!(session.last_message_time, messages[3].create_time);
}

#[tokio::test]
async fn times_by_hand_never_go_back_nor_ahead() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let client = database.client().await;
    let times = [
        "NOW()",
        "NOW() - interval '1 day'",
        "NOW() + interval '1 day'",
        "NULL",
        "clock_timestamp()",
        "'-infinity'",
        "'infinity'",
    ];
    for time in times {
        let insert = format!(
            "INSERT INTO messages (session_id, role, content, created_at)
             VALUES ('{session}', 'user', 'x', {time}), ('{session}', 'assistant', 'y', {time})"
        );
        assert_eq!(
            client.execute(&insert, &[]).await.expect("an insert"),
            2,
            "{time}"
        );
        append(&server, &session, text("by the server"))
            .await
            .expect("a receipt");
    }
    let messages = messages_of(&server, &session).await;
    assert_gapless(&messages);
    assert_eq!(messages.len(), 3 * times.len());
    let ahead: bool = client
        .query_one("SELECT max(created_at) > clock_timestamp() FROM messages", &[])
        .await
        .expect("a time")
        .get(0);
    assert!(!ahead);
}

#[tokio::test]
async fn a_first_message_with_an_old_time_keeps_it() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let client = database.client().await;
    let insert = format!(
        "INSERT INTO messages (session_id, role, content, created_at) VALUES
         ('{session}', 'user', 'x', '2024-01-15T10:30:00Z'), ('{session}', 'assistant', 'y', '2024-01-15T10:30:05Z')"
    );
    client.execute(&insert, &[]).await.expect("an insert");
    let messages = messages_of(&server, &session).await;
    assert_gapless(&messages);
    let times: Vec<_> = messages
        .iter()
        .map(|message| micros(message.create_time.as_ref()) / 1_000_000)
        .collect();
    assert_eq!(times, [1_705_314_600, 1_705_314_605]);
}

#[tokio::test]
async fn times_that_no_client_can_hold_are_read_as_the_first_or_the_last() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let client = database.client().await;
    let sql = format!(
        "INSERT INTO messages (session_id, seq, role, content, created_at) VALUES
            ('{session}', 1, 'user', 'early', '-infinity'), ('{session}', 2, 'user', 'late', 'infinity')"
    );
    client.batch_execute(&sql).await.expect("two messages");
    let times = messages_of(&server, &session).await.into_iter().map(|message| {
        let time = message.create_time.expect("a time");
        time.seconds
    });
    let times: Vec<i64> = times.collect();
    assert_eq!(times[0], -62_135_596_800, "0001-01-01");
    assert!(times[1] > 253_402_000_000, "9999-12-30 or so");
}

#[tokio::test]
async fn an_insert_that_conflicts_spends_no_seq() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (session, other) = (new_session(&server).await, new_session(&server).await);
    let client = database.client().await;
    let (stored, deleted, elsewhere) = (id(), id(), id());
    for message_id in [&stored, &deleted] {
        append(&server, &session, text_with_id(message_id, "x"))
            .await
            .expect("a receipt");
    }
    append(&server, &other, text_with_id(&elsewhere, "x"))
        .await
        .expect("a receipt");
    append(&server, &session, text_with_id(&elsewhere, "x"))
        .await
        .expect("a receipt");
    delete_message(&server, &session, &deleted)
        .await
        .expect("a deletion");
    for message_id in [&stored, &deleted, &elsewhere] {
        let insert = format!(
            "INSERT INTO messages (id, session_id, role, content) VALUES ('{message_id}', '{session}', 'user', 'y')"
        );
        let skipped = client
            .execute(&format!("{insert} ON CONFLICT (id) DO NOTHING"), &[])
            .await
            .expect("an insert");
        assert_eq!(skipped, 0);
        let error = client.execute(&insert, &[]).await.expect_err("a conflict");
        let error = error.as_db_error().expect("the database's");
        assert_eq!(error.constraint(), Some("messages_pkey"));
    }
    // New ones among old ones are numbered without a gap.
    let new = id();
    let insert = format!(
        "INSERT INTO messages (id, session_id, role, content) VALUES
         ('{stored}', '{session}', 'user', 'y'), ('{new}', '{session}', 'user', 'new'),
         ('{new}', '{session}', 'user', 'again'), ('{}', '{session}', 'user', 'newer')
         ON CONFLICT (id) DO NOTHING",
        id()
    );
    assert_eq!(client.execute(&insert, &[]).await.expect("an insert"), 2);
    assert_eq!(last_seq(&client, uuid(&session)).await, 5);
    let messages = messages_of(&server, &session).await;
    assert_eq!(seqs(&messages), [1, 3, 4, 5]);
    assert_eq!(messages[2].content, "new");
    // A statement that fails leaves nothing behind.
    let insert = format!(
        "INSERT INTO messages (session_id, role, content) VALUES
         ('{session}', 'user', 'x'), ('{session}', 'robot', 'y')"
    );
    client.execute(&insert, &[]).await.expect_err("a bad role");
    assert_eq!(last_seq(&client, uuid(&session)).await, 5);
}

#[tokio::test]
async fn an_update_on_conflict_changes_the_stored_row() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let client = database.client().await;
    let message_id = id();
    for n in 1..=3 {
        let insert = format!(
            "INSERT INTO messages (id, session_id, role, content, metadata)
             VALUES ('{message_id}', '{session}', 'user', 'x', '{{\"n\": {n}}}')
             ON CONFLICT (id) DO UPDATE SET metadata = EXCLUDED.metadata RETURNING seq"
        );
        let seq: i64 = client.query_one(&insert, &[]).await.expect("an insert").get(0);
        assert_eq!(seq, 1);
        let message = get_message(&server, &session, &message_id)
            .await
            .expect("a message");
        assert_eq!(message.metadata_json, format!("{{\"n\": {n}}}"));
    }
    assert_eq!(last_seq(&client, uuid(&session)).await, 1);
}

#[tokio::test]
async fn an_id_of_another_session_may_be_inserted_by_hand() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (first, second) = (new_session(&server).await, new_session(&server).await);
    let client = database.client().await;
    let message_id = id();
    append(&server, &first, text_with_id(&message_id, "first"))
        .await
        .expect("a receipt");
    let insert = format!(
        "INSERT INTO messages (id, session_id, role, content) VALUES ('{message_id}', '{second}', 'user', 'second')"
    );
    client.execute(&insert, &[]).await.expect("an insert");
    for (session, content) in [(&first, "first"), (&second, "second")] {
        let message = get_message(&server, session, &message_id)
            .await
            .expect("a message");
        assert_eq!((message.content.as_str(), message.seq), (content, 1));
    }
    let retry = append(&server, &second, text_with_id(&message_id, "second")).await;
    assert!(retry.expect("a receipt").deduplicated);
}

#[tokio::test]
async fn what_names_nothing_is_refused_by_the_foreign_key() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let selected: Option<&str> = None;
    let nobody = Uuid::now_v7();
    for (error, constraint) in [
        (
            client
                .execute(INSERT, &[&nobody, &"user", &"x", &selected, &"{}"])
                .await,
            "messages_session_fkey",
        ),
        (
            client.execute(CITE, &[&nobody]).await,
            "message_citations_message_fkey",
        ),
    ] {
        let error = error.expect_err("a violation");
        let error = error.as_db_error().expect("the database's");
        assert_eq!(error.constraint(), Some(constraint));
        assert_eq!(
            *error.code(),
            tokio_postgres::error::SqlState::FOREIGN_KEY_VIOLATION
        );
    }
}

#[tokio::test]
async fn citations_by_hand_need_only_their_message_and_document() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let receipt = append(&server, &session, text("x")).await.expect("a receipt");
    let client = database.client().await;
    for document in ["a", "b"] {
        let insert = format!(
            "INSERT INTO message_citations (message_id, document_id) VALUES ('{}', '{document}')",
            receipt.message_id
        );
        client.execute(&insert, &[]).await.expect("an insert");
    }
    let message = get_message(&server, &session, &receipt.message_id)
        .await
        .expect("a message");
    let cited: Vec<_> = message
        .citations
        .iter()
        .map(|c| {
            (
                c.document_id.as_str(),
                c.chunk_id.as_str(),
                c.score,
                c.citation_index,
            )
        })
        .collect();
    assert_eq!(cited, [("a", "", 0.0, 1), ("b", "", 0.0, 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hands_and_servers_make_one_gapless_sequence_whose_times_agree() {
    const EACH: usize = 25;
    let database = TestDatabase::new().await;
    let servers = Arc::new([start(&database).await, start(&database).await]);
    let session = new_session(&servers[0]).await;
    let done = Arc::new(AtomicBool::new(false));

    let mut tasks = Vec::new();
    for writer in 0..4 {
        let (servers, session) = (Arc::clone(&servers), session.clone());
        tasks.push(tokio::spawn(async move {
            for n in 0..EACH {
                let message = pb::NewMessage {
                    citations: vec![citation("d", "c", 0.5)],
                    ..text_with_id(&id(), "by a server")
                };
                append(&servers[(writer + n) % 2], &session, message)
                    .await
                    .expect("a receipt");
            }
        }));
    }
    for hand in 0..4 {
        let client = database.client().await;
        let session = uuid(&session);
        tasks.push(tokio::spawn(async move {
            for n in 0..EACH {
                match (hand + n) % 4 {
                    // A plain one with citations, one at a time of its own, and two in a transaction that
                    // takes a while.
                    0 => drop(insert_cited(&client, session, "by hand").await),
                    1 => {
                        let insert = format!(
                            "INSERT INTO messages (session_id, role, content, created_at)
                             VALUES ('{session}', 'user', 'by hand', NOW()) RETURNING id"
                        );
                        client.query_one(&insert, &[]).await.expect("an insert");
                    }
                    2 => {
                        let insert = format!(
                            "BEGIN; SELECT now();
                             INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'user', 'by hand');
                             SELECT count(*) FROM messages;
                             INSERT INTO messages (session_id, role, content, created_at)
                             VALUES ('{session}', 'user', 'by hand', NOW()); COMMIT"
                        );
                        client.batch_execute(&insert).await.expect("a transaction");
                    }
                    // One that is undone: nobody sees it, and its seq goes to another.
                    _ => {
                        let insert = format!(
                            "BEGIN; INSERT INTO messages (session_id, role, content)
                             VALUES ('{session}', 'user', 'never'); ROLLBACK"
                        );
                        client.batch_execute(&insert).await.expect("a transaction");
                    }
                }
            }
        }));
    }
    let reader = tokio::spawn({
        let (servers, session, done) = (Arc::clone(&servers), session.clone(), Arc::clone(&done));
        async move {
            let mut seen: Vec<(i64, String)> = Vec::new();
            loop {
                let last_round = done.load(Ordering::SeqCst);
                let messages = messages_of(&servers[0], &session).await;
                assert_gapless(&messages);
                let now: Vec<_> = messages.into_iter().map(|m| (m.seq, m.id)).collect();
                assert_eq!(now[..seen.len()], seen);
                seen = now;
                if last_round {
                    return;
                }
            }
        }
    });
    for task in join_all(tasks).await {
        task.expect("a writer");
    }
    done.store(true, Ordering::SeqCst);
    reader.await.expect("the reader");

    let client = database.client().await;
    let by_seq = "SELECT array_agg(seq ORDER BY seq) FROM messages";
    let by_time = "SELECT array_agg(seq ORDER BY created_at) FROM messages";
    let by_seq: Vec<i64> = client.query_one(by_seq, &[]).await.expect("seqs").get(0);
    let by_time: Vec<i64> = client.query_one(by_time, &[]).await.expect("seqs").get(0);
    assert_eq!(by_seq, by_time);
    // Each hand's turns: of four, one message, one, two and none.
    let by_hand: i64 = client
        .query_one("SELECT count(*) FROM messages WHERE content = 'by hand'", &[])
        .await
        .expect("a count")
        .get(0);
    let turns: usize = (0..4)
        .map(|hand| (0..EACH).map(|n| [1, 1, 2, 0][(hand + n) % 4]).sum::<usize>())
        .sum();
    assert_eq!(usize::try_from(by_hand).expect("a count"), turns);
    assert_eq!(by_seq.len(), turns + 4 * EACH);
    assert_eq!(
        usize::try_from(last_seq(&client, uuid(&session)).await).expect("a seq"),
        by_seq.len()
    );
}
