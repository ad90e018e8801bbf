//! `messages`, but for the appends, which are the [`ledger`](crate::ledger)'s.

use bytes::Bytes;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Store, first, internal, merged_json, replaces};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        citation::Citation,
        json,
        message::{Message, MessageChange, MessageFilter, Role},
    },
};
use chatledger_postgres::{Sql, Time, Tx};

/// The columns that [`message`] reads, of a row `m` and its citations `c` (see `citations`).
macro_rules! columns {
    () => {
        "coalesce(m.given_id, m.id), m.session_id, m.seq, m.role, m.content, m.selected_text, m.metadata::text,
         m.payload, m.created_at, c.documents, c.chunks, c.scores, c.indexes"
    };
}
pub(super) use columns;

/// A message's citations as four arrays, one row; all NULL where there are none or `$wanted` is false.
macro_rules! citations {
    ($wanted:literal) => {
        concat!(
            " LEFT JOIN LATERAL (
                SELECT array_agg(document_id) AS documents, array_agg(coalesce(chunk_id, '')) AS chunks,
                    array_agg(coalesce(score, 0)) AS scores, array_agg(citation_index) AS indexes
                FROM (SELECT * FROM message_citations mc WHERE mc.message_id = m.id AND ",
            $wanted,
            "
                    ORDER BY citation_index) ordered
            ) c ON true "
        )
    };
}
pub(super) use citations;

macro_rules! visible {
    () => {
        "s.id = $3 AND s.tenant_id = $1 AND ($2::uuid IS NULL OR s.user_id = $2)"
    };
}

/// The message `$4` of the session `$3`, which has its id or, where that was taken, the derived one.
macro_rules! one {
    () => {
        concat!(
            visible!(),
            " AND m.session_id = s.id AND m.deleted_at IS NULL AND m.id IN ($4, message_row_id($3, $4))"
        )
    };
}

static GET: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM chat_sessions s JOIN messages m ON m.session_id = s.id",
        citations!("true"),
        " WHERE ",
        one!()
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::UUID],
};

/// What a JSON column has in bytes as text, about. What is stored compressed has to be looked at; it is as good as
/// never small, and seldom there.
macro_rules! json_size {
    ($column:literal) => {
        concat!(
            "CASE WHEN pg_column_compression(",
            $column,
            ") IS NULL THEN pg_column_size(",
            $column,
            ") ELSE octet_length(",
            $column,
            "::text) END"
        )
    };
}
pub(super) use json_size;

/// What a message weighs, told without reading its texts: a row `m` and its citations `c`, of which each is a struct
/// of 64 bytes besides its texts, see `domain::message`.
macro_rules! size {
    () => {
        concat!(
            "octet_length(m.content) + coalesce(octet_length(m.selected_text), 0)
            + coalesce(octet_length(m.payload), 0) + ",
            json_size!("m.metadata"),
            " + coalesce(pg_column_size(c.documents) + pg_column_size(c.chunks)
                + 64 * cardinality(c.indexes), 0)"
        )
    };
}
pub(super) use size;

/// The citations of a page's rows `m`, which have been read with them.
macro_rules! read_citations {
    () => {
        " CROSS JOIN LATERAL (SELECT m.documents, m.chunks, m.scores, m.indexes) c "
    };
}
pub(super) use read_citations;

/// A page of messages with a seq between `$4` and `$5`. A row is left out where those before it have
/// `$8` bytes: sizes are known without reading the texts, so a page of large ones costs only what it shows.
/// The last column says how many rows there were before that.
macro_rules! list {
    ($order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", m.available FROM (
                SELECT m.*, c.*, count(*) OVER () AS available, coalesce(sum(",
            size!(),
            ") OVER (ORDER BY m.seq ",
            $order,
            " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
                FROM (
                    SELECT m.* FROM chat_sessions s JOIN messages m ON m.session_id = s.id
                    WHERE ",
            visible!(),
            " AND m.session_id = $3 AND m.deleted_at IS NULL
                        AND m.seq > $4 AND m.seq < $5 AND ($6::text[] IS NULL OR m.role = ANY($6))
                    ORDER BY m.seq ",
            $order,
            " LIMIT $7
                ) m",
            citations!("$9"),
            ") m",
            read_citations!(),
            " WHERE m.before < $8 ORDER BY m.seq ",
            $order
        )
    };
}

const LIST_PARAMS: &[Type] = &[
    Type::TEXT,
    Type::UUID,
    Type::UUID,
    Type::INT8,
    Type::INT8,
    Type::TEXT_ARRAY,
    Type::INT8,
    Type::INT8,
    Type::BOOL,
];

static LIST_ASCENDING: Sql = Sql {
    text: list!("ASC"),
    params: LIST_PARAMS,
};

static LIST_DESCENDING: Sql = Sql {
    text: list!("DESC"),
    params: LIST_PARAMS,
};

static UPDATE: Sql = Sql {
    text: concat!(
        "WITH m AS (UPDATE messages m SET metadata = ",
        merged_json!("m.metadata", "$5", "$6"),
        "
            FROM chat_sessions s WHERE ",
        one!(),
        " RETURNING m.*)
        SELECT ",
        columns!(),
        " FROM m",
        citations!("true")
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::BOOL,
    ],
};

macro_rules! erased {
    () => {
        "content = '', selected_text = NULL, metadata = '{}', payload = NULL, deleted_at = clock_timestamp()"
    };
}

static DELETE: Sql = Sql {
    text: concat!(
        "UPDATE messages m SET ",
        erased!(),
        " FROM chat_sessions s WHERE ",
        one!(),
        " RETURNING m.id"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::UUID],
};

static CLEAR: Sql = Sql {
    text: concat!(
        "UPDATE messages m SET ",
        erased!(),
        " FROM chat_sessions s
        WHERE ",
        visible!(),
        " AND m.session_id = s.id AND m.deleted_at IS NULL RETURNING m.id"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

/// A statement of its own, behind the one that locked the messages: a citation that was added meanwhile is
/// seen, and none can be added afterwards.
static DELETE_CITATIONS: Sql = Sql {
    text: "DELETE FROM message_citations WHERE message_id = ANY($1)",
    params: &[Type::UUID_ARRAY],
};

/// The row id of a message, which stays locked for the transaction.
static LOCK: Sql = Sql {
    text: concat!(
        "SELECT m.id FROM chat_sessions s JOIN messages m ON m.session_id = s.id
        WHERE ",
        one!(),
        " FOR NO KEY UPDATE OF m"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::UUID],
};

pub(super) static ALL: &[&Sql] = &[
    &GET,
    &LIST_ASCENDING,
    &LIST_DESCENDING,
    &UPDATE,
    &DELETE,
    &CLEAR,
    &DELETE_CITATIONS,
    &LOCK,
];

/// The number of columns that [`message`] reads.
pub(super) const COLUMNS: usize = 13;

pub(super) fn message(row: &Row) -> Result<Message> {
    let role: &str = row.get(3);
    Ok(Message {
        id: row.get(0),
        session_id: row.get(1),
        seq: row.get(2),
        role: Role::parse(role).ok_or_else(|| internal(format_args!("unknown role {role:?}")))?,
        content: row.get(4),
        selected_text: row.get(5),
        metadata: row.get(6),
        payload: row.get::<_, Option<Vec<u8>>>(7).map(Bytes::from),
        created_at: row.get::<_, Time>(8).0,
        citations: citations_of(row),
    })
}

fn citations_of(row: &Row) -> Vec<Citation> {
    let documents: Option<Vec<String>> = row.get(9);
    let Some(documents) = documents else {
        return Vec::new();
    };
    let chunks: Vec<String> = row.get(10);
    let scores: Vec<f64> = row.get(11);
    let indexes: Vec<i32> = row.get(12);
    let rest = chunks.into_iter().zip(scores).zip(indexes);
    documents
        .into_iter()
        .zip(rest)
        .map(|(document_id, ((chunk_id, score), index))| Citation {
            document_id,
            chunk_id,
            score,
            index,
        })
        .collect()
}

/// The roles of a filter as they are stored; `None` for all.
pub(super) fn role_names(roles: &[Role]) -> Option<Vec<&'static str>> {
    (!roles.is_empty()).then(|| roles.iter().map(|role| role.as_str()).collect())
}

/// A page of messages, and whether more of them follow.
#[derive(Debug)]
pub struct Messages {
    /// The messages.
    pub messages: Vec<Message>,
    /// How many there were for the page, of which `messages` are the first.
    pub available: usize,
}

impl Store {
    /// One message.
    pub async fn message(&self, caller: &Caller, session_id: Uuid, id: Uuid) -> Result<Message> {
        let rows = self
            .read(
                caller,
                &GET,
                &[&caller.tenant.as_ref(), &caller.end_user, &session_id, &id],
            )
            .await?;
        match rows.first() {
            Some(row) => message(row),
            None => Err(self.missing(caller, session_id, Resource::Message).await),
        }
    }

    /// A page of a session's messages, in the order of the pages, of about `max_bytes` at most; one more
    /// than the page holds, if there are as many.
    pub async fn list_messages(
        &self,
        caller: &Caller,
        filter: &MessageFilter,
        max_bytes: usize,
    ) -> Result<Messages> {
        let (mut above, mut below) = (
            filter.after_seq.unwrap_or(0),
            filter.before_seq.unwrap_or(i64::MAX),
        );
        let sql = if filter.descending {
            below = filter.page.after.map_or(below, |(seq,)| below.min(seq));
            &LIST_DESCENDING
        } else {
            above = filter.page.after.map_or(above, |(seq,)| above.max(seq));
            &LIST_ASCENDING
        };
        let rows = self
            .read(
                caller,
                sql,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &filter.session_id,
                    &above,
                    &below,
                    &role_names(&filter.roles),
                    &filter.page.fetch(),
                    &i64::try_from(max_bytes).unwrap_or(i64::MAX),
                    &filter.with_citations,
                ],
            )
            .await?;
        let Some(first) = rows.first() else {
            self.session(caller, filter.session_id).await?;
            return Ok(Messages {
                messages: Vec::new(),
                available: 0,
            });
        };
        Ok(Messages {
            available: usize::try_from(first.get::<_, i64>(COLUMNS)).unwrap_or(usize::MAX),
            // Row by row, so that what a row takes is given back as soon as it is read.
            messages: rows.into_iter().map(|row| message(&row)).collect::<Result<_>>()?,
        })
    }

    /// Changes a message's metadata.
    pub async fn update_message(&self, caller: &Caller, change: &MessageChange) -> Result<Message> {
        let tx = self.db.begin(caller.deadline).await?;
        let changed = self.update_message_in(&tx, caller, change).await;
        match tx.end(changed).await? {
            Some(message) => Ok(message),
            None => Err(self.missing(caller, change.session_id, Resource::Message).await),
        }
    }

    async fn update_message_in(
        &self,
        tx: &Tx,
        caller: &Caller,
        change: &MessageChange,
    ) -> Result<Option<Message>> {
        let rows = tx
            .query(
                &UPDATE,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &change.session_id,
                    &change.message_id,
                    &change.metadata.as_str(),
                    &replaces(change.metadata_mode),
                ],
            )
            .await?;
        let changed = rows.first().map(message).transpose()?;
        if let Some(message) = &changed {
            json::check_merged(&message.metadata, &self.limits)
                .map_err(|description| Error::invalid("metadata_json", description))?;
        }
        Ok(changed)
    }

    /// Erases a message.
    pub async fn delete_message(&self, caller: &Caller, session_id: Uuid, id: Uuid) -> Result<()> {
        let erased = self
            .erase(
                caller,
                &DELETE,
                &[&caller.tenant.as_ref(), &caller.end_user, &session_id, &id],
            )
            .await?;
        if erased == 0 {
            return Err(self.missing(caller, session_id, Resource::Message).await);
        }
        Ok(())
    }

    /// Erases all messages of a session, and answers how many.
    pub async fn clear_messages(&self, caller: &Caller, session_id: Uuid) -> Result<i64> {
        let erased = self
            .erase(
                caller,
                &CLEAR,
                &[&caller.tenant.as_ref(), &caller.end_user, &session_id],
            )
            .await?;
        if erased == 0 {
            self.session(caller, session_id).await?;
        }
        Ok(i64::try_from(erased).unwrap_or(i64::MAX))
    }

    async fn erase(
        &self,
        caller: &Caller,
        sql: &Sql,
        params: &chatledger_postgres::db::Params<'_>,
    ) -> Result<usize> {
        let tx = self.db.begin(caller.deadline).await?;
        let erased = async {
            let rows = tx.query(sql, params).await?;
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            tx.query(&DELETE_CITATIONS, &[&ids]).await?;
            Ok(ids.len())
        }
        .await;
        tx.end(erased).await
    }

    /// Locks a message for the rest of a transaction, and answers its row id.
    pub(super) async fn lock_message(
        &self,
        tx: &Tx,
        caller: &Caller,
        session_id: Uuid,
        id: Uuid,
    ) -> Result<Option<Uuid>> {
        let rows = tx
            .query(
                &LOCK,
                &[&caller.tenant.as_ref(), &caller.end_user, &session_id, &id],
            )
            .await?;
        Ok(first(rows).map(|row| row.get(0)))
    }
}
