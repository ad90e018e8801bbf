//! The audit: who did what, when, and from where, of what somebody may have to answer for. No contents and no secrets.
//!
//! Every record is a line of the log, with the target `audit`, whatever RUST_LOG says; with `--audit table` it is a row of
//! `audit_events` as well, for as long as the retention says. A call doesn't wait for that: records are written behind it, in the
//! order in which they came, and again and again while the database is away. Should more wait than there is room for, the
//! newest are lines only, and it is told how many.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use crate::{auth::Principal, store::Store, supervise::supervise};

/// The most records that wait for the database: some MiB, and what a busy server has in minutes.
const MOST_WAITING: usize = 16_384;
/// The most that are written at a time.
const BATCH: usize = 512;
/// The pause after the database couldn't be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what is too old is deleted, while records come.
const FORGET_EVERY: Duration = Duration::from_hours(1);
/// The most that are deleted by a statement: few enough that it is no load.
const FORGET_AT_ONCE: usize = 10_000;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// A call's credentials were refused, or missing.
    AuthenticationFailed,
    /// A password was wrong, or its user may not sign in.
    SignInFailed,
    /// A key was made.
    KeyCreated,
    /// A key was revoked.
    KeyRevoked,
    /// A key was replaced by another.
    KeyRotated,
    /// A user was deleted, with all that is the user's.
    UserDeleted,
    /// A person was erased by an operator.
    UserErased,
    /// Data was exported by an operator.
    DataExported,
    /// A service did something for a user.
    ActedForUser,
}

impl AuditEvent {
    /// The name in a line and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AuditEvent::AuthenticationFailed => "authentication_failed",
            AuditEvent::SignInFailed => "sign_in_failed",
            AuditEvent::KeyCreated => "key_created",
            AuditEvent::KeyRevoked => "key_revoked",
            AuditEvent::KeyRotated => "key_rotated",
            AuditEvent::UserDeleted => "user_deleted",
            AuditEvent::UserErased => "user_erased",
            AuditEvent::DataExported => "data_exported",
            AuditEvent::ActedForUser => "acted_for_user",
        }
    }
}

/// One thing that was done.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// The moment.
    pub at: Timestamp,
    /// What it was.
    pub event: AuditEvent,
    /// Whose data it was about; empty where nobody knows.
    pub tenant: String,
    /// Who did it, such as `key:3f…`, `user:018f…` or `operator`.
    pub actor: String,
    /// What it was done to: an id.
    pub subject: Option<String>,
    /// The method that was called.
    pub method: Option<String>,
    /// Where from.
    pub peer: Option<String>,
    /// Why, of a failure.
    pub cause: Option<&'static str>,
}

impl AuditRecord {
    /// What somebody has done now.
    #[must_use]
    pub fn new(event: AuditEvent, tenant: &str, actor: &str) -> Self {
        AuditRecord {
            at: Timestamp::now(),
            event,
            tenant: tenant.to_owned(),
            actor: actor.to_owned(),
            subject: None,
            method: None,
            peer: None,
            cause: None,
        }
    }

    /// What a caller has done now.
    #[must_use]
    pub fn by(event: AuditEvent, principal: &Principal) -> Self {
        AuditRecord::new(event, &principal.tenant, &principal.name)
    }

    /// The same, done to something.
    #[must_use]
    pub fn to(self, subject: impl ToString) -> Self {
        AuditRecord {
            subject: Some(subject.to_string()),
            ..self
        }
    }

    /// The same, by a method and from somewhere.
    #[must_use]
    pub fn through(self, method: &str, peer: Option<SocketAddr>) -> Self {
        AuditRecord {
            method: Some(method.to_owned()),
            peer: peer.map(|peer| peer.to_string()),
            ..self
        }
    }

    /// Writes the line.
    pub fn log(&self) {
        tracing::info!(
            target: "audit",
            event = self.event.name(),
            tenant = self.tenant,
            actor = self.actor,
            subject = self.subject,
            method = self.method,
            peer = self.peer,
            cause = self.cause,
            "audit"
        );
    }
}

/// Where records go. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    table: Option<mpsc::Sender<AuditRecord>>,
    dropped: Arc<AtomicU64>,
}

impl Audit {
    /// Lines and rows, which are kept for so long. Starts the task that writes them.
    #[must_use]
    pub fn to_table(store: Store, retention: SignedDuration) -> Self {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let audit = Audit {
            table: Some(sender),
            dropped: Arc::default(),
        };
        let writer = Arc::new(tokio::sync::Mutex::new(AuditWriter {
            store,
            retention,
            waiting: receiver,
            batch: Vec::new(),
            forgot_at: None,
            dropped: Arc::clone(&audit.dropped),
        }));
        tokio::spawn(async move {
            supervise("audit", || {
                let writer = Arc::clone(&writer);
                async move { writer.lock().await.run().await }
            })
            .await;
        });
        audit
    }

    /// Keeps a record.
    pub fn record(&self, record: AuditRecord) {
        record.log();
        if let Some(table) = &self.table
            && table.try_send(record).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct AuditWriter {
    store: Store,
    retention: SignedDuration,
    waiting: mpsc::Receiver<AuditRecord>,
    batch: Vec<AuditRecord>,
    forgot_at: Option<Instant>,
    dropped: Arc<AtomicU64>,
}

impl AuditWriter {
    /// Writes what comes, until nobody can send any more.
    async fn run(&mut self) {
        loop {
            if self.batch.is_empty() && self.waiting.recv_many(&mut self.batch, BATCH).await == 0 {
                return;
            }
            match self.store.keep_audit(&self.batch).await {
                Ok(()) => self.batch.clear(),
                Err(error) if error.is_passing() => {
                    time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, records = self.batch.len(), "audit records could not be stored; they are in the log");
                    self.batch.clear();
                }
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::error!(
                    records = dropped,
                    "audit records did not reach the table; they are in the log"
                );
            }
            if self.forgot_at.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                self.forgot_at = Some(Instant::now());
                self.forget().await;
            }
        }
    }

    async fn forget(&self) {
        // A retention that reaches before all time keeps everything.
        let Ok(before) = Timestamp::now().checked_sub(self.retention) else {
            return;
        };
        loop {
            match self.store.forget_audit(before, FORGET_AT_ONCE).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "old audit records could not be deleted"),
            }
        }
    }
}
