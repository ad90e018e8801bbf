//! `chat_sessions`.

use jiff::Timestamp;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Store, merged_json, replaces};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result, json,
        session::{NewSession, Session, SessionChange, SessionFilter, SessionOrder, SessionOwner},
        user::UserKey,
    },
};
use chatledger_postgres::{Sql, Time, Tx, sql::like_literal};

macro_rules! columns {
    () => {
        "id, user_id, coalesce(title, ''), metadata::text, last_seq, created_at, updated_at, last_message_at"
    };
}

macro_rules! visible {
    () => {
        "tenant_id = $1 AND ($2::uuid IS NULL OR user_id = $2)"
    };
}

/// A session of an end user who names nobody is that user's own.
static INSERT: Sql = Sql {
    text: concat!(
        "INSERT INTO chat_sessions (tenant_id, id, user_id, title, metadata)
        SELECT $1, $3, coalesce($4, $2), $5, $6::text::jsonb WHERE $2::uuid IS NULL OR coalesce($4, $2) = $2
        ON CONFLICT (id) DO NOTHING RETURNING ",
        columns!()
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
    ],
};

/// The session that a creation repeats, if this is one: same id, same owner.
static REPEATED: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM chat_sessions WHERE ",
        visible!(),
        " AND id = $3
        AND user_id IS NOT DISTINCT FROM coalesce($4, $2)"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::UUID],
};

static GET: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM chat_sessions WHERE ",
        visible!(),
        " AND id = $3"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

static UPDATE: Sql = Sql {
    text: concat!(
        "UPDATE chat_sessions SET title = coalesce($4, title),
            metadata = ",
        merged_json!("metadata", "$5", "$6"),
        ", updated_at = now()
        WHERE ",
        visible!(),
        " AND id = $3 RETURNING ",
        columns!()
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::BOOL,
    ],
};

/// In id order, as appends lock: no deadlock with them.
static CLAIM: Sql = Sql {
    text: "WITH mine AS (
            SELECT id FROM chat_sessions WHERE tenant_id = $1 AND ($2::uuid IS NULL OR $3 = $2)
                AND id = ANY($4) AND (user_id IS NULL OR user_id = $3)
            ORDER BY id FOR NO KEY UPDATE)
        UPDATE chat_sessions s SET user_id = $3,
            updated_at = CASE WHEN s.user_id IS NULL THEN now() ELSE s.updated_at END
        FROM mine WHERE s.id = mine.id RETURNING s.id",
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::UUID_ARRAY],
};

/// `$4`, `$5`: the time and id that the page's rows are below.
macro_rules! list {
    ($owner:literal, $time:literal) => {
        concat!(
            "SELECT ", columns!(), " FROM chat_sessions
            WHERE ", visible!(), " AND ", $owner, " AND (", $time, ", id) < ($4, $5)
                AND ($6::text IS NULL OR metadata @> $6::text::jsonb) AND ($7::text IS NULL OR coalesce(title, '') ILIKE $7)
            ORDER BY ", $time, " DESC, id DESC LIMIT $8"
        )
    };
}

const LIST_PARAMS: &[Type] = &[
    Type::TEXT,
    Type::UUID,
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
];

static LIST_CREATED: Sql = Sql {
    text: list!("user_id = $3", "created_at"),
    params: LIST_PARAMS,
};

static LIST_LAST_ACTIVE: Sql = Sql {
    text: list!("user_id = $3", "coalesce(last_message_at, created_at)"),
    params: LIST_PARAMS,
};

/// `$3` is NULL.
static LIST_ANONYMOUS: Sql = Sql {
    text: list!("user_id IS NULL AND $3::uuid IS NULL", "created_at"),
    params: LIST_PARAMS,
};

pub(super) static ALL: &[&Sql] = &[
    &INSERT,
    &REPEATED,
    &GET,
    &UPDATE,
    &CLAIM,
    &LIST_CREATED,
    &LIST_LAST_ACTIVE,
    &LIST_ANONYMOUS,
];

fn session(row: &Row) -> Session {
    Session {
        id: row.get(0),
        user_id: row.get(1),
        title: row.get(2),
        metadata: row.get(3),
        last_seq: row.get(4),
        created_at: row.get::<_, Time>(5).0,
        updated_at: row.get::<_, Time>(6).0,
        last_message_at: row.get::<_, Option<Time>>(7).map(|time| time.0),
    }
}

impl Store {
    /// Creates a session, or answers the one that the same request created before.
    pub async fn create_session(&self, caller: &Caller, new: &NewSession) -> Result<Session> {
        let tenant = caller.tenant.as_ref();
        let rows = self
            .write(
                caller,
                &INSERT,
                &[
                    &tenant,
                    &caller.end_user,
                    &new.id,
                    &new.user_id,
                    &new.title,
                    &new.metadata.as_str(),
                ],
            )
            .await?;
        if let Some(row) = rows.first() {
            return Ok(session(row));
        }
        let rows = self
            .read(
                caller,
                &REPEATED,
                &[&tenant, &caller.end_user, &new.id, &new.user_id],
            )
            .await?;
        rows.first().map(session).ok_or(Error::IdTaken(Resource::Session))
    }

    /// One session.
    pub async fn session(&self, caller: &Caller, id: Uuid) -> Result<Session> {
        let rows = self
            .read(caller, &GET, &[&caller.tenant.as_ref(), &caller.end_user, &id])
            .await?;
        rows.first()
            .map(session)
            .ok_or(Error::NotFound(Resource::Session))
    }

    /// Changes a session.
    pub async fn update_session(&self, caller: &Caller, change: &SessionChange) -> Result<Session> {
        let tx = self.db.begin(caller.deadline).await?;
        let changed = self.update_session_in(&tx, caller, change).await;
        tx.end(changed).await
    }

    async fn update_session_in(&self, tx: &Tx, caller: &Caller, change: &SessionChange) -> Result<Session> {
        let rows = tx
            .query(
                &UPDATE,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &change.id,
                    &change.title,
                    &change.metadata.as_ref().map(json::JsonObject::as_str),
                    &replaces(change.metadata_mode),
                ],
            )
            .await?;
        let session = rows
            .first()
            .map(session)
            .ok_or(Error::NotFound(Resource::Session))?;
        // Metadata that is kept is not the caller's fault: it may have been written by SQL, or under other limits.
        if change.metadata.is_some() {
            json::check_merged(&session.metadata, &self.limits)
                .map_err(|description| Error::invalid("metadata_json", description))?;
        }
        Ok(session)
    }

    /// Makes anonymous sessions a user's. Answers, in the order given, those that are the user's now.
    pub async fn claim_sessions(&self, caller: &Caller, user_id: Uuid, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        if self.scope.has_auth() {
            // The foreign key speaks up only where there is something to claim.
            self.user(caller, &UserKey::Id(user_id)).await?;
        }
        let rows = self
            .write(
                caller,
                &CLAIM,
                &[&caller.tenant.as_ref(), &caller.end_user, &user_id, &ids],
            )
            .await?;
        let claimed: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        Ok(ids.iter().copied().filter(|id| claimed.contains(id)).collect())
    }

    /// One more session than the page holds, if there are as many.
    pub async fn list_sessions(&self, caller: &Caller, filter: &SessionFilter) -> Result<Vec<Session>> {
        let (sql, user_id) = match (filter.owner, filter.order) {
            (SessionOwner::User(id), SessionOrder::Created) => (&LIST_CREATED, Some(id)),
            (SessionOwner::User(id), SessionOrder::LastActive) => (&LIST_LAST_ACTIVE, Some(id)),
            (SessionOwner::Anonymous, _) => (&LIST_ANONYMOUS, None),
        };
        let (time, id) = match filter.page.after {
            // A token's time was a row's, so it is one; a forged one begins at the newest.
            Some((micros, id)) => (Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX), id),
            None => (Timestamp::MAX, Uuid::max()),
        };
        let title = filter
            .title_contains
            .as_ref()
            .map(|text| format!("%{}%", like_literal(text)));
        let rows = self
            .read(
                caller,
                sql,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &user_id,
                    &time,
                    &id,
                    &filter.metadata_contains.as_ref().map(json::JsonObject::as_str),
                    &title,
                    &filter.page.fetch(),
                ],
            )
            .await?;
        Ok(rows.into_iter().map(|row| session(&row)).collect())
    }

    /// What is missing, where a row of a session was not found: the session, or `within` it the resource.
    pub(super) async fn missing(&self, caller: &Caller, session_id: Uuid, within: Resource) -> Error {
        match self.session(caller, session_id).await {
            Ok(_) => Error::NotFound(within),
            Err(error) => error,
        }
    }
}
