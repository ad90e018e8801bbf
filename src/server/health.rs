//! Health: SERVING only while the database can be used, and what is asked of it gets somewhere. An idle server asks
//! nothing of the database, unless it is told to. It is asked when something speaks against it: a connection that broke or
//! couldn't be made, or background work that takes long; and again until it is back.
//!
//! The question has a connection of its own, made anew each time: that all of the requests' are in use says nothing, and
//! neither does one that has fallen silent.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::services;
use crate::{
    admin::{NotReady, Readiness},
    migrations::Scope,
};
use chatledger_migrate as migrate;
use chatledger_postgres::Db;

/// How long background work may take before the database is asked: most takes milliseconds. Together with [`ANSWER`] it
/// is less than the 2 s within which clients are to know.
const SUSPICIOUS: Duration = Duration::from_millis(750);

/// How long connecting to the database, and its answer whether it can be used, may take: it is looked up in a few rows.
const ANSWER: Duration = Duration::from_secs(1);

/// The time after which a lane or the watches count as stuck, whatever the database answers: much longer than a batch
/// takes on a slow disk, and shorter than a silent connection is waited for.
const STUCK: Duration = Duration::from_secs(5);

/// The pause between two questions where the database answers, and what speaks against it goes on.
const PAUSE: Duration = Duration::from_millis(250);

/// The entries of `grpc.health.v1`: one a served service, and the empty name for the server.
#[derive(Clone)]
pub(super) struct HealthFollower {
    reporter: HealthReporter,
    readiness: Readiness,
    /// The database, with the connection that asks.
    db: Db,
    scope: Scope,
    /// How often it is asked though nothing speaks against it.
    interval: Option<Duration>,
}

impl HealthFollower {
    /// # Errors
    /// None that a caller can cause.
    pub(super) fn new(
        reporter: HealthReporter,
        readiness: &Readiness,
        db: &Db,
        scope: Scope,
        interval: Option<Duration>,
    ) -> anyhow::Result<Self> {
        // It isn't work itself, or it would be asked about its own slowness.
        let db = db.another("health", 1)?.unfollowed();
        Ok(HealthFollower {
            reporter,
            readiness: readiness.clone(),
            db,
            scope,
            interval,
        })
    }

    pub(super) async fn set_serving(&self) {
        self.readiness.set(None);
        self.set(ServingStatus::Serving).await;
    }

    pub(super) async fn set_not_serving(&self, reason: NotReady) {
        self.readiness.set(Some(reason));
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for name in std::iter::once("").chain(services::names(self.scope)) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Follows what requests and background work find out about the database.
    pub(super) async fn follow(self) {
        loop {
            self.suspicion().await;
            if let Err(what) = self.look().await {
                self.set_not_serving(NotReady::NotServing).await;
                tracing::warn!(what, "not serving");
                self.back().await;
                self.set_serving().await;
                tracing::info!("the database can be used again");
            }
            self.db.set_reachable();
            time::sleep(PAUSE).await;
        }
    }

    /// Waits until something speaks against the database.
    async fn suspicion(&self) {
        let mut reachable = self.db.reachable();
        tokio::select! {
            // An error is the sender's end, which is part of self.
            _ = reachable.wait_for(|reachable| !reachable) => {}
            () = self.db.progress().overdue(SUSPICIOUS) => {}
            () = self.time_to_ask() => {}
        }
    }

    /// Waits until it is asked anyway: never, where that would keep it awake.
    async fn time_to_ask(&self) {
        match self.interval {
            Some(interval) => time::sleep(interval).await,
            None => std::future::pending().await,
        }
    }

    /// Whether the database can be used, or what is wrong.
    async fn look(&self) -> Result<(), &'static str> {
        if self.db.progress().oldest() >= STUCK {
            return Err("lanes or watches get nowhere");
        }
        self.db.close_own_idle();
        let asked = time::timeout(ANSWER, migrate::is_usable(&self.db, &self.scope.sets())).await;
        match asked {
            Ok(true) => Ok(()),
            Ok(false) => Err("the database can't be used"),
            Err(_) => Err("the database doesn't answer"),
        }
    }

    /// Asks the database again and again until all is well.
    async fn back(&self) {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            // A serverless database that is asked more rarely than this is not found awake any sooner.
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times();
        // It gives up never, so this is the database's return.
        let _ = (|| self.look()).retry(pauses).await;
    }
}
