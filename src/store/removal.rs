//! Deleting sessions and users, and erasing persons, whose messages may be many: in steps, with pauses between them in which others find the
//! database free. All of it is one transaction, so it is seen as a whole or not at all.

use tokio::time::{self, Instant};
use uuid::Uuid;

use super::{CallerTransaction, Store, sql_count};
use crate::{
    auth::Caller,
    domain::{Error, Resource, Result},
    statements::{session, user},
};

/// How many messages a step deletes, with their citations: some tens of milliseconds' work.
const STEP: i64 = 1000;

/// What a person has in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserContents {
    /// 1 where there is a user's row.
    pub users: i64,
    /// 1 where there is a profile.
    pub profiles: i64,
    /// The sessions.
    pub sessions: i64,
    /// The messages in them, also those that were deleted.
    pub messages: i64,
    /// The citations of these.
    pub citations: i64,
}

impl UserContents {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == UserContents::default()
    }
}

impl Store {
    /// Deletes a session and all that is in it.
    pub async fn delete_session(&self, caller: &Caller, id: Uuid) -> Result<()> {
        self.transaction(caller, async |tx| {
            remove_large(tx, Some(id), None).await?;
            let removed = tx.first(&session::Delete { id }).await?;
            removed.map(drop).ok_or(Error::NotFound(Resource::Session))
        })
        .await
    }

    /// Deletes a user and all that is the user's.
    pub async fn delete_user(&self, caller: &Caller, id: Uuid) -> Result<()> {
        self.transaction(caller, async |tx| {
            if self.scope.has_chat() {
                remove_large(tx, None, Some(id)).await?;
            }
            let removed = tx.first(&user::Delete { id }).await?;
            removed.map(drop).ok_or(Error::NotFound(Resource::User))
        })
        .await
    }

    /// What a person has in the ledger, of whatever scope.
    pub async fn user_contents(&self, caller: &Caller, id: Uuid) -> Result<UserContents> {
        self.transaction(caller, async |tx| self.contents(tx, id).await)
            .await
    }

    /// Erases a person, whether users are kept here or only their sessions are; answers what was removed. Of sessions whose user
    /// is not there (there may be some where users were added later) it erases those as well.
    pub async fn erase_user(&self, caller: &Caller, id: Uuid) -> Result<UserContents> {
        self.transaction(caller, async |tx| {
            let mut removed = self.contents(tx, id).await?;
            if self.scope.has_chat() {
                remove_large(tx, None, Some(id)).await?;
                let sessions = tx.run(&session::DeleteOfUser { user_id: id }).await?;
                removed.sessions = sql_count(sessions.len());
            }
            if self.scope.has_auth() {
                let user = tx.first(&user::Delete { id }).await?;
                removed.users = i64::from(user.is_some());
            }
            if removed.is_empty() {
                return Err(Error::NotFound(Resource::User));
            }
            Ok(removed)
        })
        .await
    }

    /// Has the planner's statistics made anew: they quote values of rows that may be gone.
    ///
    /// # Errors
    /// The database's.
    pub async fn analyze(&self) -> Result<()> {
        if self.scope.has_auth() {
            self.run_for_nobody(&user::Analyze).await?;
        }
        if self.scope.has_chat() {
            self.run_for_nobody(&session::Analyze).await?;
        }
        Ok(())
    }

    async fn contents(&self, tx: &CallerTransaction<'_>, id: Uuid) -> Result<UserContents> {
        let mut contents = UserContents::default();
        if self.scope.has_auth() {
            let profiles = tx.first(&user::CountProfiles { user_id: id }).await?;
            contents.profiles = profiles.unwrap_or_default();
            contents.users = i64::from(tx.first(&user::ById { id }).await?.is_some());
        }
        if self.scope.has_chat()
            && let Some(found) = tx.first(&session::CountOfUser { user_id: id }).await?
        {
            contents.sessions = found.sessions;
            contents.messages = found.messages;
            contents.citations = found.citations;
        }
        Ok(contents)
    }
}

/// Removes most messages of those sessions, a user's or just one, that have many.
async fn remove_large(
    tx: &CallerTransaction<'_>,
    session_id: Option<Uuid>,
    user_id: Option<Uuid>,
) -> Result<()> {
    let large = session::LockLarge {
        session_id,
        user_id,
        more_than: STEP,
    };
    for session in tx.run(&large).await? {
        remove_messages(tx, session.id, session.last_seq).await?;
    }
    Ok(())
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
