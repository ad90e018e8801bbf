//! Locks held by hand, which requests then wait for.

use tokio_postgres::Client;

use super::{TestDatabase, eventually};

/// Holds a session's lock, as somebody's forgotten transaction would, until it is dropped or released.
pub struct SessionLock(Client);

impl SessionLock {
    pub async fn on_session(database: &TestDatabase, session_id: &str) -> Self {
        let client = database.client().await;
        client
            .batch_execute(&format!(
                "BEGIN; SELECT FROM chat_sessions WHERE id = '{session_id}' FOR UPDATE"
            ))
            .await
            .expect("the lock");
        SessionLock(client)
    }

    /// Ends the transaction that has it.
    pub async fn release(self) {
        self.0.batch_execute("ROLLBACK").await.expect("a rollback");
    }
}

/// Waits until so many statements wait for locks in the database.
pub async fn waiting(database: &TestDatabase, count: i64) {
    let client = database.client().await;
    eventually("as many wait for a lock", async || {
        (count_waiting(&client).await == count).then_some(())
    })
    .await;
}

async fn count_waiting(client: &Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    client.query_one(sql, &[]).await.expect("a look").get(0)
}
