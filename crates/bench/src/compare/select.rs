//! The SELECTs that an application would write instead of asking the service, with their rows decoded.

use std::{collections::HashMap, hint::black_box};

use jiff::Timestamp;
use tokio_postgres::{Client, Error, Row, Statement};
use uuid::Uuid;

use crate::database::told;

const PAGE_LATERAL: &str = include_str!("../sql/page_lateral.sql");
const PAGE_JSON_AGG: &str = include_str!("../sql/page_json_agg.sql");
const PAGE_MESSAGES: &str = include_str!("../sql/page_messages.sql");
const PAGE_CITATIONS: &str = include_str!("../sql/page_citations.sql");
const HISTORY: &str = include_str!("../sql/history.sql");
const HISTORY_CITATIONS: &str = include_str!("../sql/history_citations.sql");

/// A page of 50 messages with their citations.
#[derive(Clone, Copy, Debug)]
pub(super) enum PageForm {
    /// Citations as arrays by a lateral join: a single statement.
    Lateral,
    /// Citations by json_agg over a join, as teams write it.
    JsonAgg,
    /// Citations by a second statement, joined in memory: the fastest that was found.
    TwoStatements,
}

/// A connection that reads pages.
pub(super) enum PageSelect {
    Single {
        client: Client,
        statement: Statement,
        decode: fn(&Row),
    },
    Joined(JoinedSelect),
}

impl PageSelect {
    pub(super) async fn prepare(client: Client, form: PageForm) -> anyhow::Result<Self> {
        let (text, decode): (_, fn(&Row)) = match form {
            PageForm::Lateral => (PAGE_LATERAL, |row| {
                black_box((SelectedMessage::from(row), CitationArrays::from(row)));
            }),
            // The JSON stays text: what it takes to read it isn't counted against the baseline.
            PageForm::JsonAgg => (PAGE_JSON_AGG, |row| {
                black_box((SelectedMessage::from(row), row.get::<_, String>(8)));
            }),
            PageForm::TwoStatements => {
                let joined = JoinedSelect::prepare(client, PAGE_MESSAGES, PAGE_CITATIONS);
                return joined.await.map(PageSelect::Joined);
            }
        };
        Ok(PageSelect::Single {
            statement: client.prepare(text).await.map_err(told)?,
            client,
            decode,
        })
    }

    /// How many messages the page has.
    pub(super) async fn read(&self, session: Uuid) -> anyhow::Result<usize> {
        match self {
            PageSelect::Single {
                client,
                statement,
                decode,
            } => {
                let rows = client.query(statement, &[&session]).await.map_err(told)?;
                rows.iter().for_each(decode);
                Ok(rows.len())
            }
            PageSelect::Joined(select) => Ok(select.read_with_citations(session).await?.0),
        }
    }
}

/// A connection that reads messages, and their citations by a second statement.
pub(super) struct JoinedSelect {
    client: Client,
    messages: Statement,
    citations: Statement,
}

impl JoinedSelect {
    /// Reads whole histories.
    pub(super) async fn of_histories(client: Client) -> anyhow::Result<Self> {
        Self::prepare(client, HISTORY, HISTORY_CITATIONS).await
    }

    async fn prepare(client: Client, messages: &str, citations: &str) -> anyhow::Result<Self> {
        Ok(JoinedSelect {
            messages: client.prepare(messages).await.map_err(told)?,
            citations: client.prepare(citations).await.map_err(told)?,
            client,
        })
    }

    /// How many messages there are.
    pub(super) async fn read(&self, session: Uuid) -> anyhow::Result<usize> {
        let messages = self.messages(session).await.map_err(told)?;
        Ok(black_box(messages).len())
    }

    async fn messages(&self, session: Uuid) -> Result<Vec<SelectedMessage>, Error> {
        let rows = self.client.query(&self.messages, &[&session]).await?;
        Ok(rows.iter().map(SelectedMessage::from).collect())
    }

    /// The same with the citations, by a second statement that doesn't wait for the first one's rows: joining them here
    /// takes less than any one statement that was tried. Answers how many messages and citations there are.
    pub(super) async fn read_with_citations(&self, session: Uuid) -> anyhow::Result<(usize, usize)> {
        let both = async {
            let citations = async { self.client.query(&self.citations, &[&session]).await };
            let (messages, rows) = tokio::try_join!(self.messages(session), citations)?;
            let mut by_message: HashMap<Uuid, Vec<SelectedCitation>> = HashMap::with_capacity(messages.len());
            for row in &rows {
                by_message
                    .entry(row.get(0))
                    .or_default()
                    .push(SelectedCitation::from(row));
            }
            let joined: Vec<_> = messages
                .into_iter()
                .map(|message| (by_message.remove(&message.id), message))
                .collect();
            Ok((black_box(joined).len(), rows.len()))
        };
        both.await.map_err(told)
    }
}

/// What an application would make of a row.
#[allow(dead_code)] // decoding is what is measured
struct SelectedMessage {
    id: Uuid,
    seq: i64,
    role: String,
    content: String,
    selected_text: Option<String>,
    metadata: String,
    payload: Option<Vec<u8>>,
    created_at: Timestamp,
}

impl From<&Row> for SelectedMessage {
    fn from(row: &Row) -> Self {
        SelectedMessage {
            id: row.get(0),
            seq: row.get(1),
            role: row.get(2),
            content: row.get(3),
            selected_text: row.get(4),
            metadata: row.get(5),
            payload: row.get(6),
            created_at: row.get(7),
        }
    }
}

/// A message's citations in its row.
#[allow(dead_code)] // decoding is what is measured
struct CitationArrays {
    documents: Option<Vec<String>>,
    chunks: Option<Vec<Option<String>>>,
    scores: Option<Vec<Option<f64>>>,
    indexes: Option<Vec<i32>>,
}

impl From<&Row> for CitationArrays {
    fn from(row: &Row) -> Self {
        CitationArrays {
            documents: row.get(8),
            chunks: row.get(9),
            scores: row.get(10),
            indexes: row.get(11),
        }
    }
}

/// A citation in a row of its own.
#[allow(dead_code)] // decoding is what is measured
struct SelectedCitation {
    document: String,
    chunk: Option<String>,
    score: Option<f64>,
    index: i32,
}

impl From<&Row> for SelectedCitation {
    fn from(row: &Row) -> Self {
        SelectedCitation {
            document: row.get(1),
            chunk: row.get(2),
            score: row.get(3),
            index: row.get(4),
        }
    }
}
