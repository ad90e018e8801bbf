//! The gRPC services: decode, call, encode, and nothing else. One file a service.
//!
//! [`convert`] is the only place that knows both prost's types and the domain's, and [`status`] the only
//! one that turns an error into a status.

mod access;
mod analytics;
mod append_stream;
mod citation;
mod convert;
mod document;
mod message;
mod page;
mod profile;
mod read_stream;
mod session;
pub mod status;
mod user;
mod watch;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::Add,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tonic::Request;
use uuid::Uuid;

pub use access::AccessApi;
pub use analytics::AnalyticsApi;
pub use citation::CitationApi;
pub use document::DocumentApi;
pub use message::MessageApi;
pub use profile::ProfileApi;
pub use read_stream::Histories;
pub use session::SessionApi;
pub use user::UserApi;

use crate::{
    audit::{AuditEvent, AuditRecord},
    auth::{Access, Caller, Principal},
    domain::{Check, Error, Limits, Result, access::AccessScopes, message::NewMessage, usage::StoredAmounts},
    fair::Holder,
    memory::Charge,
    rates::{RateLimits, StorageLease},
    store::Store,
};

use chatledger_protocol as pb;

/// The moment by which a request must be answered; the server's layers put it into the request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub tokio::time::Instant);

/// The address that a request came from; the server's layers put it into the request.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub Option<SocketAddr>);

/// The memory that the messages of a stream hold, in the order of the messages. The server's layers put it into the
/// request, and fill it as messages come in.
#[derive(Clone, Debug, Default)]
pub struct Charges(Arc<Mutex<VecDeque<Arc<Charge>>>>);

impl Charges {
    /// Notes that so many messages have come in, which hold this charge together.
    pub fn put(&self, messages: usize, charge: Charge) {
        let charge = Arc::new(charge);
        let mut charges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        charges.extend(std::iter::repeat_n(charge, messages));
    }

    /// The memory that the next message holds.
    #[must_use]
    pub fn next(&self) -> Option<Arc<Charge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The memory that a stream's answers hold which have been handed on, and not sent yet. A handler puts it into its response, and
/// the server's layers attach it to the bytes.
#[derive(Clone, Debug, Default)]
pub struct AnswerCharges(Arc<Mutex<Option<Charge>>>);

impl AnswerCharges {
    /// Adds the memory of an answer that is handed on.
    pub fn put(&self, charge: Charge) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.join(charge),
            None => *held = Some(charge),
        }
    }

    /// The memory of all answers that have been handed on since this was asked last.
    #[must_use]
    pub fn take(&self) -> Option<Charge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The parts that all services share.
#[derive(Clone, Debug)]
pub struct Api {
    /// The rows.
    pub store: Store,
    /// How large the parts of a request may be.
    pub limits: Arc<Limits>,
    /// How callers are told apart.
    pub access: Access,
    /// What each caller and tenant may do.
    pub rates: RateLimits,
}

impl Api {
    /// Lets a tenant store messages, which are on their way until the result is dropped. Beyond its quota it may still send again what is stored, which stores nothing.
    async fn admit_messages(
        &self,
        caller: &Caller,
        session_id: Uuid,
        messages: &[NewMessage],
    ) -> Result<Option<StorageLease>> {
        let adding = messages.iter().map(NewMessage::amounts);
        let adding = adding.fold(StoredAmounts::default(), Add::add);
        let admitted = self
            .rates
            .storage()
            .admit(&self.store, &caller.tenant, adding)
            .await;
        if !matches!(admitted, Err(Error::QuotaExceeded { .. })) {
            return admitted;
        }
        for message in messages {
            let is_stored =
                message.id_is_given && self.store.message(caller, session_id, message.id).await.is_ok();
            if !is_stored {
                return admitted;
            }
        }
        Ok(None)
    }

    /// The same for a session.
    async fn admit_session(&self, caller: &Caller, id: Uuid) -> Result<Option<StorageLease>> {
        let storage = self.rates.storage();
        let admitted = storage
            .admit(&self.store, &caller.tenant, StoredAmounts::SESSION)
            .await;
        match admitted {
            Err(Error::QuotaExceeded { .. }) if self.store.session(caller, id).await.is_ok() => Ok(None),
            admitted => admitted,
        }
    }

    fn check(&self) -> Check<'_> {
        Check::new(&self.limits, Timestamp::now())
    }
}

/// Who sends a request. The server's layers have put it there; without them it is nobody, to whom nothing belongs.
fn principal<T>(request: &Request<T>) -> Arc<Principal> {
    let principal = request.extensions().get::<Arc<Principal>>();
    principal
        .cloned()
        .unwrap_or_else(|| Arc::new(Principal::service("", AccessScopes::default())))
}

/// The caller of a request. The server's layers have put the deadline and the connection into it.
fn caller<T>(request: &Request<T>) -> Caller {
    let deadline = request.extensions().get::<Deadline>();
    let connection = request.extensions().get::<Holder>();
    let principal = principal(request);
    Caller {
        tenant: Arc::clone(&principal.tenant),
        end_user: principal.end_user,
        deadline: deadline.map(|deadline| deadline.0),
        holder: connection.copied().unwrap_or_default(),
    }
}

/// A record of what a request does.
fn audited<T>(event: AuditEvent, method: &str, request: &Request<T>) -> AuditRecord {
    AuditRecord::by(event, &principal(request)).through(method, peer(request))
}

/// The address that a request came from.
fn peer<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<PeerAddress>().and_then(|peer| peer.0)
}
