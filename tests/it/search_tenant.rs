//! SearchMessages over all of a tenant's messages, with the opt-in index.

use std::sync::Arc;

use chatledger::store;

use crate::harness::{process::chatledger, *};

/// A database with the index.
async fn indexed() -> TestDatabase {
    let database = TestDatabase::new().await;
    let mut up = chatledger();
    up.env("DATABASE_URL", database.url())
        .args(["migrate", "up", "--with", "search"]);
    let ran = up.output().expect("chatledger");
    assert!(ran.status.success(), "{ran:?}");
    database
}

async fn search(server: &TestServer, query: &str, fields: &[pb::SearchField]) -> Vec<String> {
    let request = pb::SearchMessagesRequest {
        query: query.to_owned(),
        fields: fields.iter().map(|&field| field.into()).collect(),
        ..Default::default()
    };
    let mut hits: Vec<String> = answer(server.messages().search_messages(request).await)
        .hits
        .into_iter()
        .map(|hit| hit.message.expect("a message").content)
        .collect();
    hits.sort();
    hits
}

#[tokio::test]
async fn it_finds_what_the_searches_in_every_session_find() {
    let database = indexed().await;
    let server = start(&database).await;
    let texts = [
        ("a robot arm", Some("drives a motor")),
        ("a motor", Some("robot")),
        ("it's the arm's motor", None),
        ("nothing", Some("arm")),
        ("back\\slash 'quoted' robot-arm", None),
    ];
    let user = new_user(&server).await;
    let mut sessions = Vec::new();
    for (i, (content, selected_text)) in texts.iter().enumerate() {
        let session = new_session_of(&server, (i % 2 == 0).then_some(user.id.as_str()))
            .await
            .id;
        let message = pb::NewMessage {
            selected_text: selected_text.map(str::to_owned),
            ..text(content)
        };
        append(&server, &session, message).await.expect("a receipt");
        sessions.push(session);
    }
    let (content, selected) = (pb::SearchField::Content, pb::SearchField::SelectedText);
    let all: &[&[pb::SearchField]] = &[&[], &[content], &[selected], &[content, selected]];
    for query in [
        "robot",
        "arm motor",
        "robot -motor",
        "\"robot arm\"",
        "arm or motor",
        "-robot",
        "it's",
        "'x",
        "robot-arm",
    ] {
        for fields in all {
            let mut expected = Vec::new();
            for session in &sessions {
                let request = pb::SearchMessagesRequest {
                    query: query.to_owned(),
                    session_id: Some(session.clone()),
                    fields: fields.iter().map(|&field| field.into()).collect(),
                    ..Default::default()
                };
                let hits = answer(server.messages().search_messages(request).await).hits;
                expected.extend(
                    hits.into_iter()
                        .map(|hit| hit.message.expect("a message").content),
                );
            }
            expected.sort();
            assert_eq!(
                search(&server, query, fields).await,
                expected,
                "{query} in {fields:?}"
            );
        }
    }
    assert_eq!(search(&server, "arm motor", &[]).await.len(), 2);
    // Not what was deleted, and not another tenant's.
    clear_messages(&server, &sessions[0]).await.expect("a count");
    let foreign = "WITH s AS (INSERT INTO chat_sessions (tenant_id) VALUES ('other') RETURNING id)
        INSERT INTO messages (session_id, seq, role, content) SELECT id, 1, 'user', 'robot' FROM s";
    database
        .client()
        .await
        .batch_execute(foreign)
        .await
        .expect("a row");
    assert_eq!(
        search(&server, "robot", &[]).await,
        ["a motor", "back\\slash 'quoted' robot-arm"]
    );
    server.stop().await;
}

#[tokio::test]
async fn it_is_found_by_the_index() {
    let database = indexed().await;
    let client = database.client().await;
    let rows = "INSERT INTO chat_sessions DEFAULT VALUES;
        INSERT INTO messages (session_id, seq, role, content)
            SELECT id, n, 'user', 'word' || n FROM chat_sessions, generate_series(1, 20000) n;
        ANALYZE";
    client.batch_execute(rows).await.expect("rows");
    let server = start(&database).await;
    assert_eq!(search(&server, "word77", &[]).await, ["word77"]);
    // A connection tells what it has used at its end.
    server.stop().await;
    eventually("the index was used", async || {
        let used =
            "SELECT FROM pg_stat_user_indexes WHERE indexrelname = 'messages_search_idx' AND idx_scan > 0";
        let used = client.query(used, &[]).await.expect("statistics");
        (!used.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_index_for_another_language_is_not_taken() {
    let database = indexed().await;
    let settings = |config: &'static str| {
        let limits = Arc::new(chatledger::domain::Limits::default());
        let db = chatledger_postgres::Db::new(
            database.connector(),
            chatledger_postgres::DbOptions {
                pool_size: 1,
                wait_timeout: PATIENCE,
                connect_for: PATIENCE,
                attempt_limit: PATIENCE,
                pooled: false,
            },
        );
        store::Store::new(
            db.expect("a pool"),
            limits,
            chatledger::migrations::Scope::All,
            config,
        )
    };
    let caller = chatledger::auth::Caller::local_service(None);
    let search = |query: &str| chatledger::domain::message::Search {
        query: query.to_owned(),
        page: chatledger::domain::page::Page {
            size: 10,
            after: None,
        },
        user_id: None,
        session_id: None,
        roles: Vec::new(),
        in_content: true,
        in_selected_text: true,
    };
    settings("english")
        .search_messages(&caller, &search("x"))
        .await
        .expect("hits");
    let refused = settings("german").search_messages(&caller, &search("x")).await;
    let message = refused.expect_err("another language").to_string();
    assert!(message.contains("german"), "{message}");
}
