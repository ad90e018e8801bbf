//! What an application does itself for each message, over several connections, each of which does one thing after the
//! other: a transaction that raises the session's counter and inserts the row; or the same as a single statement, which is
//! the best that it can do without gathering messages. Statements are prepared.

use std::{sync::Arc, time::Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement, types::ToSql};
use uuid::Uuid;

use crate::{
    database::{BenchDatabase, told},
    halt::Halt,
    schedule::RunClock,
    workload::{MessageKey, Workload},
};

/// How many connections applications have; the best of them counts.
pub(super) const DIRECT_CONNECTIONS: [usize; 3] = [8, 16, 32];
const BUMP: &str = include_str!("../sql/append_bump.sql");
const INSERT: &str = include_str!("../sql/append_insert.sql");
const SINGLE: &str = include_str!("../sql/append_single.sql");

/// How an application appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectForm {
    /// BEGIN, UPDATE, INSERT, COMMIT.
    Transaction,
    /// `WITH bump AS (UPDATE …) INSERT … SELECT`.
    SingleStatement,
}

/// A connection with its statements.
struct Appender {
    client: Client,
    bump: Statement,
    insert: Statement,
    single: Statement,
}

impl Appender {
    async fn connect(database: &BenchDatabase) -> anyhow::Result<Self> {
        let client = database.client().await?;
        Ok(Appender {
            bump: client.prepare(BUMP).await.map_err(told)?,
            insert: client.prepare(INSERT).await.map_err(told)?,
            single: client.prepare(SINGLE).await.map_err(told)?,
            client,
        })
    }

    async fn append(
        &mut self,
        form: DirectForm,
        session: Uuid,
        id: Uuid,
        content: &str,
    ) -> anyhow::Result<()> {
        let appended = async {
            match form {
                DirectForm::Transaction => {
                    let transaction = self.client.transaction().await?;
                    let row = transaction.query_one(&self.bump, &[&session]).await?;
                    let seq: i64 = row.get(0);
                    transaction
                        .execute(&self.insert, &[&id, &session, &seq, &content])
                        .await?;
                    transaction.commit().await
                }
                DirectForm::SingleStatement => {
                    let parameters: [&(dyn ToSql + Sync); 3] = [&session, &id, &content];
                    self.client.execute(&self.single, &parameters).await.map(drop)
                }
            }
        };
        appended.await.map_err(told)
    }

    async fn append_key(
        &mut self,
        form: DirectForm,
        workload: &Workload,
        key: MessageKey,
    ) -> anyhow::Result<()> {
        let session = workload.sessions()[workload.session_of(key)];
        self.append(form, session, workload.id(key), workload.content_of(key))
            .await
    }
}

/// The connections of an application: as many as the largest number needs.
pub(super) struct DirectAppends {
    appenders: Vec<Appender>,
}

impl DirectAppends {
    pub(super) async fn connect(database: &BenchDatabase) -> anyhow::Result<Self> {
        let most = DIRECT_CONNECTIONS.into_iter().max().unwrap_or(1);
        let mut appenders = Vec::new();
        for _ in 0..most {
            appenders.push(Appender::connect(database).await?);
        }
        Ok(DirectAppends { appenders })
    }

    /// One append over one of the connections.
    pub(super) async fn lone(
        &mut self,
        form: DirectForm,
        workload: &Workload,
        key: MessageKey,
    ) -> anyhow::Result<()> {
        // DIRECT_CONNECTIONS isn't empty.
        self.appenders[0].append_key(form, workload, key).await
    }

    /// Messages a second over so many connections.
    #[allow(clippy::cast_precision_loss)]
    pub(super) async fn rate(
        &mut self,
        form: DirectForm,
        workload: &Arc<Workload>,
        connections: usize,
        clock: RunClock,
        halt: &Halt,
    ) -> anyhow::Result<f64> {
        let mut tasks = JoinSet::new();
        for (sender, appender) in (0..).zip(self.appenders.drain(..connections)) {
            let (workload, halt) = (Arc::clone(workload), halt.clone());
            tasks.spawn(send(form, sender, appender, workload, clock, halt));
        }
        let mut counted = 0;
        while let Some(sent) = tasks.join_next().await {
            let (count, appender) = sent??;
            counted += count;
            self.appenders.push(appender);
        }
        Ok(counted as f64 / (clock.end - clock.measured_from).as_secs_f64())
    }
}

/// How many it stored in the measured time.
async fn send(
    form: DirectForm,
    sender: u16,
    mut appender: Appender,
    workload: Arc<Workload>,
    clock: RunClock,
    halt: Halt,
) -> anyhow::Result<(u64, Appender)> {
    let (mut number, mut counted) = (0, 0);
    loop {
        let key = MessageKey { sender, number };
        number += 1;
        appender.append_key(form, &workload, key).await?;
        let now = Instant::now();
        if now >= clock.end || halt.is_asked() {
            return Ok((counted, appender));
        }
        counted += u64::from(now >= clock.measured_from);
    }
}
