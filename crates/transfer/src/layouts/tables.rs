//! Which tables and columns a source has, and the statements over those that differ between layouts in the
//! names only.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::value::to_raw_value;
use tokio_postgres::Client;

use super::{
    plan::{NOTHING, ReadPlan, RowQuery},
    readers::{citation, document, profile, role, session, user},
};
use crate::{
    record::{MessageRecord, Record, RecordKind, merged, parse_as},
    row::{Origin, SourceRow},
};
use chatledger_postgres::connect::describe;

/// The columns found by a bare name: table, column, and whether it is a column of a plain table that doesn't count up.
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text,
        c.relkind = 'r' AND a.atttypid NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
        AND c.relnamespace <> 'pg_catalog'::regnamespace";

/// The names of a message's time.
const TIMES: &[&str] = &["created_at", "timestamp", "sent_at"];
/// The names of a message's session.
const SESSIONS: &[&str] = &["session_id", "chat_session_id"];

/// The columns of each table.
pub(crate) struct TableColumns {
    columns: BTreeMap<String, BTreeSet<String>>,
    /// Plain tables whose id says nothing of when a row was inserted.
    unordered: BTreeSet<String>,
}

impl TableColumns {
    pub(crate) async fn read(client: &Client) -> anyhow::Result<TableColumns> {
        let rows = client.query_typed(COLUMNS, &[]).await;
        let rows = rows.map_err(|error| anyhow::anyhow!(describe(&error)))?;
        let mut tables = TableColumns {
            columns: BTreeMap::new(),
            unordered: BTreeSet::new(),
        };
        for row in rows {
            let (table, column): (String, String) = (row.get(0), row.get(1));
            if column == "id" && row.get(2) {
                tables.unordered.insert(table.clone());
            }
            tables.columns.entry(table).or_default().insert(column);
        }
        Ok(tables)
    }

    pub(crate) fn has(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    /// The first of these columns that the table has.
    pub(crate) fn column<'a>(&self, table: &str, names: &[&'a str]) -> Option<&'a str> {
        let columns = self.columns.get(table)?;
        names.iter().copied().find(|name| columns.contains(*name))
    }

    pub(super) fn names(&self) -> String {
        if self.columns.is_empty() {
            return "no tables".to_owned();
        }
        self.columns
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// All rows of a table, where there is one.
    fn all(&self, table: &str, kind: RecordKind, read: super::RowReader) -> Option<RowQuery> {
        let key = self.column(table, &["id", "user_id", "document_id"])?;
        let sql = format!("SELECT row_to_json(t)::text, NULL::text, false FROM {table} t ORDER BY t.{key}");
        Some(RowQuery { sql, read, kind })
    }

    pub(super) fn before(&self) -> Vec<RowQuery> {
        let rows = [
            self.all("documents", RecordKind::Document, document),
            self.all("users", RecordKind::User, user),
            self.all("user_profiles", RecordKind::Profile, profile),
        ];
        rows.into_iter().flatten().collect()
    }

    /// The sessions, each as this JSON, by their key as text: that is an order which any two columns share, whatever
    /// their types.
    pub(super) fn sessions(row: &str) -> RowQuery {
        let sql = format!(
            "SELECT ({row})::text, NULL::text, false FROM chat_sessions t ORDER BY t.id::text COLLATE \"C\""
        );
        RowQuery {
            sql,
            read: session,
            kind: RecordKind::Session,
        }
    }

    /// The plan of a layout with a table of messages.
    pub(super) fn with_messages(&self, table: &str) -> anyhow::Result<ReadPlan> {
        let mut plan = ReadPlan {
            before: self.before(),
            chats: None,
            count: NOTHING.to_owned(),
            lost_citations: None,
        };
        if !self.has("chat_sessions") && !self.has(table) {
            anyhow::ensure!(!plan.before.is_empty(), "the source has {}", self.names());
            return Ok(plan);
        }
        anyhow::ensure!(self.has("chat_sessions"), "the source has no table chat_sessions");
        anyhow::ensure!(self.has(table), "the source has no table {table}");
        let cited = self.has("message_citations");
        let sql = self.messages(table, cited)?;
        plan.chats = Some((
            Self::sessions("row_to_json(t)"),
            RowQuery {
                sql,
                read: message,
                kind: RecordKind::Message,
            },
        ));
        plan.count = format!("SELECT count(*) FROM {table}");
        plan.lost_citations = cited.then(|| {
            format!(
                "SELECT count(*) FROM message_citations mc
                WHERE NOT EXISTS (SELECT FROM {table} m WHERE m.id::text = mc.message_id::text)"
            )
        });
        Ok(plan)
    }

    /// The messages of a table with their citations, in the order of the sessions.
    fn messages(&self, table: &str, cited: bool) -> anyhow::Result<String> {
        let session = self
            .column(table, SESSIONS)
            .with_context(|| format!("{table} has no session_id"))?;
        let time = match self.column(table, TIMES) {
            Some(time) => format!("m.{time}, "),
            None => String::new(),
        };
        // Messages that were inserted by one transaction often have one time: a question and its answer, for instance.
        // Where the key is random, the place in the table tells which came first, unless a row was updated since.
        let place = if self.unordered.contains(table) {
            "m.ctid, "
        } else {
            ""
        };
        // The session says whose a message is; another user is worth to be kept.
        let has_users = [table, "chat_sessions"].map(|table| self.column(table, &["user_id"]).is_some());
        let row = if has_users == [true, true] {
            "CASE WHEN m.user_id::text = s.user_id::text THEN to_jsonb(m) - 'user_id' ELSE to_jsonb(m) END"
        } else {
            "row_to_json(m)"
        };
        let (citations, join) = if cited {
            ("c.list::text", self.citations())
        } else {
            ("NULL::text", String::new())
        };
        // The messages aren't read session by session: the source may have no index for that.
        Ok(format!(
            "SELECT ({row})::text, {citations}, s.id IS NULL FROM {table} m
            LEFT JOIN chat_sessions s ON s.id::text = m.{session}::text{join}
            ORDER BY m.{session}::text COLLATE \"C\", {time}{place}m.id"
        ))
    }

    /// Joins each message's citations.
    fn citations(&self) -> String {
        let order = match self.column("message_citations", &["citation_index", "created_at", "id"]) {
            Some(column) => format!(" ORDER BY mc.{column}"),
            None => String::new(),
        };
        format!(
            " LEFT JOIN (SELECT mc.message_id::text AS message, json_agg(row_to_json(mc){order}) AS list
                FROM message_citations mc GROUP BY 1) c ON c.message = m.id::text"
        )
    }
}

/// A row of a table of messages. A value that has no column of its own goes into the metadata.
fn message(origin: &Origin, row: &str, citations: Option<&str>) -> Result<Record, String> {
    let mut row = SourceRow::parse(row)?;
    let session = row.text(SESSIONS).ok_or("it names no session")?;
    let id = row.text(&["id"]).ok_or("it has no id")?;
    let user = row.text(&["user_id"]).map(|key| origin.id("users", &key));
    let citations: Vec<crate::record::Json> = citations.map(parse_as).transpose()?.unwrap_or_default();
    let user = user.and_then(|id| Some(("user_id".to_owned(), to_raw_value(&id).ok()?)));
    let record = MessageRecord {
        session_id: origin.id("chat_sessions", &session),
        id: origin.id("messages", &id),
        seq: None,
        role: role(&row.text(&["role", "sender"]).unwrap_or_default()),
        content: row.text(&["content", "message", "text"]).unwrap_or_default(),
        selected_text: row.text(&["selected_text"]),
        payload: None,
        created_at: row.time(TIMES, origin),
        deleted_at: None,
        citations: citations
            .iter()
            .map(|text| citation(text.get()))
            .collect::<Result<_, _>>()?,
        metadata: merged(
            row.json(&["metadata", "message_metadata", "meta"]),
            row.rest().into_iter().chain(user).collect(),
        ),
    };
    Ok(Record::Message(Box::new(record)))
}
