//! The users whom tokens name, and services act for: who they are, and whether they may come in. In memory for a moment, so that
//! not every call asks the database.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use uuid::Uuid;

use super::Caller;
use crate::{
    domain::{Error, Resource, Result},
    store::Store,
};

/// How long what is known of a user is taken for true: a user who was deactivated is let in for no longer. The contract's promise
/// is 30 s.
const FRESH: Duration = Duration::from_secs(20);
/// The most users that are known at a time, some 200 bytes each.
const MOST: u64 = 65_536;

/// The known users. A clone is the same.
#[derive(Clone, Debug)]
pub struct KnownUsers {
    store: Store,
    users: Cache<UserSubject, Uuid>,
}

/// Who is asked for: a tenant, and what a token says.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UserSubject {
    tenant: Arc<str>,
    subject: String,
}

impl KnownUsers {
    /// The users of a store, of whom nothing is known yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let users = Cache::builder().max_capacity(MOST).time_to_live(FRESH).build();
        KnownUsers { store, users }
    }

    /// The id of the user whom a subject names, by id or external id, where that user may come in.
    ///
    /// # Errors
    /// USER_NOT_FOUND; those of the database, where it has to be asked.
    pub async fn find(&self, tenant: &Arc<str>, subject: &str) -> Result<Uuid> {
        let key = UserSubject {
            tenant: Arc::clone(tenant),
            subject: subject.to_owned(),
        };
        // One question serves all who wait. Who isn't there isn't remembered: it may be about to register.
        let asked = self.users.try_get_with(key, async {
            let caller = Caller::server(tenant);
            let user = self.store.subject(&caller, subject).await?;
            user.ok_or(Error::NotFound(Resource::User))
        });
        asked.await.map_err(|error: Arc<Error>| Error::clone(&error))
    }

    /// Forgets what is known, so that a change made here holds here at once.
    pub fn forget(&self) {
        self.users.invalidate_all();
    }
}
