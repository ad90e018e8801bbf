//! The order of one stream's entries, which holds also when its client goes away, and when entries are refused
//! for the moment: what is stored of a stream's session is a prefix of what was sent for it.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use uuid::Uuid;

use super::Outcome;
use crate::domain::Error;

/// The state that all entries of a stream have in common. The queue, the lanes and the aside path look here, and not at
/// whether an entry's own caller still listens: callers of a stream's entries go away one after the other, and a
/// later entry would be stored behind an earlier one that wasn't.
#[derive(Debug, Default)]
pub struct StreamOrder {
    /// Whether the client is gone. It never comes back.
    is_gone: AtomicBool,
    /// Whether there is anything in `refusals`.
    has_refusals: AtomicBool,
    /// The sessions of which an entry could not be stored for the moment, and why. Later entries of theirs are
    /// refused likewise, until the stream ends: they would overtake it.
    refusals: Mutex<HashMap<Uuid, Error>>,
}

impl StreamOrder {
    /// The client is gone: nothing of the stream that isn't being committed is stored any more.
    pub fn leave(&self) {
        self.is_gone.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::SeqCst)
    }

    /// Why entries for a session can't be taken any more, if that is so.
    pub(super) fn refusal(&self, session_id: Uuid) -> Option<Error> {
        if !self.has_refusals.load(Ordering::SeqCst) {
            return None;
        }
        self.refusals().get(&session_id).cloned()
    }

    /// Remembers an entry that could not be stored for the moment, or of which nobody knows.
    pub(super) fn note(&self, session_id: Uuid, outcome: &Outcome) {
        if let Err(error) = outcome
            && (error.is_passing() || matches!(error, Error::Internal))
        {
            self.refusals().entry(session_id).or_insert_with(|| error.clone());
            self.has_refusals.store(true, Ordering::SeqCst);
        }
    }

    fn refusals(&self) -> MutexGuard<'_, HashMap<Uuid, Error>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
