//! Where an import writes: rows that exist are left as they are. Messages are the ledger's to append.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::record::{DocumentRecord, ProfileRecord, SessionRecord, UserRecord};
use chatledger::{
    auth::Caller,
    domain::{
        JsonObject,
        document::NewDocument,
        profile::{DEFAULT_LANGUAGE, ProfileFields},
    },
};
use chatledger_postgres::{Db, DbError, Sql};

static DOCUMENTS: Sql = Sql {
    text: "INSERT INTO documents
            (tenant_id, id, title, source_uri, mime_type, content_hash, metadata, created_at, updated_at)
        SELECT $1, d.id, d.title, d.source_uri, d.mime_type, d.content_hash, d.metadata::jsonb,
            coalesce(d.created_at, now()), coalesce(d.updated_at, d.created_at, now())
        FROM unnest($2, $3, $4, $5, $6, $7, $8, $9)
            AS d (id, title, source_uri, mime_type, content_hash, metadata, created_at, updated_at)
        ON CONFLICT DO NOTHING RETURNING id",
    params: &[
        Type::TEXT,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
};

static USERS: Sql = Sql {
    text: "INSERT INTO users
            (tenant_id, id, email, external_id, name, hashed_password, is_active, created_at, updated_at)
        SELECT $1, u.id, u.email, u.external_id, u.name, u.hashed_password, u.is_active,
            coalesce(u.created_at, now()), coalesce(u.updated_at, u.created_at, now())
        FROM unnest($2, $3, $4, $5, $6, $7, $8, $9)
            AS u (id, email, external_id, name, hashed_password, is_active, created_at, updated_at)
        ON CONFLICT DO NOTHING RETURNING id",
    params: &[
        Type::TEXT,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::BOOL_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
};

/// Who is in the way of a user that was not inserted: itself first, then the one with its email.
static WHO: Sql = Sql {
    text: "SELECT DISTINCT ON (given) given, stored FROM (
            SELECT g.id AS given, u.id AS stored FROM unnest($2, $3) AS g (id, email)
                JOIN users u ON u.id = g.id WHERE u.tenant_id = $1
            UNION ALL
            SELECT g.id, u.id FROM unnest($2, $3) AS g (id, email)
                JOIN users u ON lower(u.email) = lower(g.email) WHERE u.tenant_id = $1
        ) found ORDER BY given, stored <> given",
    params: &[Type::TEXT, Type::UUID_ARRAY, Type::TEXT_ARRAY],
};

static KNOWN_USERS: Sql = Sql {
    text: "SELECT id FROM users WHERE tenant_id = $1 AND id = ANY($2)",
    params: &[Type::TEXT, Type::UUID_ARRAY],
};

static PROFILES: Sql = Sql {
    text: "INSERT INTO user_profiles (user_id, software_background, hardware_background, learning_goals,
            experience_level, preferred_language, preferences, created_at, updated_at)
        SELECT p.user_id, p.software_background, p.hardware_background, p.learning_goals, p.experience_level,
            p.preferred_language, p.preferences::jsonb, coalesce(p.created_at, now()),
            coalesce(p.updated_at, p.created_at, now())
        FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) AS p (user_id, software_background, hardware_background,
            learning_goals, experience_level, preferred_language, preferences, created_at, updated_at)
        JOIN users u ON u.id = p.user_id WHERE u.tenant_id = $1
        ON CONFLICT DO NOTHING RETURNING user_id",
    params: &[
        Type::TEXT,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
};

static SESSIONS: Sql = Sql {
    text: "INSERT INTO chat_sessions (tenant_id, id, user_id, title, metadata, created_at, updated_at)
        SELECT $1, s.id, s.user_id, s.title, s.metadata::jsonb, coalesce(s.created_at, now()),
            coalesce(s.updated_at, s.created_at, now())
        FROM unnest($2, $3, $4, $5, $6, $7) AS s (id, user_id, title, metadata, created_at, updated_at)
        ON CONFLICT DO NOTHING RETURNING id",
    params: &[
        Type::TEXT,
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
};

static LAST_SEQS: Sql = Sql {
    text: "SELECT id, last_seq FROM chat_sessions WHERE tenant_id = $1 AND id = ANY($2)",
    params: &[Type::TEXT, Type::UUID_ARRAY],
};

/// Which of these messages are stored, whether as deleted, and whether with this content. The derived ids are
/// computed once, and both kinds looked up by the key: as one condition they were compared with every message
/// of the session.
static STORED: Sql = Sql {
    text: "WITH given AS MATERIALIZED (
            SELECT *, message_row_id(session_id, id) AS row_id
            FROM unnest($1, $2, $3) WITH ORDINALITY AS g (session_id, id, digest, place)),
        found AS (
            SELECT g.place, g.digest, m.* FROM given g JOIN messages m ON m.id = g.id AND m.session_id = g.session_id
            UNION ALL
            SELECT g.place, g.digest, m.* FROM given g JOIN messages m ON m.id = g.row_id AND m.session_id = g.session_id)
        SELECT place, deleted_at IS NOT NULL, sha256(convert_to(
            role || E'\\n' || content || E'\\n' || coalesce(selected_text, ''), 'UTF8')) = digest
        FROM found",
    params: &[Type::UUID_ARRAY, Type::UUID_ARRAY, Type::BYTEA_ARRAY],
};

/// Marks messages that were stored empty, to keep the places of deleted ones.
static DELETED: Sql = Sql {
    text: "UPDATE messages m SET deleted_at = g.deleted_at FROM unnest($1, $2, $3) AS g (session_id, id, deleted_at)
        WHERE m.id IN (g.id, message_row_id(g.session_id, g.id)) AND m.session_id = g.session_id
            AND m.deleted_at IS NULL AND m.content = ''",
    params: &[Type::UUID_ARRAY, Type::UUID_ARRAY, Type::TIMESTAMPTZ_ARRAY],
};

/// Gives sessions their own time of change again, which the appends have moved; unless somebody has gone on
/// with them.
static UPDATED_AT: Sql = Sql {
    text: "UPDATE chat_sessions s SET updated_at = coalesce(g.updated_at, s.last_message_at, s.created_at)
        FROM unnest($2, $3, $4) AS g (id, updated_at, messages)
        WHERE s.id = g.id AND s.tenant_id = $1 AND s.last_seq = g.messages
            AND s.updated_at > coalesce(g.updated_at, s.last_message_at, s.created_at)",
    params: &[
        Type::TEXT,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
    ],
};

/// The statements, for the test that prepares them all.
pub(super) static ALL: &[&Sql] = &[
    &DOCUMENTS,
    &USERS,
    &WHO,
    &KNOWN_USERS,
    &PROFILES,
    &SESSIONS,
    &LAST_SEQS,
    &STORED,
    &DELETED,
    &UPDATED_AT,
];

/// What is known of a message that is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredMessage {
    pub(super) deleted: bool,
    pub(super) same: bool,
}

/// A target.
pub(super) struct ImportTarget {
    pub(super) db: Db,
    pub(super) caller: Caller,
}

/// The values of one column.
macro_rules! column {
    ($rows:expr, $row:pat => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}

impl ImportTarget {
    fn tenant(&self) -> &str {
        &self.caller.tenant
    }

    /// Stores documents; answers the keys of those that weren't there.
    pub(super) async fn documents(
        &self,
        rows: &[(DocumentRecord, NewDocument)],
    ) -> Result<HashSet<String>, DbError> {
        let stored = self
            .db
            .write(
                None,
                &DOCUMENTS,
                &[
                    &self.tenant(),
                    &column!(rows, (_, d) => &d.id),
                    &column!(rows, (r, _) => &r.title),
                    &column!(rows, (r, _) => &r.source_uri),
                    &column!(rows, (r, _) => &r.mime_type),
                    &column!(rows, (r, _) => &r.content_hash),
                    &column!(rows, (_, d) => d.metadata.as_str()),
                    &column!(rows, (r, _) => r.created_at),
                    &column!(rows, (r, _) => r.updated_at),
                ],
            )
            .await?;
        Ok(stored.iter().map(|row| row.get(0)).collect())
    }

    /// Stores users; answers the ids of those that weren't there.
    pub(super) async fn users(&self, rows: &[UserRecord]) -> Result<HashSet<Uuid>, DbError> {
        let stored = self
            .db
            .write(
                None,
                &USERS,
                &[
                    &self.tenant(),
                    &column!(rows, u => u.id),
                    &column!(rows, u => &u.email),
                    &column!(rows, u => &u.external_id),
                    &column!(rows, u => &u.name),
                    &column!(rows, u => &u.hashed_password),
                    &column!(rows, u => u.is_active),
                    &column!(rows, u => u.created_at),
                    &column!(rows, u => u.updated_at),
                ],
            )
            .await?;
        Ok(stored.iter().map(|row| row.get(0)).collect())
    }

    /// Who is stored in the place of each of these: itself, or another with its email.
    pub(super) async fn who(&self, rows: &[&UserRecord]) -> Result<HashMap<Uuid, Uuid>, DbError> {
        let ids = column!(rows, u => u.id);
        let emails = column!(rows, u => &u.email);
        let found = self.db.read(None, &WHO, &[&self.tenant(), &ids, &emails]).await?;
        Ok(found.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Which of these users there are.
    pub(super) async fn known_users(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, DbError> {
        let found = self.db.read(None, &KNOWN_USERS, &[&self.tenant(), &ids]).await?;
        Ok(found.iter().map(|row| row.get(0)).collect())
    }

    /// Stores profiles of users who exist; answers the users of those that weren't there.
    pub(super) async fn profiles(
        &self,
        rows: &[(ProfileRecord, ProfileFields)],
    ) -> Result<HashSet<Uuid>, DbError> {
        let language = |fields: &ProfileFields| {
            fields
                .preferred_language
                .clone()
                .unwrap_or_else(|| DEFAULT_LANGUAGE.to_owned())
        };
        let preferences =
            |fields: &ProfileFields| fields.preferences.clone().unwrap_or_default().as_str().to_owned();
        let stored = self
            .db
            .write(
                None,
                &PROFILES,
                &[
                    &self.tenant(),
                    &column!(rows, (r, _) => r.user_id),
                    &column!(rows, (_, p) => &p.software_background),
                    &column!(rows, (_, p) => &p.hardware_background),
                    &column!(rows, (_, p) => &p.learning_goals),
                    &column!(rows, (_, p) => &p.experience_level),
                    &column!(rows, (_, p) => language(p)),
                    &column!(rows, (_, p) => preferences(p)),
                    &column!(rows, (r, _) => r.created_at),
                    &column!(rows, (r, _) => r.updated_at),
                ],
            )
            .await?;
        Ok(stored.iter().map(|row| row.get(0)).collect())
    }

    /// Stores sessions, whose users exist; answers the ids of those that weren't there.
    pub(super) async fn sessions(
        &self,
        rows: &[(SessionRecord, JsonObject)],
    ) -> Result<HashSet<Uuid>, DbError> {
        let stored = self
            .db
            .write(
                None,
                &SESSIONS,
                &[
                    &self.tenant(),
                    &column!(rows, (s, _) => s.id),
                    &column!(rows, (s, _) => s.user_id),
                    &column!(rows, (s, _) => &s.title),
                    &column!(rows, (_, metadata) => metadata.as_str()),
                    &column!(rows, (s, _) => s.created_at),
                    &column!(rows, (s, _) => s.updated_at),
                ],
            )
            .await?;
        Ok(stored.iter().map(|row| row.get(0)).collect())
    }

    /// The last seqs of those sessions that there are.
    pub(super) async fn last_seqs(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, DbError> {
        let found = self.db.read(None, &LAST_SEQS, &[&self.tenant(), &ids]).await?;
        Ok(found.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// What is stored of these messages (session, id, digest), by place.
    pub(super) async fn stored(
        &self,
        messages: &[(Uuid, Uuid, Vec<u8>)],
    ) -> Result<HashMap<usize, StoredMessage>, DbError> {
        let found = self
            .db
            .read(
                None,
                &STORED,
                &[
                    &column!(messages, (session, _, _) => *session),
                    &column!(messages, (_, id, _) => *id),
                    &column!(messages, (_, _, digest) => digest),
                ],
            )
            .await?;
        Ok(found
            .iter()
            .map(|row| {
                let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
                (
                    place,
                    StoredMessage {
                        deleted: row.get(1),
                        same: row.get(2),
                    },
                )
            })
            .collect())
    }

    /// Marks messages (session, id, time) as deleted.
    pub(super) async fn mark_deleted(&self, messages: &[(Uuid, Uuid, Timestamp)]) -> Result<(), DbError> {
        let marked = self
            .db
            .write(
                None,
                &DELETED,
                &[
                    &column!(messages, (session, _, _) => *session),
                    &column!(messages, (_, id, _) => *id),
                    &column!(messages, (_, _, time) => *time),
                ],
            )
            .await;
        marked.map(drop)
    }

    /// Sets the time of change of sessions (id, time, number of messages).
    pub(super) async fn set_updated_at(
        &self,
        sessions: &[(Uuid, Option<Timestamp>, i64)],
    ) -> Result<(), DbError> {
        let set = self
            .db
            .write(
                None,
                &UPDATED_AT,
                &[
                    &self.tenant(),
                    &column!(sessions, (id, _, _) => *id),
                    &column!(sessions, (_, time, _) => *time),
                    &column!(sessions, (_, _, messages) => *messages),
                ],
            )
            .await;
        set.map(drop)
    }
}
