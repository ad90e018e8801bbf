//! Where records come from: a database, read in one snapshot through cursors, or lines of JSON.

use std::{collections::VecDeque, path::Path};

use anyhow::{Context, anyhow};
use jiff::tz::TimeZone;
use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    layouts::{
        self, ReadPlan, RowQuery, RowReader, SourceLayout,
        chatledger::{self, ExportPart},
    },
    record::{Record, RecordKind},
    row::{Origin, SourceRow},
};
use chatledger_postgres::connect::{Connector, describe};

/// One snapshot for all that is read, without a way to change anything. A cursor's rows are all wanted, so
/// it is planned for that; and times come in UTC, where they have an offset.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL TimeZone = 'UTC'; SET LOCAL cursor_tuple_fraction = 1; SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0";

/// The values that tell one database from another, whatever the URL by which it is reached.
const IDENTITY: &str =
    "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || current_database()";

/// The bytes that a FETCH aims at: large enough that round trips don't count, small enough to hold a few.
const FETCH_BYTES: usize = 2 << 20;
/// The rows of the first FETCH, which doesn't know yet how long rows are.
const FIRST_FETCH: usize = 64;
/// The most rows of a FETCH: short rows gain nothing beyond.
const MOST_FETCH: usize = 2000;

/// The number of characters that are shown of a row that has no key.
const SHOWN: usize = 80;

/// An item that a source tells.
#[derive(Debug)]
pub(crate) enum SourceItem {
    /// A record.
    Record(Record),
    /// A row that could not be read, or belongs to nothing.
    Lost {
        /// The kind of record that it would have been.
        kind: RecordKind,
        /// The words by which the row is found.
        key: String,
        /// The reason.
        reason: String,
    },
}

/// A source of records.
#[allow(clippy::large_enum_variant)] // there is one of them
pub enum Source {
    /// A database.
    Tables(TableSource),
    /// Lines of JSON.
    Lines(LineSource),
}

impl Source {
    /// The next record; `None` at the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<SourceItem>> {
        match self {
            Source::Tables(tables) => tables.next().await,
            Source::Lines(lines) => lines.next().await,
        }
    }
}

/// The text that tells this database from every other.
///
/// # Errors
/// It can't be asked.
pub async fn identity(client: &Client) -> anyhow::Result<String> {
    let rows = client.query_typed(IDENTITY, &[]).await.map_err(explain)?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

fn explain(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow!(describe(&error))
}

/// A database.
pub struct TableSource {
    client: Client,
    /// The layout of the database.
    pub layout: SourceLayout,
    /// The origin that its integer keys are derived with.
    pub origin: Origin,
    /// The text that tells it from other databases.
    pub identity: String,
    plan: ReadPlan,
    before: VecDeque<Cursor>,
    chats: Option<Chats>,
}

struct Chats {
    sessions: Cursor,
    messages: Cursor,
    /// The session whose messages come now.
    session: Option<Uuid>,
}

impl TableSource {
    /// A connection is made, the layout recognized, and the reading begun.
    ///
    /// # Errors
    /// The database can't be reached, or isn't of this layout.
    pub async fn open(
        connector: &Connector,
        layout: SourceLayout,
        name: Option<String>,
        time_zone: TimeZone,
    ) -> anyhow::Result<TableSource> {
        let (client, _) = connector.connect().await.map_err(explain)?;
        client.batch_execute(BEGIN).await.map_err(explain)?;
        let identity = identity(&client).await?;
        let layout = layout.recognize(&client).await?;
        let origin = Origin {
            name: name.unwrap_or_else(|| identity.clone()),
            time_zone,
        };
        let plan = layout.plan(&client).await?;
        Self::begin(client, layout, origin, identity, plan).await
    }

    /// Begins to read a part of one of our own databases.
    ///
    /// # Errors
    /// It can't be reached.
    pub async fn open_part(
        connector: &Connector,
        tenant: &str,
        part: ExportPart,
        passwords: bool,
    ) -> anyhow::Result<TableSource> {
        let (client, _) = connector.connect().await.map_err(explain)?;
        client.batch_execute(BEGIN).await.map_err(explain)?;
        let origin = Origin {
            name: String::new(),
            time_zone: TimeZone::UTC,
        };
        let tables = layouts::TableColumns::read(&client).await?;
        let plan = chatledger::plan(&tables, tenant, part, passwords);
        Self::begin(client, SourceLayout::Chatledger, origin, String::new(), plan).await
    }

    async fn begin(
        client: Client,
        layout: SourceLayout,
        origin: Origin,
        identity: String,
        mut plan: ReadPlan,
    ) -> anyhow::Result<TableSource> {
        let mut before = VecDeque::new();
        for (i, rows) in std::mem::take(&mut plan.before).into_iter().enumerate() {
            before.push_back(Cursor::declare(&client, format!("before_{i}"), rows).await?);
        }
        let chats = match plan.chats.take() {
            Some((sessions, messages)) => Some(Chats {
                sessions: Cursor::declare(&client, "sessions".to_owned(), sessions).await?,
                messages: Cursor::declare(&client, "messages".to_owned(), messages).await?,
                session: None,
            }),
            None => None,
        };
        Ok(TableSource {
            client,
            layout,
            origin,
            identity,
            plan,
            before,
            chats,
        })
    }

    /// The number of messages.
    ///
    /// # Errors
    /// They can't be counted.
    pub async fn count(&self) -> anyhow::Result<u64> {
        self.number(&self.plan.count).await
    }

    /// The number of citations that name a message that isn't there.
    pub(crate) async fn lost_citations(&self) -> anyhow::Result<u64> {
        match &self.plan.lost_citations {
            Some(sql) => self.number(sql).await,
            None => Ok(0),
        }
    }

    async fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let rows = self.client.query_typed(sql, &[]).await.map_err(explain)?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)).unsigned_abs())
    }

    async fn next(&mut self) -> anyhow::Result<Option<SourceItem>> {
        while let Some(cursor) = self.before.front_mut() {
            if let Some(row) = cursor.next(&self.client).await? {
                return Ok(Some(cursor.item(&self.origin, &row)));
            }
            self.before.pop_front();
        }
        match &mut self.chats {
            Some(chats) => chats.next(&self.client, &self.origin).await,
            None => Ok(None),
        }
    }
}

impl Chats {
    /// Sessions and messages come in one order: each session's messages follow it.
    async fn next(&mut self, client: &Client, origin: &Origin) -> anyhow::Result<Option<SourceItem>> {
        self.messages.prepare(client).await?;
        if let Some(row) = self.messages.rows.front() {
            let item = self.messages.item(origin, row);
            let is_due = row.lost
                || match &item {
                    SourceItem::Record(Record::Message(message)) => Some(message.session_id) == self.session,
                    _ => true,
                };
            if is_due {
                self.messages.rows.pop_front();
                return Ok(Some(item));
            }
        }
        let Some(row) = self.sessions.next(client).await? else {
            // The statement has joined them: what is left has a session that came before.
            let left = self.messages.next(client).await?;
            return Ok(left.map(|row| self.messages.item(origin, &row)));
        };
        let item = self.sessions.item(origin, &row);
        if let SourceItem::Record(Record::Session(session)) = &item {
            self.session = Some(session.id);
        }
        Ok(Some(item))
    }
}

/// A row as it comes.
#[derive(Debug)]
struct FetchedRow {
    body: String,
    extra: Option<String>,
    /// Whether the row's session is missing.
    lost: bool,
}

impl FetchedRow {
    /// The words by which somebody finds a row that could not be read: its key, its place, or how it begins.
    fn key(&self) -> String {
        let id = SourceRow::parse(&self.body)
            .ok()
            .and_then(|mut row| row.text(&["id"]));
        id.or_else(|| self.extra.clone())
            .unwrap_or_else(|| self.body.chars().take(SHOWN).collect())
    }
}

/// A statement whose rows are fetched as they are needed.
struct Cursor {
    name: String,
    read: RowReader,
    kind: RecordKind,
    rows: VecDeque<FetchedRow>,
    next_fetch: usize,
    done: bool,
}

impl Cursor {
    async fn declare(client: &Client, name: String, rows: RowQuery) -> anyhow::Result<Cursor> {
        let declare = format!("DECLARE {name} NO SCROLL CURSOR FOR {}", rows.sql);
        client
            .batch_execute(&declare)
            .await
            .map_err(explain)
            .context("reading the source")?;
        Ok(Cursor {
            name,
            read: rows.read,
            kind: rows.kind,
            rows: VecDeque::new(),
            next_fetch: FIRST_FETCH,
            done: false,
        })
    }

    /// A row is brought to hand, unless there is none.
    async fn prepare(&mut self, client: &Client) -> anyhow::Result<()> {
        if self.rows.is_empty() && !self.done {
            self.fetch(client).await.context("reading the source")?;
        }
        Ok(())
    }

    async fn next(&mut self, client: &Client) -> anyhow::Result<Option<FetchedRow>> {
        self.prepare(client).await?;
        Ok(self.rows.pop_front())
    }

    async fn fetch(&mut self, client: &Client) -> anyhow::Result<()> {
        let fetch = format!("FETCH {} FROM {}", self.next_fetch, self.name);
        let rows = client.query_typed(&fetch, &[]).await.map_err(explain)?;
        self.done = rows.len() < self.next_fetch;
        self.rows.extend(rows.iter().map(|row| FetchedRow {
            body: row.get(0),
            extra: row.get(1),
            lost: row.get(2),
        }));
        let bytes: usize = self.rows.iter().map(|row| row.body.len()).sum();
        let mean = bytes / self.rows.len().max(1);
        self.next_fetch = (FETCH_BYTES / mean.max(1)).clamp(1, MOST_FETCH);
        Ok(())
    }

    fn item(&self, origin: &Origin, row: &FetchedRow) -> SourceItem {
        match (self.read)(origin, &row.body, row.extra.as_deref()) {
            Ok(record) if row.lost => SourceItem::Lost {
                kind: record.kind(),
                key: key_of(&record),
                reason: "its session does not exist".to_owned(),
            },
            Ok(record) => SourceItem::Record(record),
            Err(reason) => SourceItem::Lost {
                kind: self.kind,
                key: row.key(),
                reason,
            },
        }
    }
}

/// The name of a record in a report.
pub(crate) fn key_of(record: &Record) -> String {
    match record {
        Record::Document(document) => document.id.clone(),
        Record::User(user) => user.id.to_string(),
        Record::Profile(profile) => profile.user_id.to_string(),
        Record::Session(session) => session.id.to_string(),
        Record::Message(message) => format!("{} of session {}", message.id, message.session_id),
    }
}

/// Lines of JSON.
pub struct LineSource {
    input: Box<dyn AsyncBufRead + Send + Unpin>,
    line: String,
    number: u64,
    /// The bytes of the file, where they are known.
    pub length: Option<u64>,
    /// The bytes that have been read.
    pub position: u64,
}

impl LineSource {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// It can't be opened.
    pub async fn open(path: &str) -> anyhow::Result<LineSource> {
        let (input, length): (Box<dyn AsyncBufRead + Send + Unpin>, _) = if path == "-" {
            (Box::new(BufReader::new(tokio::io::stdin())), None)
        } else {
            let file = File::open(Path::new(path)).await;
            let file = file.with_context(|| format!("--from {path}"))?;
            let length = file.metadata().await?.len();
            (Box::new(BufReader::new(file)), Some(length))
        };
        Ok(LineSource {
            input,
            line: String::new(),
            number: 0,
            length,
            position: 0,
        })
    }

    async fn next(&mut self) -> anyhow::Result<Option<SourceItem>> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = self.input.read_line(&mut self.line).await;
            let read = read.with_context(|| format!("line {}", self.number))?;
            self.position += read as u64;
            if read == 0 {
                return Ok(None);
            }
            if !self.line.trim().is_empty() {
                break;
            }
        }
        // A file with a bad line is cut off or no export: nothing is guessed.
        let record = Record::parse(&self.line).map_err(|why| anyhow!("line {}: {why}", self.number))?;
        Ok(Some(SourceItem::Record(record)))
    }
}
