//! What an application does itself: for each message a transaction of its own, which raises the session's counter and
//! inserts the row. Statements are prepared, and every connection does one thing after the other.

use std::{sync::Arc, time::Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::database::{BenchDatabase, told};
use crate::{
    halt::Halt,
    schedule::RunClock,
    workload::{MessageKey, Workload},
};

/// How many connections applications have; the best of them counts.
pub(super) const DIRECT_CONNECTIONS: [usize; 3] = [8, 16, 32];
/// Raises the counter, under the row's lock.
const BUMP: &str = "UPDATE chat_sessions
    SET last_seq = last_seq + 1, last_message_at = now(), updated_at = now() WHERE id = $1 RETURNING last_seq";
/// Stores the message.
const INSERT: &str =
    "INSERT INTO messages (id, session_id, seq, role, content) VALUES ($1, $2, $3, 'user', $4)";

/// A connection with its statements.
pub(crate) struct Appender {
    client: Client,
    bump: Statement,
    insert: Statement,
}

impl Appender {
    pub(super) async fn connect(database: &BenchDatabase) -> anyhow::Result<Self> {
        let client = database.client().await?;
        Ok(Appender {
            bump: client.prepare(BUMP).await.map_err(told)?,
            insert: client.prepare(INSERT).await.map_err(told)?,
            client,
        })
    }

    /// BEGIN, UPDATE, INSERT, COMMIT.
    pub(super) async fn append(&mut self, session: Uuid, id: Uuid, content: &str) -> anyhow::Result<()> {
        let appended = async {
            let transaction = self.client.transaction().await?;
            let row = transaction.query_one(&self.bump, &[&session]).await?;
            let seq: i64 = row.get(0);
            transaction
                .execute(&self.insert, &[&id, &session, &seq, &content])
                .await?;
            transaction.commit().await
        };
        appended.await.map_err(told)
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

    /// One of the connections.
    pub(super) fn one(&mut self) -> &mut Appender {
        &mut self.appenders[0] // DIRECT_CONNECTIONS isn't empty
    }

    /// Messages a second over so many connections.
    #[allow(clippy::cast_precision_loss)]
    pub(super) async fn rate(
        &mut self,
        workload: &Arc<Workload>,
        connections: usize,
        clock: RunClock,
        halt: &Halt,
    ) -> anyhow::Result<f64> {
        let mut tasks = JoinSet::new();
        for (sender, appender) in (0..).zip(self.appenders.drain(..connections)) {
            let (workload, halt) = (Arc::clone(workload), halt.clone());
            tasks.spawn(send(sender, appender, workload, clock, halt));
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
        let session = workload.sessions()[workload.session_of(key)];
        appender
            .append(session, workload.id(key), workload.content_of(key))
            .await?;
        let now = Instant::now();
        if now >= clock.end || halt.is_asked() {
            return Ok((counted, appender));
        }
        counted += u64::from(now >= clock.measured_from);
    }
}
