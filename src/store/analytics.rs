//! Counts over all tables.

use jiff::Timestamp;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Store, user::first_id};
use crate::{
    auth::Caller,
    domain::{
        Error, Result,
        analytics::{DailyVolume, LengthBucket, TopDocument, UserActivity},
        page::Page,
    },
};
use chatledger_postgres::{Sql, Time};

/// Counts first, and then looks up only the titles that are shown. Scores that a mean can't be made of (SQL by hand may
/// store NaN, or 1e300) are left out of it.
static TOP_DOCUMENTS: Sql = Sql {
    text: "WITH top AS (
            SELECT document_id, count(*) AS citations,
                coalesce(avg(score) FILTER (WHERE score BETWEEN -1e100 AND 1e100), 0) AS mean FROM message_citations
            WHERE tenant_id = $1 AND ($3::timestamptz IS NULL OR created_at >= $3)
                AND ($2::uuid IS NULL OR session_id IN (
                    SELECT id FROM chat_sessions WHERE tenant_id = $1 AND user_id = $2))
            GROUP BY document_id ORDER BY citations DESC, document_id LIMIT $4)
        SELECT top.document_id, coalesce(d.title, ''), top.citations, top.mean
        FROM top LEFT JOIN documents d ON d.tenant_id = $1 AND d.id = top.document_id
        ORDER BY top.citations DESC, top.document_id",
    params: &[Type::TEXT, Type::UUID, Type::TIMESTAMPTZ, Type::INT8],
};

macro_rules! activity {
    () => {
        "count(*), least(coalesce(sum(last_seq), 0), 9223372036854775807)::bigint, max(coalesce(last_message_at, created_at))"
    };
}

/// `$3` is the first id that may be on the page.
static ACTIVITY_OF_USERS: Sql = Sql {
    text: concat!(
        "SELECT u.id, u.email, a.sessions, a.messages, a.last_active FROM users u
        CROSS JOIN LATERAL (SELECT ",
        activity!(),
        " FROM chat_sessions
            WHERE tenant_id = u.tenant_id AND user_id = u.id) AS a (sessions, messages, last_active)
        WHERE u.tenant_id = $1 AND ($2::uuid IS NULL OR u.id = $2) AND u.id >= $3
        ORDER BY u.id LIMIT $4"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::INT8],
};

/// The same without users.
static ACTIVITY_OF_SESSIONS: Sql = Sql {
    text: concat!(
        "SELECT user_id, '', ",
        activity!(),
        " FROM chat_sessions
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR user_id = $2) AND user_id >= $3
        GROUP BY user_id ORDER BY user_id LIMIT $4"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::INT8],
};

static TIME_ZONE_EXISTS: Sql = Sql {
    text: "SELECT FROM pg_timezone_names WHERE lower(name) = lower($1)",
    params: &[Type::TEXT],
};

/// Days of the years that a date of the contract can have: SQL by hand may store infinity, too.
static DAILY_VOLUME: Sql = Sql {
    text: "SELECT to_char(m.created_at AT TIME ZONE $4, 'YYYY-MM-DD') AS day, count(*), count(DISTINCT m.session_id)
        FROM messages m JOIN chat_sessions s ON s.id = m.session_id
        WHERE s.tenant_id = $1 AND ($2::uuid IS NULL OR s.user_id = $2)
            AND ($3::timestamptz IS NULL OR m.created_at >= $3)
            AND m.created_at > '0001-01-02 00:00:00+00' AND m.created_at < '9999-12-31 00:00:00+00'
        GROUP BY day ORDER BY day",
    params: &[Type::TEXT, Type::UUID, Type::TIMESTAMPTZ, Type::TEXT],
};

static SESSION_LENGTHS: Sql = Sql {
    text: "SELECT b.label, count(s.id)
        FROM (VALUES (1, '1', 1, 1), (2, '2-5', 2, 5), (3, '6-10', 6, 10), (4, '11-20', 11, 20), (5, '20+', 21, NULL))
            AS b (ord, label, least, most)
        LEFT JOIN chat_sessions s ON s.last_seq >= b.least AND (b.most IS NULL OR s.last_seq <= b.most)
            AND s.tenant_id = $1 AND ($2::uuid IS NULL OR s.user_id = $2)
            AND ($3::timestamptz IS NULL OR s.created_at >= $3)
        GROUP BY b.ord, b.label ORDER BY b.ord",
    params: &[Type::TEXT, Type::UUID, Type::TIMESTAMPTZ],
};

pub(super) static ALL: &[&Sql] = &[
    &TOP_DOCUMENTS,
    &ACTIVITY_OF_USERS,
    &ACTIVITY_OF_SESSIONS,
    &TIME_ZONE_EXISTS,
    &DAILY_VOLUME,
    &SESSION_LENGTHS,
];

impl Store {
    /// The most cited documents.
    pub async fn top_documents(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<TopDocument>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .read_planned(
                caller,
                &TOP_DOCUMENTS,
                &[&caller.tenant.as_ref(), &caller.end_user, &since, &limit],
            )
            .await?;
        let documents = rows.iter().map(|row| TopDocument {
            document_id: row.get(0),
            title: row.get(1),
            citation_count: row.get(2),
            mean_score: row.get(3),
        });
        Ok(documents.collect())
    }

    /// One more user than the page holds, if there are as many.
    pub async fn user_activity(&self, caller: &Caller, page: &Page<(Uuid,)>) -> Result<Vec<UserActivity>> {
        let Some(first_id) = first_id(page.after) else {
            return Ok(Vec::new());
        };
        let sql = if self.scope.has_auth() {
            &ACTIVITY_OF_USERS
        } else {
            &ACTIVITY_OF_SESSIONS
        };
        let rows = self
            .read_planned(
                caller,
                sql,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &first_id,
                    &page.fetch(),
                ],
            )
            .await?;
        let users = rows.iter().map(|row| UserActivity {
            user_id: row.get(0),
            email: row.get(1),
            session_count: row.get(2),
            message_count: row.get(3),
            last_active_at: row.get::<_, Option<Time>>(4).map(|time| time.0),
        });
        Ok(users.collect())
    }

    /// Messages by day.
    pub async fn daily_volume(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
        time_zone: &str,
    ) -> Result<Vec<DailyVolume>> {
        // Asked of the database, which does the conversion: its list of zones is the one that counts.
        if self
            .read(caller, &TIME_ZONE_EXISTS, &[&time_zone])
            .await?
            .is_empty()
        {
            return Err(Error::invalid(
                "time_zone",
                "must be an IANA time zone such as Europe/Berlin",
            ));
        }
        let rows = self
            .read_planned(
                caller,
                &DAILY_VOLUME,
                &[&caller.tenant.as_ref(), &caller.end_user, &since, &time_zone],
            )
            .await?;
        let days = rows.iter().map(|row| DailyVolume {
            date: row.get(0),
            message_count: row.get(1),
            session_count: row.get(2),
        });
        Ok(days.collect())
    }

    /// Sessions by length.
    pub async fn session_lengths(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
    ) -> Result<Vec<LengthBucket>> {
        let rows = self
            .read_planned(
                caller,
                &SESSION_LENGTHS,
                &[&caller.tenant.as_ref(), &caller.end_user, &since],
            )
            .await?;
        let buckets = rows.iter().map(|row| LengthBucket {
            label: row.get(0),
            session_count: row.get(1),
        });
        Ok(buckets.collect())
    }
}
