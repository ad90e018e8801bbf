//! ListMessages: orders, bounds, filters and pages.

use tonic::Code;

use crate::harness::*;

async fn page(server: &TestServer, request: &pb::ListMessagesRequest) -> pb::ListMessagesResponse {
    let response = server.messages().list_messages(request.clone()).await;
    response.expect("a page").into_inner()
}

/// All pages, one after the other.
async fn pages(server: &TestServer, request: &pb::ListMessagesRequest) -> Vec<Vec<pb::Message>> {
    let mut request = request.clone();
    let mut pages = Vec::new();
    loop {
        let page = page(server, &request).await;
        pages.push(page.messages);
        if page.next_page_token.is_empty() {
            return pages;
        }
        request.page_token = page.next_page_token;
    }
}

fn list(session: &str) -> pb::ListMessagesRequest {
    pb::ListMessagesRequest {
        session_id: session.to_owned(),
        ..Default::default()
    }
}

/// A server, and a session with `count` messages of the roles in turn, every third one cited.
async fn conversation(database: &TestDatabase, count: usize) -> (TestServer, String) {
    let server = start(database).await;
    let session = new_session(&server).await;
    let roles = [pb::Role::System, pb::Role::User, pb::Role::Assistant];
    let messages: Vec<_> = (1..=count)
        .map(|n| pb::NewMessage {
            role: roles[(n - 1) % 3].into(),
            citations: if n % 3 == 0 {
                vec![citation("d", "", 0.5)]
            } else {
                vec![]
            },
            ..text(&format!("message {n}"))
        })
        .collect();
    append_batch(&server, &session, messages, None)
        .await
        .expect("receipts");
    (server, session)
}

#[tokio::test]
async fn a_list_goes_by_seq_from_either_end() {
    let database = TestDatabase::new().await;
    let (server, session) = conversation(&database, 10).await;
    let up: Vec<i64> = (1..=10).collect();
    let down: Vec<i64> = (1..=10).rev().collect();
    for (order, chronological, expected) in [
        (pb::MessageOrder::Unspecified, false, &up),
        (pb::MessageOrder::Unspecified, true, &up),
        (pb::MessageOrder::SeqAsc, false, &up),
        (pb::MessageOrder::SeqAsc, true, &up),
        (pb::MessageOrder::SeqDesc, false, &down),
        (pb::MessageOrder::SeqDesc, true, &up),
    ] {
        let request = pb::ListMessagesRequest {
            order: order.into(),
            chronological,
            ..list(&session)
        };
        let page = page(&server, &request).await;
        assert_eq!(seqs(&page.messages), *expected, "{order:?} {chronological}");
        assert_eq!(page.next_page_token, "");
    }
}

#[tokio::test]
async fn the_last_20_oldest_first_are_one_call_and_the_20_before_them_the_next() {
    let database = TestDatabase::new().await;
    let (server, session) = conversation(&database, 45).await;
    let request = pb::ListMessagesRequest {
        order: pb::MessageOrder::SeqDesc.into(),
        page_size: 20,
        chronological: true,
        ..list(&session)
    };
    let pages = pages(&server, &request).await;
    let seqs: Vec<Vec<i64>> = pages.iter().map(|page| seqs(page)).collect();
    let expected: [Vec<i64>; 3] = [(26..=45).collect(), (6..=25).collect(), (1..=5).collect()];
    assert_eq!(seqs, expected);
}

#[tokio::test]
async fn bounds_leave_out_what_is_at_and_beyond_them() {
    let database = TestDatabase::new().await;
    let (server, session) = conversation(&database, 9).await;
    for (after, before, expected) in [
        (None, None, 1..10),
        (Some(0), None, 1..10),
        (Some(3), None, 4..10),
        (None, Some(4), 1..4),
        (Some(3), Some(7), 4..7),
        (Some(3), Some(4), 4..4),
        (Some(7), Some(3), 1..1),
        (Some(9), None, 1..1),
        (Some(i64::MAX), None, 1..1),
        (None, Some(0), 1..1),
        (None, Some(i64::MAX), 1..10),
    ] {
        for order in [pb::MessageOrder::SeqAsc, pb::MessageOrder::SeqDesc] {
            let request = pb::ListMessagesRequest {
                after_seq: after,
                before_seq: before,
                order: order.into(),
                page_size: 2,
                ..list(&session)
            };
            let mut seqs = seqs(&pages(&server, &request).await.concat());
            if order == pb::MessageOrder::SeqDesc {
                seqs.reverse();
            }
            assert_eq!(
                seqs,
                expected.clone().collect::<Vec<i64>>(),
                "{after:?} {before:?}"
            );
        }
    }
}

#[tokio::test]
async fn roles_are_filtered_and_citations_left_out_on_request() {
    let database = TestDatabase::new().await;
    let (server, session) = conversation(&database, 9).await;
    let request = pb::ListMessagesRequest {
        roles: vec![pb::Role::Assistant.into(), pb::Role::System.into()],
        page_size: 4,
        ..list(&session)
    };
    let found = pages(&server, &request).await;
    assert_eq!(
        found.iter().map(|page| seqs(page)).collect::<Vec<_>>(),
        [vec![1, 3, 4, 6], vec![7, 9]]
    );
    let cited = |messages: &[pb::Message]| messages.iter().filter(|m| !m.citations.is_empty()).count();
    assert_eq!(cited(&found.concat()), 3);
    let request = pb::ListMessagesRequest {
        omit_citations: true,
        ..list(&session)
    };
    let page = page(&server, &request).await;
    assert_eq!((page.messages.len(), cited(&page.messages)), (9, 0));
    let request = pb::ListMessagesRequest {
        roles: vec![pb::Role::Tool.into()],
        ..list(&session)
    };
    assert_eq!(pages(&server, &request).await, [vec![]]);
}

#[tokio::test]
async fn pages_have_50_messages_by_default_and_500_at_most() {
    let database = TestDatabase::new().await;
    let (server, session) = conversation(&database, 500).await;
    append_batch(&server, &session, vec![text("x"); 10], None)
        .await
        .expect("receipts");
    for (page_size, expected) in [
        (0, 50),
        (1, 1),
        (499, 499),
        (500, 500),
        (501, 500),
        (i32::MAX, 500),
    ] {
        let request = pb::ListMessagesRequest {
            page_size,
            ..list(&session)
        };
        let page = page(&server, &request).await;
        assert_eq!(page.messages.len(), expected);
        assert_ne!(page.next_page_token, "");
    }
    // A page that ends exactly at the end is the last.
    let request = pb::ListMessagesRequest {
        page_size: 255,
        ..list(&session)
    };
    let sizes: Vec<_> = pages(&server, &request).await.iter().map(Vec::len).collect();
    assert_eq!(sizes, [255, 255]);
}

#[tokio::test]
async fn pages_neither_repeat_nor_miss_what_stays_while_messages_come_and_go() {
    let database = TestDatabase::new().await;
    for descending in [false, true] {
        let (server, session) = conversation(&database, 60).await;
        let all = messages_of(&server, &session).await;
        let order = if descending {
            pb::MessageOrder::SeqDesc
        } else {
            pb::MessageOrder::SeqAsc
        };
        let mut request = pb::ListMessagesRequest {
            page_size: 10,
            order: order.into(),
            ..list(&session)
        };
        let mut read: Vec<i64> = Vec::new();
        let mut gone = Vec::new();
        loop {
            let page = page(&server, &request).await;
            read.extend(seqs(&page.messages));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            // Between two pages: one comes, the last one read goes, and so does one not yet read.
            if read.len() <= 40 {
                append(&server, &session, text("new")).await.expect("a receipt");
                let last = *read.last().expect("a message");
                let next = if descending { last - 5 } else { last + 5 };
                for seq in [last, next] {
                    let index = usize::try_from(seq - 1).expect("an index");
                    delete_message(&server, &session, &all[index].id)
                        .await
                        .expect("a deletion");
                }
                gone.push(next);
            }
        }
        assert_eq!(gone.len(), 4);
        let mut expected: Vec<i64> = (1..=60).filter(|seq| !gone.contains(seq)).collect();
        if descending {
            // What is appended meanwhile is above where the list began.
            expected.reverse();
        } else {
            expected.extend([61, 62, 63, 64]);
        }
        assert_eq!(read, expected);
    }
}

#[tokio::test]
async fn a_page_ends_early_at_3_mib_and_the_next_goes_on_exactly() {
    use prost::Message;

    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    // 10 MiB in all: three and a half large messages, many small ones, and a largest one.
    for n in 0..9 {
        let size = if n % 2 == 0 { 1 << 20 } else { 1 << 19 };
        let message = pb::NewMessage {
            payload: (n == 4).then(|| vec![1; 1 << 20].into()),
            ..text(&"x".repeat(size))
        };
        append(&server, &session, message).await.expect("a receipt");
        append_batch(&server, &session, vec![text("small"); 3], None)
            .await
            .expect("receipts");
    }
    for order in [pb::MessageOrder::SeqAsc, pb::MessageOrder::SeqDesc] {
        let mut request = pb::ListMessagesRequest {
            order: order.into(),
            page_size: 500,
            ..list(&session)
        };
        let (mut read, mut count) = (Vec::new(), 0);
        loop {
            let page = page(&server, &request).await;
            let bytes: usize = page.messages.iter().map(Message::encoded_len).sum();
            assert!(bytes <= 3 << 20, "{bytes} bytes");
            assert!(page.encoded_len() < 4 << 20);
            assert!(!page.messages.is_empty());
            read.extend(seqs(&page.messages));
            count += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            // Full: another large message wouldn't have fitted.
            assert!(bytes > 1 << 20, "{bytes} bytes");
            request.page_token = page.next_page_token;
        }
        if order == pb::MessageOrder::SeqDesc {
            read.reverse();
        }
        assert_eq!(read, (1..=36).collect::<Vec<i64>>());
        assert!((3..=6).contains(&count), "{count} pages");
    }
}

#[tokio::test]
async fn what_a_list_cannot_be_is_told_at_once() {
    let database = TestDatabase::new().await;
    let (server, session) = conversation(&database, 3).await;
    let call = async |request| server.messages().list_messages(request).await;
    assert_refused(call(list(&id())).await, Code::NotFound, "SESSION_NOT_FOUND");
    let bad = pb::ListMessagesRequest {
        session_id: "x".to_owned(),
        page_size: -1,
        page_token: "?".to_owned(),
        after_seq: Some(-1),
        before_seq: Some(-1),
        order: 9,
        roles: vec![1, 0, 9],
        ..Default::default()
    };
    let mut fields = refusal(call(bad).await).fields;
    fields.sort();
    assert_eq!(
        fields,
        [
            "after_seq",
            "before_seq",
            "order",
            "page_size",
            "page_token",
            "roles[1]",
            "roles[2]",
            "session_id"
        ]
    );
    let first = pb::ListMessagesRequest {
        page_size: 1,
        ..list(&session)
    };
    let token = page(&server, &first).await.next_page_token;
    let with_token = pb::ListMessagesRequest {
        page_token: token,
        ..first
    };
    // Another size is another page of the same list; other filters are another list.
    let request = pb::ListMessagesRequest {
        page_size: 7,
        ..with_token.clone()
    };
    assert_eq!(seqs(&page(&server, &request).await.messages), [2, 3]);
    let other_session = new_session(&server).await;
    for other in [
        pb::ListMessagesRequest {
            session_id: other_session,
            ..with_token.clone()
        },
        pb::ListMessagesRequest {
            after_seq: Some(0),
            ..with_token.clone()
        },
        pb::ListMessagesRequest {
            order: pb::MessageOrder::SeqDesc.into(),
            ..with_token.clone()
        },
        pb::ListMessagesRequest {
            roles: vec![pb::Role::User.into()],
            ..with_token.clone()
        },
        pb::ListMessagesRequest {
            omit_citations: true,
            ..with_token.clone()
        },
        pb::ListMessagesRequest {
            page_token: format!("{}A", with_token.page_token),
            ..with_token.clone()
        },
    ] {
        assert_invalid(call(other).await, &["page_token"]);
    }
}

#[tokio::test]
async fn a_session_without_messages_has_an_empty_list() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    assert_eq!(pages(&server, &list(&session)).await, [vec![]]);
}
