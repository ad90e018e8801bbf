//! Appends that something in the database refuses or changes, times that no clock has, and streams whose client
//! goes away: what is acknowledged is what is stored, and only who is at fault is refused.

use std::{cell::Cell, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use pb::append_result::Result as Of;
use tonic::{Code, transport::Endpoint};

use crate::harness::*;

fn frame(entries: Vec<(&str, pb::NewMessage)>) -> pb::StreamAppendMessagesRequest {
    let entries = entries.into_iter().map(|(session_id, message)| pb::AppendEntry {
        session_id: session_id.to_owned(),
        message: Some(message),
    });
    pb::StreamAppendMessagesRequest {
        entries: entries.collect(),
    }
}

/// What became of entries that are sent in one frame.
async fn send(server: &TestServer, entries: Vec<(&str, pb::NewMessage)>) -> Vec<Of> {
    let frames = stream::iter([frame(entries)]);
    let answers = server.messages().stream_append_messages(frames).await;
    let answers = answers.expect("a stream").into_inner();
    let results = answers.flat_map(|answer| stream::iter(answer.expect("a frame").results));
    results
        .map(|result| result.result.expect("a result"))
        .collect()
        .await
}

fn code(result: &Of) -> (i32, &str) {
    match result {
        Of::Receipt(_) => (0, ""),
        Of::Error(error) => (error.code, &error.reason),
    }
}

const REFUSED: (i32, &str) = (Code::FailedPrecondition as i32, "DATABASE_REFUSED");

/// A trigger of a team's own, before each message, with a body that may look at NEW.
async fn trigger(database: &TestDatabase, body: &str) {
    let sql = format!(
        "CREATE FUNCTION team() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
        CREATE TRIGGER a_team BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION team()"
    );
    database
        .client()
        .await
        .batch_execute(&sql)
        .await
        .expect("a trigger");
}

#[tokio::test]
async fn what_the_database_lacks_for_the_moment_is_unavailable() {
    let database = TestDatabase::new().await;
    trigger(
        &database,
        "IF length(NEW.content) = 5 THEN RAISE 'no' USING ERRCODE = NEW.content; END IF;",
    )
    .await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for code in [
        "53100", "53200", "57000", "57014", "58000", "58030", "58P01", "25P03", "25P04", "57P04",
    ] {
        let refusal = refusal(append(&server, &session, text(code)).await);
        assert_eq!(
            (refusal.code, refusal.reason.as_str(), refusal.retry),
            (Code::Unavailable, "DATABASE_UNAVAILABLE", true),
            "{code}"
        );
    }
    append(&server, &session, text("x")).await.expect("a receipt");
}

#[tokio::test]
async fn what_a_teams_trigger_or_constraint_refuses_harms_no_neighbour() {
    for (body, constraint) in [
        (
            "IF NEW.content = 'bad' THEN RAISE 'no: %', NEW.content; END IF;",
            None,
        ),
        (
            "IF NEW.content = 'bad' THEN RAISE SQLSTATE '42501'; END IF;",
            None,
        ),
        (
            "IF NEW.content = 'bad' THEN RAISE SQLSTATE '55000'; END IF;",
            None,
        ),
        ("IF NEW.content = 'bad' THEN PERFORM 1 / 0; END IF;", None),
        ("IF NEW.content = 'bad' THEN RETURN NULL; END IF;", None),
        ("", Some("team_check")),
    ] {
        let database = TestDatabase::new().await;
        trigger(&database, body).await;
        if let Some(name) = constraint {
            let sql = format!("ALTER TABLE messages ADD CONSTRAINT {name} CHECK (content <> 'bad')");
            database
                .client()
                .await
                .batch_execute(&sql)
                .await
                .expect("a constraint");
        }
        let server = start(&database).await;
        let (a, b) = (new_session(&server).await, new_session(&server).await);
        let cited = pb::NewMessage {
            citations: vec![citation("d", "c", 0.5)],
            ..text("cited")
        };
        let entries = vec![
            (&*a, text("a1")),
            (&*a, text("bad")),
            (&*b, text("b1")),
            (&*a, cited),
            (&*b, text("bad")),
            (&*a, text("a3")),
        ];
        let results = send(&server, entries).await;
        let codes: Vec<_> = results.iter().map(code).collect();
        assert_eq!(
            codes,
            [(0, ""), REFUSED, (0, ""), (0, ""), REFUSED, (0, "")],
            "{body}"
        );
        let Of::Error(error) = &results[1] else {
            unreachable!()
        };
        assert_eq!(error.metadata.get("constraint").map(String::as_str), constraint);
        assert!(!error.message.contains("bad"), "{}", error.message);
        let messages = messages_of(&server, &a).await;
        assert_gapless(&messages);
        let contents: Vec<&str> = messages.iter().map(|message| &*message.content).collect();
        assert_eq!(contents, ["a1", "cited", "a3"]);
        // A whole batch is refused for a part of it.
        let refused = append_batch(&server, &a, vec![text("x"), text("bad")], None).await;
        assert_refused(refused, Code::FailedPrecondition, "DATABASE_REFUSED");
        assert_eq!(append(&server, &a, text("a4")).await.expect("a receipt").seq, 4);
    }
}

#[tokio::test]
async fn a_receipt_tells_what_a_trigger_has_made_of_a_message() {
    let database = TestDatabase::new().await;
    trigger(&database, "NEW.created_at := '2001-02-03 04:05:06+00';").await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let receipt = append(&server, &session, text("x")).await.expect("a receipt");
    let stored = get_message(&server, &session, &receipt.message_id)
        .await
        .expect("a message");
    assert_eq!(receipt.create_time, stored.create_time);
    assert_eq!(receipt.create_time.expect("a time").seconds, 981_173_106);
}

#[tokio::test]
async fn a_citation_that_a_trigger_drops_keeps_its_message_out() {
    let database = TestDatabase::new().await;
    let sql = "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER a_none BEFORE INSERT ON message_citations FOR EACH ROW EXECUTE FUNCTION drop_it()";
    database
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect("a trigger");
    let server = start(&database).await;
    let session = new_session(&server).await;
    let cited = pb::NewMessage {
        citations: vec![citation("d", "c", 0.5)],
        ..text("cited")
    };
    let refused = append(&server, &session, cited).await;
    assert_refused(refused, Code::FailedPrecondition, "DATABASE_REFUSED");
    assert_eq!(
        append(&server, &session, text("plain"))
            .await
            .expect("a receipt")
            .seq,
        1
    );
}

#[tokio::test]
async fn times_that_no_clock_has_stop_nobody() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.ledger.lanes = 1).await;
    let hand = database.client().await;
    let neighbour = new_session(&server).await;
    for time in [
        "infinity",
        "-infinity",
        "9999-12-31 23:59:59+00",
        "294276-12-31 23:59:59.999999+00",
    ] {
        let session = new_session(&server).await;
        let sql = format!("UPDATE chat_sessions SET last_message_at = '{time}' WHERE id = '{session}'");
        hand.batch_execute(&sql).await.expect("a time");
        for seq in 1..=2 {
            let entries = vec![
                (&*session, text("odd")),
                (&*neighbour, text("even")),
                (&*session, text("odd")),
            ];
            let results = send(&server, entries).await;
            assert!(
                results.iter().all(|result| code(result).0 == 0),
                "{time} {seq}: {results:?}"
            );
        }
        assert_eq!(messages_of(&server, &session).await.len(), 4, "{time}");
        let list = pb::GetSessionRequest { session_id: session };
        server.sessions().get_session(list).await.expect("a session");
    }
    assert_gapless(&messages_of(&server, &neighbour).await);
}

#[tokio::test]
async fn entries_refused_for_the_moment_are_not_overtaken_on_their_stream() {
    let database = TestDatabase::new().await;
    let body = "IF NEW.content = 'later' AND NOT EXISTS (SELECT FROM documents)
        THEN RAISE SQLSTATE '55P03'; END IF;";
    trigger(&database, body).await;
    // One lane, so that both sessions are in one batch.
    let server = start_with(&database, |options| options.ledger.lanes = 1).await;
    let (a, b) = (new_session(&server).await, new_session(&server).await);
    let sent: Vec<_> = ["a1", "later", "a3", "a4"]
        .map(|content| (&*a, text_with_id(&id(), content)))
        .into();
    let with_b: Vec<_> = sent.iter().cloned().chain([(&*b, text("b1"))]).collect();
    let results = send(&server, with_b).await;
    let codes: Vec<_> = results.iter().map(code).collect();
    let overloaded = (Code::ResourceExhausted as i32, "OVERLOADED");
    assert_eq!(codes[1..], [overloaded, overloaded, overloaded, (0, "")]);
    // On another stream they are taken, in the order in which they are sent.
    let sql = "INSERT INTO documents (id, title) VALUES ('d', 'd')";
    database
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect("a document");
    let results = send(&server, sent).await;
    assert!(results.iter().all(|result| code(result).0 == 0), "{results:?}");
    let messages = messages_of(&server, &a).await;
    let contents: Vec<&str> = messages.iter().map(|message| &*message.content).collect();
    assert_eq!(contents, ["a1", "later", "a3", "a4"]);
}

#[tokio::test]
async fn what_is_stored_of_a_stream_that_was_cut_is_a_prefix_of_what_was_sent() {
    const SESSIONS: usize = 3;
    const ENTRIES: usize = 300;
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| options.ledger.lanes = 2).await;
    let cut = async |round: usize| {
        let sessions: Vec<String> = join_all((0..SESSIONS).map(|_| new_session(&server))).await;
        // A connection of its own, which is dropped with the stream.
        let channel = Endpoint::from_shared(format!("http://{}", server.address))
            .expect("an endpoint")
            .connect_lazy();
        let mut client = pb::message_service_client::MessageServiceClient::new(channel);
        let frames: Vec<_> = (0..ENTRIES)
            .map(|i| frame(vec![(&*sessions[i % SESSIONS], text(&i.to_string()))]))
            .collect();
        let answers = client.stream_append_messages(stream::iter(frames)).await;
        let mut answers = answers.expect("a stream").into_inner();
        let mut acknowledged = 0;
        // Another moment in each round.
        while acknowledged < round * 7 % (ENTRIES - 50) {
            match answers.message().await.expect("a frame") {
                Some(answer) => acknowledged += answer.results.len(),
                None => break,
            }
        }
        drop(answers);
        (sessions, acknowledged)
    };
    for (sessions, acknowledged) in join_all((1..=60).map(cut)).await {
        let mut stored = 0;
        for (s, session) in sessions.iter().enumerate() {
            // What is being committed when the stream is cut is still stored.
            let before = Cell::new(usize::MAX);
            let messages = eventually("nothing more is stored", async || {
                let messages = messages_of(&server, session).await;
                (before.replace(messages.len()) == messages.len()).then_some(messages)
            })
            .await;
            stored += messages.len();
            for (message, expected) in messages.iter().zip((s..ENTRIES).step_by(SESSIONS)) {
                assert_eq!(message.content, expected.to_string(), "no hole");
            }
        }
        assert!(stored >= acknowledged, "{stored} stored of {acknowledged}");
    }
}

#[tokio::test]
async fn appends_whose_callers_have_gone_give_their_room_back_at_once() {
    let database = TestDatabase::new().await;
    let server = start_with(&database, |options| {
        options.ledger.lanes = 1;
        options.ledger.queue_rows = 8;
    })
    .await;
    let session = new_session(&server).await;
    let lock = SessionLock::on_session(&database, &session).await;
    // Each leaves long before the lock is given up.
    for _ in 0..40 {
        let gone =
            tokio::time::timeout(Duration::from_millis(20), append(&server, &session, text("gone"))).await;
        assert!(
            gone.is_err(),
            "nothing is answered while the session is held: {gone:?}"
        );
    }
    let free = new_session(&server).await;
    append(&server, &free, text("finds room"))
        .await
        .expect("a receipt");
    lock.release().await;
}
