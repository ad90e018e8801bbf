//! Sessions.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Store, replaces};
use crate::{
    auth::{Action, Caller},
    domain::{
        Error, Resource, Result, json,
        session::{
            ClaimHash, NewSession, Session, SessionChange, SessionClaim, SessionFilter, SessionOrder,
            SessionOwner,
        },
        user::UserKey,
    },
    statements::session::{
        Claim, Get, Insert, ListAnonymous, ListCreated, ListLastActive, Repeated, SessionRow, Update,
    },
};
use chatledger_postgres::sql::like_literal;

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Session {
        Session {
            id: row.id,
            user_id: row.user_id,
            title: row.title,
            metadata: row.metadata,
            last_seq: row.last_seq,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_message_at: row.last_message_at,
        }
    }
}

impl Store {
    /// Creates a session, or answers the one that the same request created before.
    pub async fn create_session(&self, caller: &Caller, new: &NewSession) -> Result<Session> {
        // For an end user there is nobody else to whom it could belong.
        if caller.end_user.is_some() && new.user_id.is_some_and(|user| Some(user) != caller.end_user) {
            return Err(Error::NotFound(Resource::User));
        }
        let insert = Insert {
            id: new.id,
            user_id: new.user_id,
            title: new.title.as_deref(),
            metadata: new.metadata.as_str(),
            claim_hash: new.claim_hash.as_ref().map(ClaimHash::as_bytes),
        };
        if let Some(row) = self.first(caller, &insert).await? {
            return Ok(row.into());
        }
        let repeated = Repeated {
            id: new.id,
            user_id: new.user_id,
            claim_hash: insert.claim_hash,
        };
        let row = self.first(caller, &repeated).await?;
        row.map(Session::from).ok_or(Error::IdTaken(Resource::Session))
    }

    /// One session.
    pub async fn session(&self, caller: &Caller, id: Uuid) -> Result<Session> {
        let row = self.first(caller, &Get { id }).await?;
        row.map(Session::from).ok_or(Error::NotFound(Resource::Session))
    }

    /// Changes a session.
    pub async fn update_session(&self, caller: &Caller, change: &SessionChange) -> Result<Session> {
        self.transaction(caller, async |tx| {
            let update = Update {
                id: change.id,
                title: change.title.as_deref(),
                metadata: change.metadata.as_ref().map(json::JsonObject::as_str),
                replace: replaces(change.metadata_mode),
            };
            let row = tx.first(&update).await?;
            let session: Session = row.ok_or(Error::NotFound(Resource::Session))?.into();
            // Metadata that is kept is not the caller's fault: it may have been written by SQL, or under other limits.
            if change.metadata.is_some() {
                json::check_merged(&session.metadata, &self.limits)
                    .map_err(|description| Error::invalid("metadata_json", description))?;
            }
            Ok(session)
        })
        .await
    }

    /// Makes anonymous sessions a user's. Answers, in the order given, those that are the user's now.
    pub async fn claim_sessions(&self, caller: &Caller, claim: &SessionClaim) -> Result<Vec<Uuid>> {
        caller.permit(Action::ClaimSessions)?;
        let SessionClaim { user_id, ids, hashes } = claim;
        if caller.end_user.is_some_and(|end_user| end_user != *user_id) {
            return Err(Error::NotFound(Resource::User));
        }
        if self.scope.has_auth() {
            // The foreign key speaks up only where there is something to claim.
            self.user(caller, &UserKey::Id(*user_id)).await?;
        }
        let hashes: Option<Vec<&[u8]>> = hashes
            .as_ref()
            .map(|hashes| hashes.iter().map(ClaimHash::as_bytes).collect());
        let claim = Claim {
            user_id: *user_id,
            ids,
            hashes: hashes.as_deref(),
        };
        let claimed = self.run(caller, &claim).await?;
        Ok(ids.iter().copied().filter(|id| claimed.contains(id)).collect())
    }

    /// One more session than the page holds, if there are as many.
    pub async fn list_sessions(&self, caller: &Caller, filter: &SessionFilter) -> Result<Vec<Session>> {
        let (before, before_id) = match filter.page.after {
            // A token's time was a row's, so it is one; a forged one begins at the newest.
            Some((micros, id)) => (Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX), id),
            None => (Timestamp::MAX, Uuid::max()),
        };
        let title = filter
            .title_contains
            .as_ref()
            .map(|text| format!("%{}%", like_literal(text)));
        let title = title.as_deref();
        let metadata = filter.metadata_contains.as_ref().map(json::JsonObject::as_str);
        let limit = filter.page.fetch();
        let rows = match filter.owner {
            SessionOwner::Anonymous => {
                let list = ListAnonymous {
                    before,
                    before_id,
                    metadata,
                    title,
                    limit,
                };
                self.run(caller, &list).await?
            }
            SessionOwner::User(user_id) => {
                let list = ListCreated {
                    user_id,
                    before,
                    before_id,
                    metadata,
                    title,
                    limit,
                };
                match filter.order {
                    SessionOrder::Created => self.run(caller, &list).await?,
                    SessionOrder::LastActive => self.run(caller, &ListLastActive(list)).await?,
                }
            }
        };
        Ok(rows.into_iter().map(Session::from).collect())
    }

    /// What is missing, where a row of a session was not found: the session, or `within` it the resource.
    pub(super) async fn missing(&self, caller: &Caller, session_id: Uuid, within: Resource) -> Error {
        match self.session(caller, session_id).await {
            Ok(_) => Error::NotFound(within),
            Err(error) => error,
        }
    }
}
