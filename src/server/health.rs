//! Health: SERVING only while the database can be used. An idle server asks nothing of the database; only
//! after a request has found it away is it asked, until it is back.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    api::pb::{
        analytics_service_server::SERVICE_NAME as ANALYTICS,
        citation_service_server::SERVICE_NAME as CITATION, document_service_server::SERVICE_NAME as DOCUMENT,
        message_service_server::SERVICE_NAME as MESSAGE, profile_service_server::SERVICE_NAME as PROFILE,
        session_service_server::SERVICE_NAME as SESSION, user_service_server::SERVICE_NAME as USER,
    },
    migrate,
    postgres::Db,
    store::Scope,
};

/// How long the database may take to answer whether it can be used: it is looked up in a few rows.
const ANSWER: Duration = Duration::from_secs(2);

/// The entries of `grpc.health.v1`: one a served service, and the empty name for the server.
#[derive(Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    db: Db,
    scope: Scope,
}

impl Health {
    pub(super) fn new(reporter: HealthReporter, db: Db, scope: Scope) -> Self {
        Health { reporter, db, scope }
    }

    pub(super) async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    pub(super) async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        let auth: &[&str] = &[USER, PROFILE];
        let chat: &[&str] = &[SESSION, MESSAGE, CITATION, DOCUMENT, ANALYTICS];
        let served = [(self.scope.has_auth(), auth), (self.scope.has_chat(), chat)];
        let names = served
            .iter()
            .filter(|(served, _)| *served)
            .flat_map(|(_, names)| names.iter());
        for name in std::iter::once(&"").chain(names) {
            self.reporter.set_service_status(*name, status).await;
        }
    }

    /// Follows what requests find out about the database.
    pub(super) async fn follow(self) {
        let mut reachable = self.db.reachable();
        while reachable.wait_for(|reachable| !reachable).await.is_ok() {
            self.not_serving().await;
            self.back().await;
            self.db.set_reachable();
            self.serving().await;
            tracing::info!("the database can be used again");
        }
    }

    /// Asks until the database can be used.
    async fn back(&self) {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            // A serverless database that is asked more rarely than this is not found awake any sooner.
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times();
        let ask = || async {
            let asked = time::timeout(ANSWER, migrate::is_usable(&self.db, self.scope)).await;
            if asked.unwrap_or(false) { Ok(()) } else { Err(()) }
        };
        // It gives up never, so this is the database's return.
        let _ = ask.retry(pauses).await;
    }
}
