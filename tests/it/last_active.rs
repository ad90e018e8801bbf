//! Lists of sessions by last activity: their order within and across hours, and what the index for it costs appends.

use pb::list_sessions_request::Owner;

use crate::harness::*;

/// The owner of the sessions.
const OWNER: &str = "00000000-0000-0000-0000-000000000001";

/// The titles of all of the owner's sessions, by last activity, read in pages of a size.
async fn titles(server: &TestServer, page_size: i32) -> Vec<String> {
    let pages = pages_of(async |page_token| {
        let request = pb::ListSessionsRequest {
            owner: Some(Owner::UserId(OWNER.into())),
            order_by: pb::SessionOrder::LastActiveDesc.into(),
            page_size,
            page_token,
            ..Default::default()
        };
        let page = answer(server.sessions().list_sessions(request).await);
        (page.sessions, page.next_page_token)
    })
    .await;
    let sessions = pages.concat().into_iter();
    sessions.map(|session| session.title).collect()
}

#[tokio::test]
async fn sessions_are_in_the_order_of_their_exact_times() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    // Seconds since 1970, of the last message or, where there is none, of the creation: several in an hour, some at its edges,
    // one at the same time as another, and some before 1970, which share an hour.
    let fill = "
        INSERT INTO users (id, email) VALUES ('00000000-0000-0000-0000-000000000001', 'ada@example.com');
        INSERT INTO chat_sessions (id, user_id, title, created_at, last_message_at)
        SELECT lpad(n::text, 32, '0')::uuid, '00000000-0000-0000-0000-000000000001', at::text,
            CASE WHEN n % 2 = 0 THEN to_timestamp(at) ELSE to_timestamp(-100000) END,
            CASE WHEN n % 2 = 1 THEN to_timestamp(at) END
        FROM unnest('{61, 3599.999999, 3600, 0, 119, 120, 61, -1, -3600, -60, 7200.5, 7200.25, 180, 181, 7199}'::numeric[])
            WITH ORDINALITY AS t (at, n)";
    database.client().await.batch_execute(fill).await.expect("rows");
    let expected = [
        "7200.5",
        "7200.25",
        "7199",
        "3600",
        "3599.999999",
        "181",
        "180",
        "120",
        "119",
        "61",
        "61",
        "0",
        "-1",
        "-60",
        "-3600",
    ];
    for page_size in [1, 2, 3, 7, 100] {
        assert_eq!(titles(&server, page_size).await, expected, "{page_size}");
    }
}

#[tokio::test]
async fn a_session_of_any_time_has_an_hour() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for at in [
        "infinity",
        "-infinity",
        "4714-11-24 00:00:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
        "1969-12-31 23:59:59+00",
        "9999-12-31 23:59:59+00",
    ] {
        let sql = "INSERT INTO chat_sessions (created_at) VALUES ($1::text::timestamptz)
            RETURNING extract(epoch FROM active_hour)::bigint";
        let hour: i64 = client.query_one(sql, &[&at]).await.expect(at).get(0);
        assert!([0, 253_402_214_400].contains(&hour), "{at}: {hour}");
    }
}

/// How many sessions were updated, and how many of these without touching an index.
async fn updates(client: &tokio_postgres::Client) -> (i64, i64) {
    let sql = "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)
        FROM pg_class WHERE oid = 'chat_sessions'::regclass";
    let row = client.query_one(sql, &[]).await.expect("the counts");
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn an_append_touches_an_index_of_its_session_once_an_hour() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    let transaction = client.transaction().await.expect("a transaction");
    let begin = "INSERT INTO chat_sessions (id, created_at) VALUES (gen_random_uuid(), to_timestamp(0))";
    transaction.batch_execute(begin).await.expect("a session");
    // As an append does, every twenty minutes for ten hours; the page has room, since each version that isn't needed is cut off.
    let append = "UPDATE chat_sessions SET last_seq = last_seq + 1, has_given_ids = has_given_ids,
        last_message_at = to_timestamp($1::double precision), updated_at = clock_timestamp()";
    for second in 0..30 {
        let second = f64::from(second * 1200);
        transaction.execute(append, &[&second]).await.expect("an append");
    }
    let (all, hot) = updates(transaction.client()).await;
    // The first hour is the creation's. Some don't fit on the page, whose versions one transaction can't cut off.
    assert_eq!(all, 30);
    assert!((18..=21).contains(&hot), "{hot} of {all}");
}
