//! What is new in watched sessions, and how servers that share the database wake each other.

use uuid::Uuid;

use super::{Store, sql_count};
use crate::{
    auth::Caller,
    domain::{Result, message::Message},
    statements::watch::{News as ReadNews, Notify},
};

/// What a connection runs that is to hear the notifications.
pub const LISTEN: &str = "LISTEN chatledger_appends";

/// What somebody knows of a session, and wants to know more of.
#[derive(Clone, Debug)]
pub struct NewsRequest {
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
    /// News of sessions, in the order of the requests; `None`: there is no such session.
    pub async fn news(&self, requests: &[NewsRequest], page: PageSize) -> Result<Vec<Option<News>>> {
        let session_ids: Vec<Uuid> = requests.iter().map(|request| request.session_id).collect();
        let tenants: Vec<&str> = requests
            .iter()
            .map(|request| request.caller.tenant.as_ref())
            .collect();
        let users: Vec<Option<Uuid>> = requests.iter().map(|request| request.caller.end_user).collect();
        let known: Vec<i64> = requests.iter().map(|request| request.known).collect();
        let limit = sql_count(page.rows);
        let read = ReadNews {
            session_ids: &session_ids,
            tenants: &tenants,
            users: &users,
            known: &known,
            limit,
            max_bytes: sql_count(page.bytes),
            large: page.large,
        };
        let mut news: Vec<Option<News>> = requests.iter().map(|_| None).collect();
        for row in self.run_for_nobody(&read).await? {
            // Places are those of the arrays, from 1.
            let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            let Some(of) = news.get_mut(place) else { continue };
            let of = of.get_or_insert_default();
            of.last_seq = row.last_seq;
            if let (Some(message), Some(available)) = (row.message, row.available) {
                of.messages.push(message.try_into()?);
                let shown = sql_count(of.messages.len());
                of.more = shown < available || available == limit;
            }
        }
        Ok(news)
    }

    /// Tells the servers that listen, this one included.
    pub async fn notify(&self, payload: &str) -> Result<()> {
        self.run_for_nobody(&Notify { payload }).await.map(drop)
    }
}
