//! Deleting sessions and users, whose messages may be many: in steps, with pauses between them in which others find the
//! database free. All of it is one transaction, so it is seen as a whole or not at all.

use tokio::time::{self, Instant};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Store, first};
use crate::{
    auth::Caller,
    domain::{Error, Resource, Result},
};
use chatledger_postgres::{Sql, Tx};

/// How many messages a step deletes, with their citations: some tens of milliseconds' work.
const STEP: i64 = 1000;

/// Locks those sessions that have more than a step's messages: of user `$4`, or session `$3`. In id order, as
/// appends lock.
static LOCK_LARGE: Sql = Sql {
    text: "SELECT id, last_seq FROM chat_sessions
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR user_id = $2) AND (id = $3 OR user_id = $4) AND last_seq > $5
        ORDER BY id FOR UPDATE",
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::UUID, Type::INT8],
};

/// Of a session that is locked.
static DELETE_MESSAGES: Sql = Sql {
    text: "DELETE FROM messages WHERE session_id = $1 AND seq > $2 AND seq <= $3",
    params: &[Type::UUID, Type::INT8, Type::INT8],
};

static DELETE_SESSION: Sql = Sql {
    text: "DELETE FROM chat_sessions
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR user_id = $2) AND id = $3 RETURNING id",
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

static DELETE_USER: Sql = Sql {
    text: "DELETE FROM users WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND id = $3 RETURNING id",
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

pub(super) static ALL: &[&Sql] = &[&LOCK_LARGE, &DELETE_MESSAGES, &DELETE_SESSION, &DELETE_USER];

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
        let tx = self.db.begin(caller.deadline).await?;
        let removed = self.remove_in(&tx, caller, root).await;
        tx.end(removed).await
    }

    async fn remove_in(&self, tx: &Tx, caller: &Caller, root: Root) -> Result<()> {
        let tenant = caller.tenant.as_ref();
        if self.scope.has_chat() {
            let (session, user) = match root {
                Root::Session(id) => (Some(id), None),
                Root::User(id) => (None, Some(id)),
            };
            let large = tx
                .query(&LOCK_LARGE, &[&tenant, &caller.end_user, &session, &user, &STEP])
                .await?;
            for row in &large {
                remove_messages(tx, caller, row.get(0), row.get(1)).await?;
            }
        }
        let (sql, id, resource) = match root {
            Root::Session(id) => (&DELETE_SESSION, id, Resource::Session),
            Root::User(id) => (&DELETE_USER, id, Resource::User),
        };
        let rows = tx.query(sql, &[&tenant, &caller.end_user, &id]).await?;
        first(rows).map(drop).ok_or(Error::NotFound(resource))
    }
}

/// Removes a session's messages but for the last, which go with it. A pause is as long as the step before it, as long as
/// the caller's time allows that.
async fn remove_messages(tx: &Tx, caller: &Caller, session_id: Uuid, last_seq: i64) -> Result<()> {
    let began = Instant::now();
    let mut below = 0;
    while last_seq - below > STEP {
        let step = Instant::now();
        tx.query(&DELETE_MESSAGES, &[&session_id, &below, &(below + STEP)])
            .await?;
        below += STEP;
        let is_in_time = caller
            .deadline
            .is_none_or(|deadline| began.elapsed() < deadline - step);
        if is_in_time {
            time::sleep(step.elapsed()).await;
        }
    }
    Ok(())
}
