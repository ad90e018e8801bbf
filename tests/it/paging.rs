//! Lists in pages: sizes, tokens, and data that changes while somebody pages.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pb::list_sessions_request::Owner;

use crate::harness::*;

/// A list as these tests see it: the ids of a page, and the next token.
type ListPage = (Vec<String>, String);

async fn users(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let request = pb::ListUsersRequest {
        page_size,
        page_token,
        ..Default::default()
    };
    let page = answer(server.users().list_users(request).await);
    let ids = page.users.into_iter().map(|user| user.id).collect();
    (ids, page.next_page_token)
}

async fn profiles(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let request = pb::ListProfilesRequest {
        page_size,
        page_token,
        ..Default::default()
    };
    let page = answer(server.profiles().list_profiles(request).await);
    let ids = page.profiles.into_iter().map(|profile| profile.user_id).collect();
    (ids, page.next_page_token)
}

async fn documents(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let request = pb::ListDocumentsRequest {
        page_size,
        page_token,
        ..Default::default()
    };
    let page = answer(server.documents().list_documents(request).await);
    let ids = page.documents.into_iter().map(|document| document.id).collect();
    (ids, page.next_page_token)
}

async fn activity(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let request = pb::ListUserActivityRequest {
        page_size,
        page_token,
    };
    let page = answer(server.analytics().list_user_activity(request).await);
    let ids = page.users.into_iter().map(|user| user.user_id).collect();
    (ids, page.next_page_token)
}

async fn sessions(
    server: &TestServer,
    owner: Owner,
    order: pb::SessionOrder,
    page_size: i32,
    page_token: String,
) -> ListPage {
    let request = pb::ListSessionsRequest {
        page_size,
        page_token,
        owner: Some(owner),
        order_by: order.into(),
        ..Default::default()
    };
    let page = answer(server.sessions().list_sessions(request).await);
    let ids = page.sessions.into_iter().map(|session| session.id).collect();
    (ids, page.next_page_token)
}

async fn anonymous(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let order = pb::SessionOrder::Unspecified;
    sessions(server, Owner::Anonymous(true), order, page_size, page_token).await
}

/// The owner of the sessions that `fill` makes.
const OWNER: &str = "00000000-0000-0000-0000-000000000001";

async fn last_active(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let order = pb::SessionOrder::LastActiveDesc;
    sessions(server, Owner::UserId(OWNER.into()), order, page_size, page_token).await
}

async fn created(server: &TestServer, page_size: i32, page_token: String) -> ListPage {
    let order = pb::SessionOrder::CreatedDesc;
    sessions(server, Owner::UserId(OWNER.into()), order, page_size, page_token).await
}

/// Rows in every table, each with its number at the end of its id: users with profiles, documents, and a
/// session of `OWNER` and one of nobody, created that many seconds after 1970.
const FILL: &str = "
    INSERT INTO users (id, email) SELECT lpad(n::text, 32, '0')::uuid, n || '@example.com' FROM numbers;
    INSERT INTO user_profiles (user_id) SELECT lpad(n::text, 32, '0')::uuid FROM numbers;
    INSERT INTO documents (id) SELECT lpad(n::text, 32, '0')::uuid::text FROM numbers;
    INSERT INTO chat_sessions (id, user_id, created_at)
        SELECT lpad(n::text, 32, 'a')::uuid, lpad('1', 32, '0')::uuid, to_timestamp(n) FROM numbers;
    INSERT INTO chat_sessions (id, created_at)
        SELECT lpad(n::text, 32, 'b')::uuid, to_timestamp(n) FROM numbers;
    DROP TABLE numbers;";

async fn fill(database: &TestDatabase, numbers: &str) {
    let client = database.client().await;
    client
        .batch_execute(&format!(
            // OWNER is in none of the lists of users.
            "ALTER TABLE chat_sessions DROP CONSTRAINT IF EXISTS chat_sessions_user_fkey;
            CREATE TABLE numbers AS SELECT n FROM ({numbers}) AS t (n); {FILL}"
        ))
        .await
        .expect("rows");
}

/// The number in an id of `fill`'s.
fn number(id: &str) -> u32 {
    let digits = id[24..].trim_start_matches(['0', 'a', 'b']);
    digits.parse().expect("a number")
}

fn numbers(ids: &[String]) -> Vec<u32> {
    ids.iter().map(|id| number(id)).collect()
}

/// Runs a block for every list, with the list's function and whether it begins with the newest.
macro_rules! for_every_list {
    (|$list:ident, $newest_first:ident| $block:block) => {
        for_every_list!(@each $list, $newest_first, $block,
            users: false, profiles: false, documents: false, activity: false,
            anonymous: true, last_active: true, created: true)
    };
    (@each $list:ident, $newest_first:ident, $block:block, $($name:ident: $order:literal),*) => {
        $({
            let $newest_first = $order;
            let $list = async |server: &TestServer, size: i32, token: String| -> ListPage {
                $name(server, size, token).await
            };
            println!("{}", stringify!($name));
            $block
        })*
    };
}

#[tokio::test]
async fn page_sizes_are_read_as_the_contract_says() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 512)").await;
    for_every_list!(|list, _newest_first| {
        for (size, rows) in [
            (0, 50),
            (1, 1),
            (499, 499),
            (500, 500),
            (501, 500),
            (i32::MAX, 500),
        ] {
            let (ids, next) = list(&server, size, String::new()).await;
            assert_eq!(ids.len(), rows, "{size}");
            assert!(!next.is_empty());
        }
    });
}

#[tokio::test]
async fn every_row_is_on_one_page_in_order() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 20)").await;
    for_every_list!(|list, newest_first| {
        // Sizes that divide the number of rows and some that don't; none leaves an empty last page.
        for (size, lengths) in [
            (1, vec![1; 10]),
            (3, vec![3, 3, 3, 1]),
            (5, vec![5, 5]),
            (10, vec![10]),
            (11, vec![10]),
        ] {
            let pages = pages_of(async |token| list(&server, size, token).await).await;
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
            let mut expected: Vec<u32> = (11..=20).collect();
            if newest_first {
                expected.reverse();
            }
            assert_eq!(numbers(&pages.concat()), expected);
        }
    });
}

#[tokio::test]
async fn what_stays_is_neither_skipped_nor_doubled_while_rows_come_and_go() {
    for_every_list!(|list, newest_first| {
        let database = TestDatabase::new().await;
        let server = start(&database).await;
        fill(&database, "SELECT generate_series(20, 58, 2)").await;
        let mut rows: Vec<u32> = (20..=58).step_by(2).collect();
        if newest_first {
            rows.reverse();
        }
        let (first, token) = list(&server, 4, String::new()).await;
        assert_eq!(numbers(&first), rows[..4]);

        // The row that the cursor is at, one before it and one behind it go.
        let gone = format!("{}, {}, {}", rows[1], rows[3], rows[5]);
        let delete = format!(
            "DELETE FROM users WHERE split_part(email, '@', 1)::int IN ({gone});
            DELETE FROM documents WHERE right(id, 2)::int IN ({gone});
            DELETE FROM chat_sessions WHERE extract(epoch FROM created_at)::int IN ({gone})"
        );
        let client = database.client().await;
        client.batch_execute(&delete).await.expect("deletions");
        // One comes before the cursor, and one behind it.
        let before = u32::midpoint(rows[0], rows[1]);
        let behind = u32::midpoint(rows[6], rows[7]);
        fill(&database, &format!("VALUES ({before}), ({behind})")).await;

        let mut token = Some(token);
        let rest = pages_of(async |next| {
            // The first page of the rest is the one behind the token.
            let token = token.take().unwrap_or(next);
            list(&server, 4, token).await
        })
        .await;
        let mut expected = vec![rows[4], rows[6], behind];
        expected.extend(&rows[7..]);
        assert_eq!(numbers(&rest.concat()), expected);
    });
}

#[tokio::test]
async fn rows_of_the_same_time_are_told_apart_by_id() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 20)").await;
    let sql = "UPDATE chat_sessions SET created_at = '2024-01-01'";
    database
        .client()
        .await
        .execute(sql, &[])
        .await
        .expect("an update");
    for_every_list!(|list, newest_first| {
        if newest_first {
            let pages = pages_of(async |token| list(&server, 3, token).await).await;
            let expected: Vec<u32> = (11..=20).rev().collect();
            assert_eq!(numbers(&pages.concat()), expected);
        }
    });
}

#[tokio::test]
async fn a_session_that_is_appended_to_moves_to_the_front_and_pushes_nobody_out() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 20)").await;
    let (first, token) = last_active(&server, 4, String::new()).await;
    assert_eq!(numbers(&first), [20, 19, 18, 17]);
    // One that was seen, and one that wasn't.
    for n in [18, 14] {
        let session = format!("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaa{n}");
        append(&server, &session, text("hello")).await.expect("a receipt");
    }
    let (rest, end) = last_active(&server, 10, token).await;
    assert_eq!(numbers(&rest), [16, 15, 13, 12, 11]);
    assert_eq!(end, "");
    let (again, _) = last_active(&server, 4, String::new()).await;
    assert_eq!(numbers(&again), [14, 18, 20, 19]);
    let (by_creation, _) = created(&server, 4, String::new()).await;
    assert_eq!(numbers(&by_creation), [20, 19, 18, 17]);
}

#[tokio::test]
async fn tokens_are_opaque_and_safe_in_urls() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 20)").await;
    for_every_list!(|list, _newest_first| {
        let (_, token) = list(&server, 3, String::new()).await;
        let safe = token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        assert!(safe, "{token}");
        // The page size is not a filter: it may change from page to page.
        let (rest, end) = list(&server, 100, token).await;
        assert_eq!((rest.len(), end.as_str()), (7, ""));
    });
}

#[tokio::test]
async fn a_token_with_other_filters_or_of_another_list_is_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 20)").await;
    let token = users(&server, 3, String::new()).await.1;
    let with_prefix = pb::ListUsersRequest {
        page_token: token.clone(),
        email_prefix: Some("1".into()),
        ..Default::default()
    };
    let with_state = pb::ListUsersRequest {
        page_token: token.clone(),
        is_active: Some(true),
        ..Default::default()
    };
    for request in [with_prefix, with_state] {
        assert_invalid(server.users().list_users(request).await, &["page_token"]);
    }
    let request = pb::ListProfilesRequest {
        page_token: token.clone(),
        ..Default::default()
    };
    assert_invalid(server.profiles().list_profiles(request).await, &["page_token"]);
    let request = pb::ListUserActivityRequest {
        page_token: token,
        ..Default::default()
    };
    assert_invalid(
        server.analytics().list_user_activity(request).await,
        &["page_token"],
    );
    let token = profiles(&server, 3, String::new()).await.1;
    let request = pb::ListProfilesRequest {
        page_token: token,
        experience_level: Some(String::new()),
        ..Default::default()
    };
    assert_invalid(server.profiles().list_profiles(request).await, &["page_token"]);
    let token = documents(&server, 3, String::new()).await.1;
    let request = pb::ListDocumentsRequest {
        page_token: token,
        title_contains: Some("x".into()),
        ..Default::default()
    };
    assert_invalid(server.documents().list_documents(request).await, &["page_token"]);
    let token = created(&server, 3, String::new()).await.1;
    for (owner, order_by) in [
        (Owner::UserId(OWNER.into()), pb::SessionOrder::LastActiveDesc),
        (Owner::UserId(id()), pb::SessionOrder::CreatedDesc),
        (Owner::Anonymous(true), pb::SessionOrder::CreatedDesc),
    ] {
        let request = pb::ListSessionsRequest {
            page_token: token.clone(),
            owner: Some(owner),
            order_by: order_by.into(),
            ..Default::default()
        };
        assert_invalid(server.sessions().list_sessions(request).await, &["page_token"]);
    }
}

#[tokio::test]
async fn a_token_that_is_garbled_or_forged_is_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(11, 20)").await;
    let token = documents(&server, 3, String::new()).await.1;
    let fingerprint = URL_SAFE_NO_PAD.decode(&token).expect("base64")[..8].to_vec();
    let forged = |key: &str| URL_SAFE_NO_PAD.encode([&fingerprint, key.as_bytes()].concat());
    assert_eq!(
        documents(&server, 1, forged(r#"["00000000-0000-0000-0000-000000000019"]"#))
            .await
            .0,
        ["00000000-0000-0000-0000-000000000020"]
    );
    for bad in [
        "x".to_owned(),
        "%%%".to_owned(),
        format!("{token}="),
        token[..token.len() - 3].to_owned(),
        token[1..].to_owned(),
        forged(""),
        forged("{}"),
        forged("[1]"),
        forged(r#"["a","b"]"#),
        // What Postgres can't compare with.
        forged(r#"["\u0000"]"#),
    ] {
        let request = pb::ListDocumentsRequest {
            page_token: bad,
            ..Default::default()
        };
        assert_invalid(server.documents().list_documents(request).await, &["page_token"]);
    }
    let token = anonymous(&server, 3, String::new()).await.1;
    let fingerprint = URL_SAFE_NO_PAD.decode(&token).expect("base64")[..8].to_vec();
    for time in [i64::MIN, -377_705_116_800_000_000, i64::MAX] {
        let key = format!(r#"[{time},"{OWNER}"]"#);
        let request = pb::ListSessionsRequest {
            page_token: URL_SAFE_NO_PAD.encode([&fingerprint, key.as_bytes()].concat()),
            owner: Some(Owner::Anonymous(true)),
            ..Default::default()
        };
        assert_invalid(server.sessions().list_sessions(request).await, &["page_token"]);
    }
}

#[tokio::test]
async fn a_page_ends_before_3_mib_and_the_list_goes_on() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    fill(&database, "SELECT generate_series(101, 200)").await;
    let large = "UPDATE chat_sessions SET metadata = jsonb_build_object('x', repeat('x', 60000));
        UPDATE documents SET metadata = jsonb_build_object('x', repeat('x', 60000));
        UPDATE user_profiles SET preferences = jsonb_build_object('x', repeat('x', 60000))";
    database
        .client()
        .await
        .batch_execute(large)
        .await
        .expect("updates");
    let request = pb::ListDocumentsRequest {
        page_size: 500,
        ..Default::default()
    };
    let page = answer(server.documents().list_documents(request).await);
    let size = prost::Message::encoded_len(&page);
    assert!(size <= 3 << 20, "{size}");
    assert!(size + 60_200 > 3 << 20, "{size}: another one would have fitted");
    let pages = pages_of(async |token| documents(&server, 500, token).await).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [52, 48]);
    assert_eq!(numbers(&pages.concat()), (101..=200).collect::<Vec<u32>>());
    let pages = pages_of(async |token| profiles(&server, 60, token).await).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [52, 48]);
    assert_eq!(numbers(&pages.concat()), (101..=200).collect::<Vec<u32>>());
    let pages = pages_of(async |token| created(&server, 500, token).await).await;
    assert_eq!(numbers(&pages.concat()), (101..=200).rev().collect::<Vec<u32>>());
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [52, 48]);
}
