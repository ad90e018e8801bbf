//! Where an import writes: rows that exist are left as they are. Messages are the ledger's to append.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    record::{DocumentRecord, ProfileRecord, SessionRecord, UserRecord},
    statements::{
        run,
        target::{
            CompareMessages, KnownUsers, LastSeqs, MarkDeleted, Occupants, SetUpdatedAt, StoreDocuments,
            StoreProfiles, StoreSessions, StoreUsers,
        },
    },
};
use chatledger::{
    auth::Caller,
    domain::{
        JsonObject,
        document::NewDocument,
        profile::{DEFAULT_LANGUAGE, ProfileFields},
    },
    statements::Statement,
};
use chatledger_postgres::{Db, DbError};

/// The facts that are known of a message that is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageMatch {
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
    async fn run<S: Statement>(&self, statement: &S) -> Result<Vec<S::Row>, DbError> {
        run(&self.db, &self.caller, statement).await
    }

    /// Stores documents; answers the keys of those that weren't there.
    pub(super) async fn documents(
        &self,
        rows: &[(DocumentRecord, NewDocument)],
    ) -> Result<HashSet<String>, DbError> {
        let store = StoreDocuments {
            ids: &column!(rows, (_, d) => d.id.as_str()),
            titles: &column!(rows, (r, _) => r.title.as_deref()),
            source_uris: &column!(rows, (r, _) => r.source_uri.as_deref()),
            mime_types: &column!(rows, (r, _) => r.mime_type.as_deref()),
            content_hashes: &column!(rows, (r, _) => r.content_hash.as_deref()),
            metadata: &column!(rows, (_, d) => d.metadata.as_str()),
            created_at: &column!(rows, (r, _) => r.created_at),
            updated_at: &column!(rows, (r, _) => r.updated_at),
        };
        Ok(self.run(&store).await?.into_iter().collect())
    }

    /// Stores users; answers the ids of those that weren't there.
    pub(super) async fn users(&self, rows: &[UserRecord]) -> Result<HashSet<Uuid>, DbError> {
        let store = StoreUsers {
            ids: &column!(rows, u => u.id),
            emails: &column!(rows, u => u.email.as_str()),
            external_ids: &column!(rows, u => u.external_id.as_deref()),
            names: &column!(rows, u => u.name.as_deref()),
            hashed_passwords: &column!(rows, u => u.hashed_password.as_deref()),
            is_active: &column!(rows, u => u.is_active),
            created_at: &column!(rows, u => u.created_at),
            updated_at: &column!(rows, u => u.updated_at),
        };
        Ok(self.run(&store).await?.into_iter().collect())
    }

    /// The user who is stored in the place of each of these: itself, or another with its email.
    pub(super) async fn occupants(&self, rows: &[&UserRecord]) -> Result<HashMap<Uuid, Uuid>, DbError> {
        let occupants = Occupants {
            ids: &column!(rows, u => u.id),
            emails: &column!(rows, u => u.email.as_str()),
        };
        let found = self.run(&occupants).await?.into_iter();
        Ok(found.map(|occupant| (occupant.given, occupant.stored)).collect())
    }

    /// Those of these users that there are.
    pub(super) async fn known_users(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, DbError> {
        Ok(self.run(&KnownUsers { ids }).await?.into_iter().collect())
    }

    /// Stores profiles of users who exist; answers the users of those that weren't there.
    pub(super) async fn profiles(
        &self,
        rows: &[(ProfileRecord, ProfileFields)],
    ) -> Result<HashSet<Uuid>, DbError> {
        let none = JsonObject::default();
        let store = StoreProfiles {
            user_ids: &column!(rows, (r, _) => r.user_id),
            software_backgrounds: &column!(rows, (_, p) => p.software_background.as_deref()),
            hardware_backgrounds: &column!(rows, (_, p) => p.hardware_background.as_deref()),
            learning_goals: &column!(rows, (_, p) => p.learning_goals.as_deref()),
            experience_levels: &column!(rows, (_, p) => p.experience_level.as_deref()),
            preferred_languages: &column!(rows, (_, p) => p.preferred_language.as_deref().unwrap_or(DEFAULT_LANGUAGE)),
            preferences: &column!(rows, (_, p) => p.preferences.as_ref().unwrap_or(&none).as_str()),
            created_at: &column!(rows, (r, _) => r.created_at),
            updated_at: &column!(rows, (r, _) => r.updated_at),
        };
        Ok(self.run(&store).await?.into_iter().collect())
    }

    /// Stores sessions, whose users exist; answers the ids of those that weren't there.
    pub(super) async fn sessions(
        &self,
        rows: &[(SessionRecord, JsonObject)],
    ) -> Result<HashSet<Uuid>, DbError> {
        let store = StoreSessions {
            ids: &column!(rows, (s, _) => s.id),
            user_ids: &column!(rows, (s, _) => s.user_id),
            titles: &column!(rows, (s, _) => s.title.as_deref()),
            metadata: &column!(rows, (_, metadata) => metadata.as_str()),
            claim_hashes: &column!(rows, (s, _) => s.claim_hash.as_deref()),
            created_at: &column!(rows, (s, _) => s.created_at),
            updated_at: &column!(rows, (s, _) => s.updated_at),
        };
        Ok(self.run(&store).await?.into_iter().collect())
    }

    /// The last seqs of those sessions that there are.
    pub(super) async fn last_seqs(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, DbError> {
        let found = self.run(&LastSeqs { ids }).await?.into_iter();
        Ok(found.map(|session| (session.id, session.last_seq)).collect())
    }

    /// The stored side of these messages (session, id, digest of the identity), by place.
    pub(super) async fn stored(
        &self,
        messages: &[(Uuid, Uuid, [u8; 32])],
    ) -> Result<HashMap<usize, MessageMatch>, DbError> {
        let compare = CompareMessages {
            session_ids: &column!(messages, (session, _, _) => *session),
            ids: &column!(messages, (_, id, _) => *id),
            digests: &column!(messages, (_, _, digest) => digest.as_slice()),
        };
        let found = self.run(&compare).await?.into_iter().map(|row| {
            let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            let stored = MessageMatch {
                deleted: row.deleted,
                same: row.same,
            };
            (place, stored)
        });
        Ok(found.collect())
    }

    /// Marks messages (session, id, time) as deleted.
    pub(super) async fn mark_deleted(&self, messages: &[(Uuid, Uuid, Timestamp)]) -> Result<(), DbError> {
        let mark = MarkDeleted {
            session_ids: &column!(messages, (session, _, _) => *session),
            ids: &column!(messages, (_, id, _) => *id),
            deleted_at: &column!(messages, (_, _, time) => *time),
        };
        self.run(&mark).await.map(drop)
    }

    /// Sets the time of change of sessions (id, time, number of messages).
    pub(super) async fn set_updated_at(
        &self,
        sessions: &[(Uuid, Option<Timestamp>, i64)],
    ) -> Result<(), DbError> {
        let set = SetUpdatedAt {
            ids: &column!(sessions, (id, _, _) => *id),
            updated_at: &column!(sessions, (_, time, _) => *time),
            messages: &column!(sessions, (_, _, messages) => *messages),
        };
        self.run(&set).await.map(drop)
    }
}
