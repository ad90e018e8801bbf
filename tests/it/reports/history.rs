//! A random history, which follows from its seed: appends and changes through the server, and SQL by hand in transactions that are
//! open side by side, some of which are rolled back. After each step the reports are compared with what the rows say.

use chatledger::auth::Caller;
use tokio_postgres::Client;

use super::{ALL, Reports};
use crate::harness::*;
use chatledger::store::FoldRequest;

/// A generator of numbers (splitmix64): the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn one_of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        let sides = u64::try_from(list.len()).expect("few");
        list[usize::try_from(self.roll(sides)).expect("few")]
    }
}

const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Karachi"];
/// Around midnights, and where St. John's sets its clocks back from one minute past midnight.
const TIMES: [&str; 12] = [
    "2026-03-28 11:00+00",
    "2026-03-28 23:30+00",
    "2026-03-28 22:30+00",
    "2026-03-29 00:30+00",
    "2026-03-29 22:00+00",
    "2006-10-29 02:31+00",
    "2006-10-29 02:30:30+00",
    "2006-10-29 03:15+00",
    "2026-03-30 01:00+00",
    "infinity",
    "-infinity",
    "0001-01-01 12:00+00",
];
const SINCES: [&str; 9] = [
    "2026-03-28T12:00:00Z",
    "2026-03-29T00:00:00Z",
    "2026-03-28T23:00:00Z",
    "2026-03-29T22:00:00Z",
    "2006-10-29T02:45:00Z",
    "2006-10-29T02:30:40Z",
    "1867-10-18T12:00:00Z",
    "9999-12-30T12:00:00Z",
    "0001-01-01T00:00:00Z",
];

/// A history.
struct History {
    dice: Dice,
    reports: Reports,
    server: TestServer,
    /// Connections for SQL by hand, and whether each is in a transaction.
    hands: Vec<(Client, bool)>,
    /// How often a report was compared that is kept.
    kept: usize,
}

impl History {
    async fn new(database: &TestDatabase, seed: u64) -> History {
        let mut hands = Vec::new();
        for _ in 0..3 {
            let client = database.client().await;
            client
                .batch_execute("SET lock_timeout = '20ms'")
                .await
                .expect("a setting");
            hands.push((client, false));
        }
        History {
            dice: Dice(seed),
            reports: Reports::new(database).await,
            server: start(database).await,
            hands,
            kept: 0,
        }
    }

    /// The sessions that are there, some of which may be locked.
    async fn session(&mut self) -> Option<String> {
        let sql = "SELECT id::text FROM chat_sessions WHERE tenant_id = 'default' ORDER BY created_at, id";
        let rows = self.reports.client.query(sql, &[]).await.expect("sessions");
        let count = u64::try_from(rows.len()).expect("few");
        (count > 0).then(|| rows[usize::try_from(self.dice.roll(count)).expect("few")].get(0))
    }

    async fn step(&mut self) {
        if self.dice.roll(10) < 3 {
            let transactions = [1, 2, 7, i64::MAX][usize::try_from(self.dice.roll(4)).expect("few")];
            let forget = self.dice.roll(20) == 0;
            self.reports.fold(FoldRequest { transactions, forget }).await;
        } else if self.hands.iter().all(|(_, open)| !open) && self.dice.roll(2) == 0 {
            self.by_server().await;
        } else {
            self.by_hand().await;
        }
    }

    /// Something through the server, which would wait for what a transaction of somebody's holds.
    async fn by_server(&mut self) {
        let session = self.session_or_new().await;
        let (kind, count, dies) = (self.dice.roll(9), self.dice.roll(6) + 1, self.dice.roll(3) == 0);
        let document = self.dice.one_of(&["a", "b", "c"]);
        let server = &self.server;
        match kind {
            0..4 => {
                let message = pb::NewMessage {
                    citations: vec![citation(document, "c", 0.1); 2],
                    ..text("hello")
                };
                let count = usize::try_from(count).expect("few");
                let sent = append_batch(server, &session, vec![message; count], None).await;
                sent.expect("receipts");
            }
            4 => drop(clear_messages(server, &session).await.expect("an erasure")),
            5 => {
                let messages = messages_of(server, &session).await;
                if let Some(message) = messages.first() {
                    delete_message(server, &session, &message.id)
                        .await
                        .expect("an erasure");
                }
            }
            6 => {
                let user = new_user(server).await.id;
                let request = pb::ClaimSessionsRequest {
                    user_id: user.clone(),
                    session_ids: vec![session],
                    claim_secrets: Vec::new(),
                };
                answer(server.sessions().claim_sessions(request).await);
                if dies {
                    answer(
                        server
                            .users()
                            .delete_user(pb::DeleteUserRequest { user_id: user })
                            .await,
                    );
                }
            }
            7 => {
                let request = pb::DeleteSessionRequest { session_id: session };
                answer(server.sessions().delete_session(request).await);
            }
            _ => drop(new_session(server).await),
        }
    }

    async fn session_or_new(&mut self) -> String {
        match self.session().await {
            Some(session) => session,
            None => new_session(&self.server).await,
        }
    }

    /// A statement by hand, which may fail, and the beginning or the end of a transaction.
    async fn by_hand(&mut self) {
        let session = self.session_or_new().await;
        let time = self.dice.one_of(&TIMES);
        let letter = self.dice.one_of(&["a", "b", "c", "d"]);
        let tenant = self.dice.one_of(&["default", "acme"]);
        let score = self
            .dice
            .one_of(&["0.1", "0.7", "NULL", "'NaN'", "1e300", "-7.25", "1e-9"]);
        let of = format!("session_id = '{session}'");
        let sql = match self.dice.roll(20) {
            0 => format!("INSERT INTO chat_sessions (created_at, last_seq) VALUES ('{time}', {})", self.dice.roll(3)),
            1..4 => format!("INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'user', 'x')"),
            4..6 => format!(
                "WITH b AS (UPDATE chat_sessions SET last_seq = last_seq + 3, updated_at = clock_timestamp(),
                    last_message_at = greatest(last_message_at, '{time}') WHERE id = '{session}' RETURNING id, last_seq)
                INSERT INTO messages (session_id, seq, role, content, created_at)
                SELECT id, last_seq - n, 'user', 'x', '{time}' FROM b, generate_series(0, 2) n"
            ),
            6 => format!("DELETE FROM messages WHERE {of} AND seq % 2 = 0"),
            7 => format!("DELETE FROM chat_sessions WHERE id = '{session}'"),
            8 => format!("UPDATE messages SET created_at = '{time}' WHERE {of} AND seq % 3 = 1"),
            9..11 => format!(
                "INSERT INTO message_citations (message_id, document_id, score, created_at)
                SELECT id, '{letter}', {score}, '{time}' FROM messages WHERE {of}"
            ),
            11 => format!("DELETE FROM message_citations WHERE {of} AND document_id = '{letter}'"),
            12 => format!("UPDATE message_citations SET score = {score}, tenant_id = '{tenant}' WHERE {of}"),
            13 => format!("UPDATE chat_sessions SET created_at = '{time}' WHERE id = '{session}'"),
            14 => format!("UPDATE chat_sessions SET last_seq = last_seq + 1 WHERE id = '{session}'"),
            15 => format!("UPDATE chat_sessions SET tenant_id = '{tenant}' WHERE id = '{session}'"),
            16 => format!(
                "DELETE FROM chat_sessions WHERE id = '{session}'; INSERT INTO chat_sessions (id) VALUES ('{session}');
                INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'user', 'again')"
            ),
            17 => format!(
                "UPDATE messages SET session_id = (SELECT min(id::text)::uuid FROM chat_sessions), seq = seq + 1000
                WHERE id IN (SELECT id FROM messages WHERE {of} LIMIT 1)"
            ),
            18 if self.dice.roll(6) == 0 => "TRUNCATE message_citations".to_owned(),
            _ => "SELECT".to_owned(),
        };
        let end = self.dice.one_of(&["COMMIT", "COMMIT", "ROLLBACK"]);
        let (begins, ends) = (self.dice.roll(3) == 0, self.dice.roll(3) == 0);
        let place = usize::try_from(self.dice.roll(3)).expect("few");
        let (client, open) = &mut self.hands[place];
        if !*open && begins {
            client.batch_execute("BEGIN").await.expect("a transaction");
            *open = true;
        }
        if *open {
            // A failure undoes the statement alone.
            client.batch_execute("SAVEPOINT s").await.expect("a savepoint");
            if client.batch_execute(&sql).await.is_err() {
                client.batch_execute("ROLLBACK TO s").await.expect("the way back");
            }
            if ends {
                client.batch_execute(end).await.expect("an end");
                *open = false;
            }
        } else {
            drop(client.batch_execute(&sql).await);
        }
    }

    /// Compares each report, for one tenant, of all time and since some time.
    async fn compare(&mut self, step: usize) {
        let tenant = self.dice.one_of(&["default", "acme"]);
        let since = self.dice.one_of(&SINCES);
        let zone = self.dice.one_of(&ZONES);
        for since in [None, Some(since)] {
            let told = self.told(tenant, since, zone).await;
            let found = self.found(tenant, since, zone).await;
            assert_eq!(told, found, "step {step}: {tenant}, since {since:?}, {zone}");
        }
        let kept = "SELECT count(*) FROM chatledger_reports WHERE folded_through > 0";
        self.kept += usize::from(self.reports.number(kept).await > 2);
    }

    /// What the service tells.
    async fn told(&self, tenant: &str, since: Option<&str>, zone: &str) -> Vec<String> {
        let caller = Caller {
            tenant: tenant.into(),
            ..Caller::local_service(None)
        };
        let since = since.map(|since| since.parse().expect("a time"));
        let store = &self.reports.store;
        let days = store
            .daily_volume(&caller, since, zone)
            .await
            .expect("days")
            .into_iter();
        let documents = store
            .top_documents(&caller, since, 100)
            .await
            .expect("documents")
            .into_iter();
        let lengths = store
            .session_lengths(&caller, since)
            .await
            .expect("lengths")
            .into_iter();
        days.map(|day| format!("{} {} {}", day.date, day.message_count, day.session_count))
            .chain(
                documents.map(|of| format!("{} {} {:.6}", of.document_id, of.citation_count, of.mean_score)),
            )
            .chain(lengths.map(|length| format!("{} {}", length.label, length.session_count)))
            .collect()
    }

    /// What the rows say.
    async fn found(&self, tenant: &str, since: Option<&str>, zone: &str) -> Vec<String> {
        let since = since.unwrap_or("-infinity");
        let sql = "
            SELECT concat_ws(' ', to_char(m.created_at AT TIME ZONE $3, 'YYYY-MM-DD'), count(*), count(DISTINCT s.id)), 1, 0::bigint
            FROM messages m JOIN chat_sessions s ON s.id = m.session_id
            WHERE s.tenant_id = $1 AND m.created_at >= $2::text::timestamptz
                AND m.created_at > '0001-01-02 00:00:00+00' AND m.created_at < '9999-12-31 00:00:00+00'
            GROUP BY to_char(m.created_at AT TIME ZONE $3, 'YYYY-MM-DD')
            UNION ALL
            SELECT concat_ws(' ', document_id, count(*), (coalesce(
                avg(score) FILTER (WHERE score BETWEEN -1e100 AND 1e100), 0))::numeric(12, 6)), 2, -count(*)
            FROM message_citations WHERE tenant_id = $1 AND created_at >= $2::text::timestamptz GROUP BY document_id
            UNION ALL
            SELECT concat_ws(' ', b.label, count(s.id)), 3, b.least
            FROM (VALUES ('1', 1, 1), ('2-5', 2, 5), ('6-10', 6, 10), ('11-20', 11, 20), ('20+', 21, NULL)) AS b (label, least, most)
            LEFT JOIN chat_sessions s ON s.last_seq >= b.least AND (b.most IS NULL OR s.last_seq <= b.most)
                AND s.tenant_id = $1 AND s.created_at >= $2::text::timestamptz
            GROUP BY b.label, b.least
            ORDER BY 2, 3, 1";
        let rows = self.reports.client.query(sql, &[&tenant, &since, &zone]).await;
        rows.expect("rows").iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test]
async fn after_each_step_of_a_random_history_reports_say_what_the_rows_say() {
    for seed in [1, 2] {
        let database = TestDatabase::new().await;
        let mut history = History::new(&database, seed).await;
        history.reports.fold(ALL).await;
        let mut most = 0;
        for step in 0..100 {
            history.step().await;
            history.compare(step).await;
            most = most.max(history.reports.number("SELECT count(*) FROM messages").await);
        }
        assert!(history.kept > 80, "{} of 100 were kept", history.kept);
        assert!(most > 10, "{most} messages at most");
    }
}
