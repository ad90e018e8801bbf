//! Deleting sessions and users, whose messages may be many: in steps, with pauses between them in which others find the
//! database free. All of it is one transaction, so it is seen as a whole or not at all.

use tokio::time::{self, Instant};
use uuid::Uuid;

use super::{CallerTransaction, Store};
use crate::{
    auth::Caller,
    domain::{Error, Resource, Result},
    statements::{session, user},
};

/// How many messages a step deletes, with their citations: some tens of milliseconds' work.
const STEP: i64 = 1000;

/// What is deleted, with all that hangs on it.
#[derive(Clone, Copy)]
enum Root {
    Session(Uuid),
    User(Uuid),
}

impl Store {
    /// Deletes a session and all that is in it.
    pub async fn delete_session(&self, caller: &Caller, id: Uuid) -> Result<()> {
        self.remove(caller, Root::Session(id)).await
    }

    /// Deletes a user and all that is the user's.
    pub async fn delete_user(&self, caller: &Caller, id: Uuid) -> Result<()> {
        self.remove(caller, Root::User(id)).await
    }

    async fn remove(&self, caller: &Caller, root: Root) -> Result<()> {
        self.transaction(caller, async |tx| {
            if self.scope.has_chat() {
                let (session_id, user_id) = match root {
                    Root::Session(id) => (Some(id), None),
                    Root::User(id) => (None, Some(id)),
                };
                let large = session::LockLarge {
                    session_id,
                    user_id,
                    more_than: STEP,
                };
                for session in tx.run(&large).await? {
                    remove_messages(tx, session.id, session.last_seq).await?;
                }
            }
            let (removed, resource) = match root {
                Root::Session(id) => (tx.first(&session::Delete { id }).await?, Resource::Session),
                Root::User(id) => (tx.first(&user::Delete { id }).await?, Resource::User),
            };
            removed.map(drop).ok_or(Error::NotFound(resource))
        })
        .await
    }
}

/// Removes a session's messages but for the last, which go with it. A pause is as long as the step before it, as long as
/// the caller's time allows that.
async fn remove_messages(tx: &CallerTransaction<'_>, session_id: Uuid, last_seq: i64) -> Result<()> {
    let began = Instant::now();
    let mut below = 0;
    while last_seq - below > STEP {
        let step = Instant::now();
        let delete = session::DeleteMessages {
            session_id,
            after_seq: below,
            through_seq: below + STEP,
        };
        tx.run(&delete).await?;
        below += STEP;
        let is_in_time = tx
            .caller
            .deadline
            .is_none_or(|deadline| began.elapsed() < deadline - step);
        if is_in_time {
            time::sleep(step.elapsed()).await;
        }
    }
    Ok(())
}
