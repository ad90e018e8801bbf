//! How a pool's connections are made, and what each runs first.

use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use tokio::{task::JoinHandle, time};
use tokio_postgres::{Client, Config};

use super::{
    connect::{self, Connector},
    metrics::metrics,
};

/// The server lets go of a client that is gone without a word as soon as we do of a server: see the URL's defaults for the
/// same on this side. (Over a socket they mean nothing.) And while it works, it looks whether somebody still waits. What
/// the URL, the role or an administrator has set stays.
///
/// Not every system knows each: those that fail are left.
const NOTICE_LOSS: [&str; 2] = [
    "SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
        ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
        ('tcp_user_timeout', '15000')
    ) AS wanted (name, value) USING (name) WHERE source = 'default'",
    "SELECT set_config(name, '2000', false) FROM pg_settings
    WHERE name = 'client_connection_check_interval' AND source = 'default'",
];

/// What a new connection runs first takes a round trip.
const SETTING_UP: Duration = Duration::from_secs(5);

/// Makes a pool's connections.
pub(super) struct PoolConnector {
    pub(super) connector: Connector,
    /// What each must run first; empty behind a pooler, where nothing may be set in a session.
    pub(super) settings: String,
}

/// What [`deadpool_postgres::Manager::from_connect`] takes. The manager's own `Config` isn't used: it can't say all that the URL
/// does.
impl deadpool_postgres::Connect for PoolConnector {
    fn connect(
        &self,
        _config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async {
            let connected = self.set_up().await;
            let result = if connected.is_ok() { "ok" } else { "error" };
            metrics().connects.with_label_values(&[result]).inc();
            connected
        })
    }
}

impl PoolConnector {
    /// A connection that is ready for use.
    async fn set_up(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, driving) = self.connector.connect().await?;
        if self.settings.is_empty() {
            return Ok((client, driving));
        }
        // Sent together: one round trip.
        let settings = join(
            client.batch_execute(&self.settings),
            join_all(NOTICE_LOSS.map(|setting| client.batch_execute(setting))),
        );
        let Ok((set, noticing)) = time::timeout(SETTING_UP, settings).await else {
            return Err(connect::timed_out(SETTING_UP, "no answer").await);
        };
        set?;
        for error in noticing.into_iter().filter_map(Result::err) {
            let error = connect::describe(&error);
            tracing::debug!(error, "the server won't notice lost connections by itself");
        }
        Ok((client, driving))
    }
}
