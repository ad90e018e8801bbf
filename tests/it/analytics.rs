//! `AnalyticsService`, against numbers counted by hand.

use crate::harness::*;

/// A time, such as `2024-03-31T23:30:00Z`.
fn at(text: &str) -> Option<prost_types::Timestamp> {
    let time: jiff::Timestamp = text.parse().expect("a time");
    Some(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

/// A message as it was imported.
fn said_at(time: &str, citations: &[(&str, f64)]) -> pb::NewMessage {
    pb::NewMessage {
        create_time: at(time),
        citations: citations
            .iter()
            .map(|&(document, score)| citation(document, "c", score))
            .collect(),
        ..text("hello")
    }
}

async fn conversation(server: &TestServer, user_id: Option<&str>, messages: Vec<pb::NewMessage>) -> String {
    let session = new_session_of(server, user_id).await.id;
    append_batch(server, &session, messages, None)
        .await
        .expect("receipts");
    session
}

async fn top(server: &TestServer, since: Option<&str>, limit: i32) -> Vec<(String, String, i64, f64)> {
    let request = pb::ListTopDocumentsRequest {
        since: since.and_then(at),
        limit,
    };
    let documents = answer(server.analytics().list_top_documents(request).await).documents;
    documents
        .into_iter()
        .map(|top| (top.document_id, top.title, top.citation_count, top.mean_score))
        .collect()
}

async fn days(server: &TestServer, since: Option<&str>, zone: Option<&str>) -> Vec<(String, i64, i64)> {
    let request = pb::ListDailyVolumeRequest {
        since: since.and_then(at),
        time_zone: zone.map(str::to_owned),
    };
    let days = answer(server.analytics().list_daily_volume(request).await).days;
    days.into_iter()
        .map(|day| (day.date, day.message_count, day.session_count))
        .collect()
}

fn day(date: &str, messages: i64, sessions: i64) -> (String, i64, i64) {
    (date.to_owned(), messages, sessions)
}

#[tokio::test]
async fn the_most_cited_documents_come_first_with_their_mean_score() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let request = pb::UpsertDocumentRequest {
        document: Some(pb::Document {
            id: "m1".into(),
            title: "Module 1".into(),
            ..Default::default()
        }),
    };
    answer(server.documents().upsert_document(request).await);
    let user = new_user(&server).await.id;
    conversation(
        &server,
        Some(&user),
        vec![
            said_at("2024-01-01T00:00:00Z", &[("m1", 0.5), ("m2", 1.0), ("m1", 0.25)]),
            said_at("2024-01-02T00:00:00Z", &[("m3", -2.0)]),
        ],
    )
    .await;
    conversation(
        &server,
        None,
        vec![said_at(
            "2024-01-03T00:00:00Z",
            &[("m1", 0.0), ("m3", 1.0), ("m0", 0.5)],
        )],
    )
    .await;
    let top_of =
        |id: &str, title: &str, count: i64, mean: f64| (id.to_owned(), title.to_owned(), count, mean);
    // m1: (0.5 + 0.25 + 0) / 3; as often cited are in the order of their ids.
    let all = [
        top_of("m1", "Module 1", 3, 0.25),
        top_of("m3", "", 2, -0.5),
        top_of("m0", "", 1, 0.5),
        top_of("m2", "", 1, 1.0),
    ];
    assert_eq!(top(&server, None, 0).await, all);
    assert_eq!(top(&server, None, 501).await, all);
    assert_eq!(top(&server, None, 1).await, all[..1]);
    assert_eq!(top(&server, None, 3).await, all[..3]);
    assert_eq!(top(&server, Some("2024-01-01T00:00:00Z"), 0).await, all);
    assert_eq!(
        top(&server, Some("2024-01-01T00:00:00.000001Z"), 0).await,
        [
            top_of("m3", "", 2, -0.5),
            top_of("m0", "", 1, 0.5),
            top_of("m1", "Module 1", 1, 0.0),
        ]
    );
    assert_eq!(top(&server, Some("2024-01-03T00:00:01Z"), 0).await, []);
}

#[tokio::test]
async fn at_most_500_documents_and_50_unless_asked() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let mut messages = Vec::new();
    for hundred in 0..6 {
        let mut message = text("hello");
        message.citations = (0..100)
            .map(|n| citation(&format!("{hundred}{n:02}"), "", 0.0))
            .collect();
        messages.push(message);
    }
    conversation(&server, None, messages).await;
    for (limit, count) in [(0, 50), (499, 499), (500, 500), (501, 500), (i32::MAX, 500)] {
        assert_eq!(top(&server, None, limit).await.len(), count, "{limit}");
    }
    let request = pb::ListTopDocumentsRequest {
        limit: -1,
        since: Some(prost_types::Timestamp {
            seconds: 0,
            nanos: -1,
        }),
    };
    assert_invalid(
        server.analytics().list_top_documents(request).await,
        &["since", "limit"],
    );
}

#[tokio::test]
async fn days_begin_at_midnight_of_the_time_zone() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    assert_eq!(days(&server, None, None).await, []);
    let first = conversation(
        &server,
        None,
        vec![
            said_at("2024-03-30T12:00:00Z", &[]),
            // An hour before and behind midnight in Berlin, on the night when summer time begins.
            said_at("2024-03-30T22:30:00Z", &[]),
            said_at("2024-03-30T23:30:00Z", &[]),
            said_at("2024-03-31T21:59:59.999999Z", &[]),
        ],
    )
    .await;
    conversation(
        &server,
        None,
        vec![
            said_at("2024-03-31T22:00:00Z", &[]),
            said_at("2024-04-02T00:00:00Z", &[]),
        ],
    )
    .await;
    let utc = [
        day("2024-03-30", 3, 1),
        day("2024-03-31", 2, 2),
        day("2024-04-02", 1, 1),
    ];
    assert_eq!(days(&server, None, None).await, utc);
    assert_eq!(days(&server, None, Some("UTC")).await, utc);
    let berlin = [
        day("2024-03-30", 2, 1),
        day("2024-03-31", 2, 1),
        day("2024-04-01", 1, 1),
        day("2024-04-02", 1, 1),
    ];
    assert_eq!(days(&server, None, Some("Europe/Berlin")).await, berlin);
    assert_eq!(days(&server, None, Some("europe/berlin")).await, berlin);
    assert_eq!(
        days(&server, None, Some("Asia/Karachi")).await,
        [
            day("2024-03-30", 1, 1),
            day("2024-03-31", 2, 1),
            day("2024-04-01", 2, 2),
            day("2024-04-02", 1, 1),
        ]
    );
    assert_eq!(
        days(&server, None, Some("America/New_York")).await,
        [
            day("2024-03-30", 3, 1),
            day("2024-03-31", 2, 2),
            day("2024-04-01", 1, 1),
        ]
    );
    // `since` is a time, not a day.
    assert_eq!(
        days(&server, Some("2024-03-30T22:30:00Z"), None).await,
        [
            day("2024-03-30", 2, 1),
            day("2024-03-31", 2, 2),
            day("2024-04-02", 1, 1),
        ]
    );
    assert_eq!(days(&server, Some("2024-04-02T00:00:00.000001Z"), None).await, []);
    // A message that was deleted was appended all the same.
    let request = pb::ClearMessagesRequest { session_id: first };
    answer(server.messages().clear_messages(request).await);
    assert_eq!(days(&server, None, None).await, utc);
}

#[tokio::test]
async fn unknown_time_zones_and_impossible_times_are_refused() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    for zone in [
        "",
        "Mars/Olympus",
        "Europe",
        "UTC+3",
        "+03:00",
        "UTC\0",
        "'; DROP TABLE messages; --",
        &"x".repeat(65),
    ] {
        let request = pb::ListDailyVolumeRequest {
            since: None,
            time_zone: Some(zone.into()),
        };
        assert_invalid(
            server.analytics().list_daily_volume(request).await,
            &["time_zone"],
        );
    }
    // From the year 1 to the year 9999, as google.protobuf.Timestamp.
    let (first, last) = (-62_135_596_800, 253_402_300_799);
    let since = |seconds: i64, nanos: i32| Some(prost_types::Timestamp { seconds, nanos });
    for good in [since(first, 0), since(last, 999_999_999), since(0, 0)] {
        let request = pb::ListDailyVolumeRequest {
            since: good,
            time_zone: None,
        };
        answer(server.analytics().list_daily_volume(request).await);
    }
    for bad in [
        since(first - 1, 999_999_999),
        since(last + 1, 0),
        since(i64::MIN, 0),
        // A year that jiff knows and PostgreSQL doesn't.
        since(-300_000_000_000, 0),
        since(0, 1_000_000_000),
    ] {
        let request = pb::ListDailyVolumeRequest {
            since: bad,
            time_zone: Some("Nowhere".repeat(20)),
        };
        assert_invalid(
            server.analytics().list_daily_volume(request).await,
            &["since", "time_zone"],
        );
        let request = pb::GetSessionLengthDistributionRequest { since: bad };
        assert_invalid(
            server.analytics().get_session_length_distribution(request).await,
            &["since"],
        );
    }
}

#[tokio::test]
async fn sessions_are_counted_by_length() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let lengths = async |since: Option<&str>| {
        let request = pb::GetSessionLengthDistributionRequest {
            since: since.and_then(at),
        };
        let response = server.analytics().get_session_length_distribution(request).await;
        let buckets = answer(response).buckets;
        let buckets = buckets.into_iter().map(|b| (b.label, b.session_count));
        buckets.collect::<Vec<(String, i64)>>()
    };
    let buckets = |counts: [i64; 5]| {
        let labels = ["1", "2-5", "6-10", "11-20", "20+"].map(str::to_owned);
        labels.into_iter().zip(counts).collect::<Vec<_>>()
    };
    assert_eq!(lengths(None).await, buckets([0; 5]));
    // Both edges of each bucket, and one that is left out.
    new_session(&server).await;
    for length in [1, 1, 2, 5, 5, 6, 10, 11, 20, 20, 20, 21, 150] {
        conversation(&server, None, vec![text("hello"); length]).await;
    }
    assert_eq!(lengths(None).await, buckets([2, 3, 2, 4, 2]));
    let sql =
        "UPDATE chat_sessions SET created_at = CASE WHEN last_seq < 6 THEN timestamptz '2024-01-01 00:00Z'
        ELSE '2024-01-02 00:00Z' END";
    database
        .client()
        .await
        .execute(sql, &[])
        .await
        .expect("an update");
    assert_eq!(
        lengths(Some("2024-01-01T00:00:00Z")).await,
        buckets([2, 3, 2, 4, 2])
    );
    assert_eq!(
        lengths(Some("2024-01-01T00:00:01Z")).await,
        buckets([0, 0, 2, 4, 2])
    );
    assert_eq!(
        lengths(Some("2024-01-02T00:00:00.000001Z")).await,
        buckets([0; 5])
    );
}

#[tokio::test]
async fn users_are_listed_with_how_much_they_chatted() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    // Their ids are in the order of their creation.
    let ada = new_user(&server).await;
    let eve = new_user(&server).await;
    let idle = new_user(&server).await;
    conversation(
        &server,
        Some(&ada.id),
        vec![
            said_at("2024-01-01T00:00:00Z", &[]),
            said_at("2024-01-05T00:00:00Z", &[]),
        ],
    )
    .await;
    let cleared = conversation(&server, Some(&ada.id), vec![said_at("2024-01-03T00:00:00Z", &[])]).await;
    let request = pb::ClearMessagesRequest { session_id: cleared };
    answer(server.messages().clear_messages(request).await);
    let empty = new_session_of(&server, Some(&eve.id)).await;
    conversation(&server, None, vec![text("nobody's")]).await;
    let listed = answer(
        server
            .analytics()
            .list_user_activity(pb::ListUserActivityRequest::default())
            .await,
    );
    let activity = |user: pb::User, sessions: i64, messages: i64, last: Option<prost_types::Timestamp>| {
        pb::UserActivity {
            user_id: user.id,
            email: user.email,
            session_count: sessions,
            message_count: messages,
            last_active_time: last,
        }
    };
    assert_eq!(
        listed.users,
        [
            activity(ada, 2, 3, at("2024-01-05T00:00:00Z")),
            activity(eve, 1, 0, empty.create_time),
            activity(idle, 0, 0, None),
        ]
    );
    assert_eq!(listed.next_page_token, "");
}

#[tokio::test]
async fn with_chat_the_users_are_those_whom_sessions_name() {
    let database = TestDatabase::empty().await;
    let scope = chatledger::migrations::Scope::Chat;
    database.migrate(scope).await;
    let server = start_with(&database, |options| options.scope = scope).await;
    let (one, two) = (id(), id());
    conversation(&server, Some(&two), vec![said_at("2024-01-01T00:00:00Z", &[])]).await;
    let newer = said_at("2024-01-02T00:00:00Z", &[]);
    conversation(&server, Some(&two), vec![newer.clone(), newer]).await;
    let empty = new_session_of(&server, Some(&one)).await;
    conversation(&server, None, vec![text("nobody's")]).await;
    let pages = pages_of(async |page_token| {
        let request = pb::ListUserActivityRequest {
            page_size: 1,
            page_token,
        };
        let page = answer(server.analytics().list_user_activity(request).await);
        (page.users, page.next_page_token)
    })
    .await;
    let expected = [
        pb::UserActivity {
            user_id: one,
            session_count: 1,
            last_active_time: empty.create_time,
            ..Default::default()
        },
        pb::UserActivity {
            user_id: two,
            session_count: 2,
            message_count: 3,
            last_active_time: at("2024-01-02T00:00:00Z"),
            ..Default::default()
        },
    ];
    assert_eq!(pages.concat(), expected);
}
