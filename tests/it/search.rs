//! SearchMessages.

use std::fmt::Write;

use tonic::{Code, Status};

use crate::harness::*;

async fn search(
    server: &TestServer,
    request: &pb::SearchMessagesRequest,
) -> Result<pb::SearchMessagesResponse, Status> {
    let response = server.messages().search_messages(request.clone()).await?;
    Ok(response.into_inner())
}

fn in_session(session: &str, query: &str) -> pb::SearchMessagesRequest {
    pb::SearchMessagesRequest {
        query: query.to_owned(),
        session_id: Some(session.to_owned()),
        ..Default::default()
    }
}

fn of_user(user: &str, query: &str) -> pb::SearchMessagesRequest {
    pb::SearchMessagesRequest {
        query: query.to_owned(),
        user_id: Some(user.to_owned()),
        ..Default::default()
    }
}

fn in_tenant(query: &str) -> pb::SearchMessagesRequest {
    pb::SearchMessagesRequest {
        query: query.to_owned(),
        ..Default::default()
    }
}

/// What a search finds, best first.
async fn found(server: &TestServer, request: &pb::SearchMessagesRequest) -> Vec<String> {
    let hits = search(server, request).await.expect("hits").hits;
    assert!(hits.is_sorted_by(|a, b| a.rank >= b.rank));
    hits.into_iter()
        .map(|hit| hit.message.expect("a message").content)
        .collect()
}

/// A session with a message of each text.
async fn session_with(server: &TestServer, user: Option<&str>, texts: &[&str]) -> String {
    let session = new_session_of(server, user).await.id;
    let messages = texts.iter().map(|content| text(content)).collect();
    append_batch(server, &session, messages, None)
        .await
        .expect("receipts");
    session
}

#[tokio::test]
async fn words_phrases_alternatives_and_exclusions_are_understood() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = session_with(
        &server,
        None,
        &[
            "The robot arm moves",
            "An arm of the robot",
            "Robots everywhere",
            "Sensors",
        ],
    )
    .await;
    for (query, mut expected) in [
        (
            "robot",
            vec!["The robot arm moves", "An arm of the robot", "Robots everywhere"],
        ),
        (
            "ROBOTS",
            vec!["The robot arm moves", "An arm of the robot", "Robots everywhere"],
        ),
        ("robot arm", vec!["The robot arm moves", "An arm of the robot"]),
        ("\"robot arm\"", vec!["The robot arm moves"]),
        ("robot -arm", vec!["Robots everywhere"]),
        (
            "robot -\"robot arm\"",
            vec!["An arm of the robot", "Robots everywhere"],
        ),
        ("sensor or everywhere", vec!["Sensors", "Robots everywhere"]),
        ("gripper", vec![]),
        // Stop words, or nothing, only.
        ("the of", vec![]),
        ("!!! '' \\ & | :* <->", vec![]),
        ("\"unbalanced robot", vec![]),
    ] {
        let mut found = found(&server, &in_session(&session, query)).await;
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn the_better_match_comes_first_with_its_message_title_and_snippet() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::CreateSessionRequest {
        title: Some("About robots".to_owned()),
        ..Default::default()
    };
    let created = server.sessions().create_session(request).await;
    let session = created
        .expect("a session")
        .into_inner()
        .session
        .expect("a session");
    let long = format!("{} robot {}", "filler ".repeat(200), "padding ".repeat(200));
    append(&server, &session.id, text(&long))
        .await
        .expect("a receipt");
    let best = pb::NewMessage {
        citations: vec![citation("d", "c", 0.5)],
        ..text("robot robot robot")
    };
    append(&server, &session.id, best).await.expect("a receipt");
    let hits = search(&server, &in_session(&session.id, "robot"))
        .await
        .expect("hits")
        .hits;
    assert_eq!(hits.len(), 2);
    assert!(hits[0].rank > hits[1].rank && hits[1].rank > 0.0);
    let message = hits[0].message.as_ref().expect("a message");
    assert_eq!(
        *message,
        get_message(&server, &session.id, &message.id)
            .await
            .expect("a message")
    );
    assert_eq!(message.citations.len(), 1);
    assert_eq!(hits[0].snippet, "<b>robot</b> <b>robot</b> <b>robot</b>");
    assert!(hits[1].snippet.contains("<b>robot</b>"));
    assert!(hits[1].snippet.len() < 1000, "{}", hits[1].snippet);
    for hit in &hits {
        assert_eq!(hit.session_title, "About robots");
    }
}

#[tokio::test]
async fn roles_and_fields_narrow_the_search() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    for (role, content, selected) in [
        (pb::Role::User, "robot asked", Some("unrelated")),
        (pb::Role::Assistant, "answered", Some("the robot was selected")),
        (pb::Role::Tool, "robot tool", None),
        (pb::Role::User, "I love my robot", Some("arm wrestling")),
    ] {
        let message = pb::NewMessage {
            role: role.into(),
            selected_text: selected.map(str::to_owned),
            ..text(content)
        };
        append(&server, &session, message).await.expect("a receipt");
    }
    let (content, selected) = (pb::SearchField::Content, pb::SearchField::SelectedText);
    let check = async |query: &str, roles: &[pb::Role], fields: &[pb::SearchField], expected: &[&str]| {
        let request = pb::SearchMessagesRequest {
            roles: roles.iter().map(|&role| role.into()).collect(),
            fields: fields.iter().map(|&field| field.into()).collect(),
            ..in_session(&session, query)
        };
        let mut found = found(&server, &request).await;
        found.sort();
        assert_eq!(found, expected, "{query} {roles:?} {fields:?}");
    };
    let all = ["I love my robot", "answered", "robot asked", "robot tool"];
    check("robot", &[], &[], &all).await;
    check("robot", &[], &[content, selected], &all).await;
    check(
        "robot",
        &[],
        &[content],
        &["I love my robot", "robot asked", "robot tool"],
    )
    .await;
    check("robot", &[], &[selected], &["answered"]).await;
    check(
        "robot",
        &[pb::Role::User],
        &[],
        &["I love my robot", "robot asked"],
    )
    .await;
    check(
        "robot",
        &[pb::Role::Tool, pb::Role::Assistant],
        &[],
        &["answered", "robot tool"],
    )
    .await;
    check("robot", &[pb::Role::System], &[], &[]).await;
    // Words may be spread over both texts, a phrase is in one of them.
    check("robot wrestling", &[], &[], &["I love my robot"]).await;
    check("\"robot arm\"", &[], &[], &[]).await;
    check("\"robot of arm\"", &[], &[], &[]).await;
    check("\"arm wrestling\"", &[], &[], &["I love my robot"]).await;
    // The snippet is of the text that matches.
    let request = in_session(&session, "\"was selected\" or wrestling or selected");
    let hits = search(&server, &request).await.expect("hits").hits;
    assert_eq!(hits.len(), 2);
    for hit in hits {
        let selected = hit.message.expect("a message").selected_text.expect("a text");
        assert!(hit.snippet.contains("<b>"), "{}", hit.snippet);
        let plain = hit.snippet.replace("<b>", "").replace("</b>", "");
        assert!(selected.contains(&plain), "{plain}");
    }
}

#[tokio::test]
async fn nobody_elses_messages_are_found() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let (ours, theirs) = (new_user(&server).await.id, new_user(&server).await.id);
    let session = session_with(&server, Some(&ours), &["our robot"]).await;
    session_with(&server, Some(&ours), &["our other robot"]).await;
    let their_session = session_with(&server, Some(&theirs), &["their robot"]).await;
    let anonymous = session_with(&server, None, &["nobody's robot"]).await;
    let client = database.client().await;
    client
        .batch_execute(
            "WITH s AS (INSERT INTO chat_sessions (tenant_id) VALUES ('other') RETURNING id)
             INSERT INTO messages (session_id, seq, role, content) SELECT id, 1, 'user', 'foreign robot' FROM s",
        )
        .await
        .expect("another tenant's message");
    let foreign: uuid::Uuid = client
        .query_one("SELECT id FROM chat_sessions WHERE tenant_id = 'other'", &[])
        .await
        .expect("a session")
        .get(0);

    let mut of_ours = found(&server, &of_user(&ours, "robot")).await;
    of_ours.sort();
    assert_eq!(of_ours, ["our other robot", "our robot"]);
    assert_eq!(found(&server, &of_user(&theirs, "robot")).await, ["their robot"]);
    assert_eq!(found(&server, &of_user(&id(), "robot")).await, [""; 0]);
    assert_eq!(
        found(&server, &in_session(&session, "robot")).await,
        ["our robot"]
    );
    assert_eq!(
        found(&server, &in_session(&anonymous, "robot")).await,
        ["nobody's robot"]
    );
    let both = |user: &str, session: &str| pb::SearchMessagesRequest {
        user_id: Some(user.to_owned()),
        ..in_session(session, "robot")
    };
    assert_eq!(found(&server, &both(&ours, &session)).await, ["our robot"]);
    assert_eq!(found(&server, &both(&ours, &their_session)).await, [""; 0]);
    assert_eq!(found(&server, &both(&ours, &anonymous)).await, [""; 0]);
    for session in [foreign.to_string(), id()] {
        assert_refused(
            search(&server, &in_session(&session, "robot")).await,
            Code::NotFound,
            "SESSION_NOT_FOUND",
        );
    }
}

#[tokio::test]
async fn a_deleted_message_is_not_found() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = session_with(&server, None, &["robot one", "robot two"]).await;
    let messages = messages_of(&server, &session).await;
    delete_message(&server, &session, &messages[0].id)
        .await
        .expect("a deletion");
    assert_eq!(
        found(&server, &in_session(&session, "robot")).await,
        ["robot two"]
    );
    assert_eq!(found(&server, &in_session(&session, "-robot")).await, [""; 0]);
    clear_messages(&server, &session).await.expect("a count");
    assert_eq!(found(&server, &in_session(&session, "robot")).await, [""; 0]);
}

#[tokio::test]
async fn pages_hold_every_hit_once_in_order_also_those_of_equal_rank() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let user = new_user(&server).await.id;
    for n in 0..4 {
        let texts = ["robot", "robot robot", "robot and much else", "nothing", "robot"];
        session_with(&server, Some(&user), &texts[..=n]).await;
    }
    let request = of_user(&user, "robot");
    let once = search(&server, &request).await.expect("hits").hits;
    assert_eq!(once.len(), 4 + 3 + 2);
    for page_size in [1, 2, 4, 9] {
        let mut request = pb::SearchMessagesRequest {
            page_size,
            ..request.clone()
        };
        let mut hits = Vec::new();
        loop {
            let page = search(&server, &request).await.expect("a page");
            hits.extend(page.hits);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(hits, once);
    }
    let first = pb::SearchMessagesRequest {
        page_size: 1,
        ..request
    };
    let token = search(&server, &first).await.expect("hits").next_page_token;
    let other = pb::SearchMessagesRequest {
        page_token: token,
        ..of_user(&user, "robots")
    };
    assert_invalid(search(&server, &other).await, &["page_token"]);
}

#[tokio::test]
async fn a_page_of_hits_ends_early_at_3_mib() {
    use prost::Message;

    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let large = format!("robot {}", "x".repeat((1 << 20) - 6));
    for _ in 0..5 {
        append(&server, &session, text(&large)).await.expect("a receipt");
    }
    let mut request = in_session(&session, "robot");
    let mut read = Vec::new();
    loop {
        let page = search(&server, &request).await.expect("a page");
        assert!(page.encoded_len() < 4 << 20);
        read.extend(
            page.hits
                .into_iter()
                .map(|hit| hit.message.expect("a message").seq),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(read, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn a_mebibyte_of_distinct_words_is_searched_without_failing() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let fill = |size: usize, unit: &dyn Fn(usize) -> String| {
        let mut content = "robot".to_owned();
        for n in 0.. {
            let unit = unit(n);
            if content.len() + unit.len() > size {
                break;
            }
            write!(content, "{unit}").expect("a word");
        }
        content
    };
    // Short words, long compounds of characters of four bytes, and addresses: each makes several lexemes.
    let words = fill(1 << 20, &|n| format!(" w{n:x}"));
    let compounds = fill(1 << 20, &|n| format!(" 𠀀𠀁{n}-𠀂𠀃{n}-𠀄{n}"));
    let addresses = fill(1 << 20, &|n| format!(" http://h{n}.example.com/p{n}/q{n}"));
    let selected = fill(64 << 10, &|n| format!(" 𠀀𠀁{n}-s{n}-𠀂"));
    for content in [&words, &compounds, &addresses] {
        let message = pb::NewMessage {
            selected_text: Some(selected.clone()),
            ..text(content)
        };
        let session = new_session(&server).await;
        append(&server, &session, message).await.expect("a receipt");
        for query in ["robot", "robot s0", "robot -w0zz"] {
            let found = found(&server, &in_session(&session, query)).await;
            assert!(found == [content.as_str()], "{query}: {} found", found.len());
        }
    }
}

#[tokio::test]
async fn what_a_search_cannot_be_is_told_at_once() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = session_with(&server, None, &["robot"]).await;
    let everywhere = search(&server, &in_tenant("robot")).await;
    let message = everywhere.as_ref().expect_err("no index").message().to_owned();
    assert!(
        message.contains("`chatledger migrate up --with search`"),
        "{message}"
    );
    assert_invalid(everywhere, &["session_id"]);
    let bad = pb::SearchMessagesRequest {
        query: String::new(),
        page_size: -1,
        page_token: "?".to_owned(),
        user_id: Some("x".to_owned()),
        session_id: Some(String::new()),
        roles: vec![0],
        fields: vec![1, 0, 9],
    };
    let mut fields = refusal(search(&server, &bad).await).fields;
    fields.sort();
    assert_eq!(
        fields,
        [
            "fields[1]",
            "fields[2]",
            "page_size",
            "page_token",
            "query",
            "roles[0]",
            "session_id",
            "user_id"
        ]
    );
    assert_invalid(search(&server, &in_session(&session, "a\0b")).await, &["query"]);
    let longest = "robot ".repeat(682) + "abcd";
    assert_eq!(longest.len(), 4096);
    assert_eq!(found(&server, &in_session(&session, &longest)).await, [""; 0]);
    let longest = "robot ".repeat(682) + "    ";
    assert_eq!(found(&server, &in_session(&session, &longest)).await, ["robot"]);
    assert_invalid(
        search(&server, &in_session(&session, &(longest + "x"))).await,
        &["query"],
    );
}
