//! Reports that read what is kept say what the rows say, whatever has happened, at any moment.

mod history;

use chatledger::{
    auth::Caller,
    domain::{Limits, analytics::DailyVolume},
    migrations::Scope,
    store::{FoldRequest, Folded, Store},
};
use chatledger_postgres::{Db, DbOptions};
use jiff::Timestamp;
use tokio_postgres::Client;

use crate::harness::{process::chatledger, *};

/// A store over a database, and whoever asks it.
struct Reports {
    store: Store,
    client: Client,
}

/// How a fold counts all that is new at once.
const ALL: FoldRequest = FoldRequest {
    transactions: i64::MAX,
    forget: false,
};

impl Reports {
    async fn new(database: &TestDatabase) -> Reports {
        let options = DbOptions {
            pool_size: 4,
            wait_timeout: std::time::Duration::from_secs(10),
            connect_for: std::time::Duration::from_secs(10),
            attempt_limit: DbOptions::ATTEMPT_LIMIT,
            pooled: false,
        };
        let db = Db::new(database.connector(), options).expect("a pool");
        Reports {
            store: Store::new(db, Limits::default().into(), Scope::All, "english"),
            client: database.client().await,
        }
    }

    async fn fold(&self, request: FoldRequest) -> Folded {
        let folded = self.store.fold(self.store.db(), request).await;
        folded.expect("a fold")
    }

    /// Folds until all messages are folded in: other tests' transactions hold back the watermark.
    async fn fold_in(&self) {
        let sql = "SELECT count(*) FROM chatledger_reports
            WHERE folded_through <= (SELECT coalesce(max(inserted_by), 0) FROM messages)";
        eventually("all is folded in", async || {
            self.fold(ALL).await;
            (self.number(sql).await == 0).then_some(())
        })
        .await;
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect(sql);
    }

    async fn days(&self, since: Option<Timestamp>, zone: &str) -> Vec<DailyVolume> {
        let days = self
            .store
            .daily_volume(&Caller::local_service(None), since, zone)
            .await;
        days.expect("days")
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.expect(sql).get(0)
    }
}

/// A session with some messages by hand, of which the first is cited.
const CONVERSATION: &str = "
    INSERT INTO chat_sessions (id) VALUES ('00000000-0000-0000-0000-000000000001');
    INSERT INTO messages (session_id, role, content)
        SELECT '00000000-0000-0000-0000-000000000001', 'user', 'x' FROM generate_series(1, 3);
    INSERT INTO message_citations (message_id, document_id, score) SELECT id, 'd', 0.5 FROM messages WHERE seq = 1;";

fn messages(days: &[DailyVolume]) -> i64 {
    days.iter().map(|day| day.message_count).sum()
}

#[tokio::test]
async fn what_is_kept_is_what_is_read_and_a_rebuild_mends_it() {
    let database = TestDatabase::new().await;
    let reports = Reports::new(&database).await;
    reports.sql(CONVERSATION).await;
    reports.fold_in().await;
    assert_eq!(messages(&reports.days(None, "utc").await), 3);
    // Nobody but a fold writes here, so this shows where the number is from.
    reports
        .sql("UPDATE chatledger_report_days SET messages = messages + 1000")
        .await;
    assert_eq!(messages(&reports.days(None, "UTC").await), 1003);
    let expected = "citations by document and day: 1 counted, in 1 rows\nmessages by day in UTC: 3 counted, in 1 rows\n\
        sessions by length: 1 counted, in 1 rows\n";
    eventually("all is counted again", async || {
        let rebuild = chatledger()
            .args(["reports", "rebuild", "--database-url", &database.url()])
            .output()
            .expect("a command");
        let errors = String::from_utf8_lossy(&rebuild.stderr);
        assert!(rebuild.status.success(), "{errors}");
        (String::from_utf8_lossy(&rebuild.stdout) == expected).then_some(())
    })
    .await;
    assert_eq!(messages(&reports.days(None, "UTC").await), 3);
}

#[tokio::test]
async fn a_time_zone_is_kept_from_its_first_use_on() {
    let database = TestDatabase::new().await;
    let reports = Reports::new(&database).await;
    reports.sql(CONVERSATION).await;
    reports.fold(ALL).await;
    let zones = "SELECT count(*) FROM chatledger_reports WHERE time_zone = 'Asia/Karachi'";
    assert_eq!(messages(&reports.days(None, "asia/karachi").await), 3);
    assert_eq!(reports.number(zones).await, 0);
    reports.fold(ALL).await;
    assert_eq!(reports.number(zones).await, 1);
    assert_eq!(messages(&reports.days(None, "Asia/karachi").await), 3);
    // At most eight are.
    for zone in [
        "Africa/Cairo",
        "Africa/Lagos",
        "Asia/Tokyo",
        "Asia/Dubai",
        "Asia/Seoul",
        "Europe/Rome",
        "Europe/Paris",
        "Europe/Berlin",
        "Europe/Oslo",
    ] {
        reports.days(None, zone).await;
        reports.fold(ALL).await;
    }
    assert_eq!(
        reports.number("SELECT count(*) FROM chatledger_reports").await,
        3 + 8
    );
}

#[tokio::test]
async fn one_folds_at_a_time_and_nothing_is_counted_twice() {
    let database = TestDatabase::new().await;
    let (one, other) = (Reports::new(&database).await, Reports::new(&database).await);
    one.sql(CONVERSATION).await;
    let mut holder = database.client().await;
    let lock = holder.transaction().await.expect("a transaction");
    lock.batch_execute("SELECT pg_advisory_xact_lock(3190846120775932571)")
        .await
        .expect("the lock");
    assert_eq!(one.fold(ALL).await, Folded::Busy);
    lock.commit().await.expect("the end");
    for _ in 0..10 {
        one.sql("INSERT INTO messages (session_id, role, content) SELECT id, 'user', 'x' FROM chat_sessions")
            .await;
        // Either may find the other at it, or what it has just changed.
        let folds = [
            one.store.fold(one.store.db(), ALL),
            other.store.fold(other.store.db(), ALL),
        ];
        let folds = futures_util::future::join_all(folds).await;
        assert!(
            folds
                .iter()
                .any(|fold| matches!(fold, Ok(Folded::All | Folded::Held))),
            "{folds:?}"
        );
    }
    one.fold_in().await;
    assert_eq!(
        one.number("SELECT sum(messages)::bigint FROM chatledger_report_days")
            .await,
        13
    );
}

#[tokio::test]
async fn a_database_that_is_restored_elsewhere_counts_anew() {
    let database = TestDatabase::new().await;
    let reports = Reports::new(&database).await;
    reports.sql(CONVERSATION).await;
    reports.fold_in().await;
    // As a dump brings it: the counts as they were there, and transactions of other numbers.
    reports
        .sql("UPDATE chatledger_reports SET origin = 'elsewhere'; UPDATE chatledger_report_days SET messages = 77")
        .await;
    assert_eq!(messages(&reports.days(None, "UTC").await), 3);
    reports.fold_in().await;
    assert_eq!(
        reports
            .number("SELECT sum(messages)::bigint FROM chatledger_report_days")
            .await,
        3
    );
    reports
        .sql("UPDATE chatledger_reports SET folded_through = folded_through + 1000000000000")
        .await;
    assert_eq!(messages(&reports.days(None, "UTC").await), 3);
    reports.fold_in().await;
    assert_eq!(messages(&reports.days(None, "UTC").await), 3);
}

#[tokio::test]
async fn no_trigger_fires_for_an_append() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let message = pb::NewMessage {
        citations: vec![citation("d", "c", 0.5)],
        ..text("hello")
    };
    let client = database.client().await;
    // The functions that are called are counted, when their session ends or a second later.
    let track = format!("ALTER DATABASE {} SET track_functions = 'all'", database.name);
    client.batch_execute(&track).await.expect("a setting");
    append_batch(&server, &session, vec![message; 1], None)
        .await
        .expect("receipts");
    append(&server, &session, text("again")).await.expect("a receipt");
    let changes = "SELECT (SELECT count(*) FROM chatledger_report_message_changes)
        + (SELECT count(*) FROM chatledger_report_citation_changes) + (SELECT count(*) FROM chatledger_report_session_changes)";
    assert_eq!(
        client
            .query_one(changes, &[])
            .await
            .expect("a count")
            .get::<_, i64>(0),
        0
    );
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgtype & 4 = 4
        AND tgrelid IN ('messages'::regclass, 'message_citations'::regclass) AND tgqual IS NULL";
    assert_eq!(
        client
            .query_one(triggers, &[])
            .await
            .expect("a count")
            .get::<_, i64>(0),
        0
    );
}

#[tokio::test]
async fn a_server_folds_in_what_was_committed() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    append(&server, &session, text("hello")).await.expect("a receipt");
    let client = database.client().await;
    let sum = "SELECT coalesce(sum(messages), 0)::bigint FROM chatledger_report_days";
    eventually("the message is counted", async || {
        let counted: i64 = client.query_one(sum, &[]).await.expect("a sum").get(0);
        (counted == 1).then_some(())
    })
    .await;
}
