//! What is new in watched sessions, and how servers that share the database wake each other.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    Store,
    message::{self, citations, columns, json_size, read_citations, size},
};
use crate::{
    auth::Caller,
    domain::{Result, message::Message},
};
use chatledger_postgres::Sql;

/// News of several sessions at once: `$1` session, `$2` tenant, `$3` end user or NULL, `$4` the seq that is
/// known; a page of `$5` messages and `$6` bytes each, or, where `$7`, of one that is larger. A session that isn't there, or isn't the
/// caller's, has no row; one without news has a row without a message.
///
/// Nothing above last_seq is read: a seq that was given by hand is ahead of messages that are still to come.
static NEWS: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        ", w.place, s.last_seq, m.available
        FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS w (session_id, tenant_id, user_id, known, place)
        JOIN chat_sessions s ON s.id = w.session_id AND s.tenant_id = w.tenant_id
            AND (w.user_id IS NULL OR s.user_id = w.user_id)
        LEFT JOIN LATERAL (
            SELECT *, count(*) OVER () AS available, sum(size) OVER (ORDER BY seq) AS through
            FROM (SELECT m.*, c.*, ",
        size!(),
        " AS size FROM (
                SELECT m.* FROM messages m
                WHERE m.session_id = s.id AND m.seq > w.known AND m.seq <= s.last_seq AND m.deleted_at IS NULL
                ORDER BY m.seq LIMIT $5
            ) m",
        citations!("true"),
        ") sized) m ON m.through <= $6 OR $7 AND m.through = m.size",
        read_citations!(),
        " ORDER BY w.place, m.seq"
    ),
    params: &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8,
        Type::INT8,
        Type::BOOL,
    ],
};

static NOTIFY: Sql = Sql {
    text: "SELECT pg_notify('chatledger_appends', $1)",
    params: &[Type::TEXT],
};

/// What a connection runs that is to hear the notifications.
pub const LISTEN: &str = "LISTEN chatledger_appends";

pub(super) static ALL: &[&Sql] = &[&NEWS, &NOTIFY];

/// What somebody knows of a session, and wants to know more of.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asks.
    pub caller: Caller,
    /// The session.
    pub session_id: Uuid,
    /// The last seq that is known.
    pub known: i64,
}

/// How much of a session's news is read at a time.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    /// The most messages.
    pub rows: usize,
    /// The most bytes of them.
    pub bytes: usize,
    /// Whether a first message that has more is read all the same.
    pub large: bool,
}

/// A session's news: the messages above a known seq, or the first of them; none, though there may be some, where the
/// first is larger than was asked for.
#[derive(Debug, Default, PartialEq)]
pub struct News {
    /// The messages, by seq.
    pub messages: Vec<Message>,
    /// The session's last seq at that moment.
    pub last_seq: i64,
    /// Whether there are more.
    pub more: bool,
}

impl News {
    /// Up to which seq these are all the messages.
    #[must_use]
    pub fn reach(&self) -> i64 {
        match self.messages.last() {
            Some(last) if self.more => last.seq,
            _ => self.last_seq,
        }
    }
}

impl Store {
    /// News of sessions, in the order asked; `None`: there is no such session.
    pub async fn news(&self, asked: &[Asked], page: PageSize) -> Result<Vec<Option<News>>> {
        let sessions: Vec<Uuid> = asked.iter().map(|asked| asked.session_id).collect();
        let tenants: Vec<&str> = asked.iter().map(|asked| asked.caller.tenant.as_ref()).collect();
        let users: Vec<Option<Uuid>> = asked.iter().map(|asked| asked.caller.end_user).collect();
        let known: Vec<i64> = asked.iter().map(|asked| asked.known).collect();
        let limit = i64::try_from(page.rows).unwrap_or(i64::MAX);
        let bytes = i64::try_from(page.bytes).unwrap_or(i64::MAX);
        let rows = self
            .db
            .read(
                None,
                &NEWS,
                &[&sessions, &tenants, &users, &known, &limit, &bytes, &page.large],
            )
            .await?;
        let mut news: Vec<Option<News>> = asked.iter().map(|_| None).collect();
        for row in &rows {
            // Places are those of the arrays, from 1.
            let place = usize::try_from(row.get::<_, i64>(message::COLUMNS) - 1).unwrap_or(usize::MAX);
            let Some(of) = news.get_mut(place) else { continue };
            let of = of.get_or_insert_default();
            of.last_seq = row.get(message::COLUMNS + 1);
            if let Some(available) = row.get::<_, Option<i64>>(message::COLUMNS + 2) {
                of.messages.push(message::message(row)?);
                let shown = i64::try_from(of.messages.len()).unwrap_or(i64::MAX);
                of.more = shown < available || available == limit;
            }
        }
        Ok(news)
    }

    /// Tells the servers that listen, this one included.
    pub async fn notify(&self, payload: &str) -> Result<()> {
        self.db.write(None, &NOTIFY, &[&payload]).await?;
        Ok(())
    }
}
