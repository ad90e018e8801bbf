//! A connection to ask over, on which no question is waited for long.

use std::{fmt, time::Duration};

use tokio::time::{self, Instant};
use tokio_postgres::{
    Client, Row,
    error::SqlState,
    types::{FromSql, ToSql, Type},
};

use chatledger_postgres::{
    connect::{self, Connector, describe},
    url::DatabaseUrl,
};

/// The longest time that a question takes: what reads catalogs alone answers in milliseconds, unless it waits behind somebody.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Why something couldn't be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The role may not.
    Denied,
    /// No answer in time.
    Late,
    /// Another reason.
    Other(String),
}

impl Unknown {
    pub(crate) fn advice(&self) -> Option<String> {
        (*self == Unknown::Denied)
            .then(|| "ask again as a role that may: a member of pg_monitor for the server, the tables' owner for them".to_owned())
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Denied => f.write_str("permission denied"),
            Unknown::Late => f.write_str("no answer in time"),
            Unknown::Other(reason) => f.write_str(reason),
        }
    }
}

impl From<tokio_postgres::Error> for Unknown {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            Unknown::Denied
        } else {
            Unknown::Other(describe(&error))
        }
    }
}

/// What was asked for, or why there is no answer.
pub(crate) type Asked<T> = Result<T, Unknown>;

/// A parameter and its type.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection to ask over.
pub(crate) struct Line {
    connector: Connector,
    client: Client,
    /// How long connecting took, the last attempt alone.
    pub(crate) connected_in: Duration,
}

impl Line {
    /// Connects, again and again for as long as `patience` lasts. Otherwise the reason, in a line.
    pub(crate) async fn open(url: &DatabaseUrl, patience: Duration) -> Result<Line, String> {
        let connector = Connector::new(url).map_err(|error| one_line(&error))?;
        let end = Instant::now() + patience;
        let mut pauses = backoff();
        loop {
            let began = Instant::now();
            let attempt =
                time::timeout_at(end.max(began + Duration::from_secs(1)), connector.connect()).await;
            let reason = match attempt {
                Ok(Ok((client, _))) => {
                    return Ok(Line {
                        connector,
                        client,
                        connected_in: began.elapsed(),
                    });
                }
                Ok(Err(error)) if !connect::may_succeed_later(&error) => return Err(describe(&error)),
                Ok(Err(error)) => describe(&error),
                Err(_) => "no answer".to_owned(),
            };
            let pause = pauses();
            if Instant::now() + pause >= end {
                return Err(reason);
            }
            time::sleep(pause).await;
        }
    }

    /// Another connection to the same place.
    pub(crate) async fn another(&self) -> Asked<Client> {
        let connected = self.connector.connect();
        let connected = time::timeout(ANSWERED_WITHIN, connected).await;
        Ok(connected.map_err(|_| Unknown::Late)??.0)
    }

    /// The rows of a statement, in one round trip, which poolers pass on as well.
    pub(crate) async fn ask(&mut self, sql: &str, params: &[Param<'_>]) -> Asked<Vec<Row>> {
        let answered = time::timeout(ANSWERED_WITHIN, self.client.query_typed(sql, params)).await;
        match answered {
            Ok(rows) => Ok(rows?),
            Err(_) => {
                self.replace().await;
                Err(Unknown::Late)
            }
        }
    }

    /// The one row of a statement.
    pub(crate) async fn ask_one(&mut self, sql: &str, params: &[Param<'_>]) -> Asked<Row> {
        let rows = self.ask(sql, params).await?;
        let row = rows.into_iter().next();
        row.ok_or_else(|| Unknown::Other("the database answered nothing".to_owned()))
    }

    /// Something else that is done with the connection, within the same time.
    pub(crate) async fn attempt<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Asked<T> {
        let done = time::timeout(ANSWERED_WITHIN, work(&self.client)).await;
        match done {
            Ok(done) => Ok(done?),
            Err(_) => {
                self.replace().await;
                Err(Unknown::Late)
            }
        }
    }

    /// Leaves a connection whose statement nobody waits for any more: the server ends it when it sees that.
    async fn replace(&mut self) {
        if let Ok(client) = self.another().await {
            self.client = client;
        }
    }
}

/// The pauses between attempts: twice the one before, a second at most.
fn backoff() -> impl FnMut() -> Duration {
    let mut pause = Duration::from_millis(50);
    move || {
        let this = pause;
        pause = (pause * 2).min(Duration::from_secs(1));
        this
    }
}

/// A column of a row.
pub(crate) fn cell<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Asked<T> {
    Ok(row.try_get(at)?)
}

/// An error with its causes, in a line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
