//! API keys, and whom credentials name.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::Store;
use crate::{
    auth::{Caller, NewSecret},
    domain::{
        Error, Resource, Result,
        access::{AccessScope, AccessScopes, ApiKey, ApiKeyPage, NewApiKey},
    },
    statements::access::{ApiKeyRow, Expire, Get, Insert, Known, KnownKeyRow, List, Revoke, Subject, Used},
};

/// What a server has to know of a key.
#[derive(Debug)]
pub struct KnownKey {
    /// The part of it that is no secret.
    pub id: String,
    /// The tenant whose data it reaches.
    pub tenant: String,
    /// What it may do.
    pub scopes: AccessScopes,
    /// The SHA-256 of its secret.
    pub secret_hash: Bytes,
    /// The moment when it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// The moment when it was so, by the database's clock.
    pub as_of: Timestamp,
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> ApiKey {
        ApiKey {
            id: row.id,
            tenant: row.tenant_id,
            name: row.name,
            scopes: scopes(&row.scopes),
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        }
    }
}

impl From<KnownKeyRow> for KnownKey {
    fn from(row: KnownKeyRow) -> KnownKey {
        KnownKey {
            id: row.id,
            tenant: row.tenant_id,
            scopes: scopes(&row.scopes),
            secret_hash: row.secret_hash,
            expires_at: row.expires_at,
            is_revoked: row.is_revoked,
            as_of: row.as_of,
        }
    }
}

/// The scopes of a column, which has no others.
fn scopes(names: &[String]) -> AccessScopes {
    let known = names.iter().filter_map(|name| name.parse::<AccessScope>().ok());
    known.collect()
}

impl Store {
    /// Stores a key that was just made. Its tenant is the caller's; the local service's may be any.
    pub async fn create_key(&self, caller: &Caller, new: &NewApiKey, secret: &NewSecret) -> Result<ApiKey> {
        let insert = Insert {
            id: &secret.id,
            for_tenant: new.tenant.as_deref().unwrap_or(&caller.tenant),
            name: &new.name,
            secret_hash: secret.hash.bytes(),
            scopes: &new.scopes.names(),
            expires_at: new.expires_at,
        };
        let row = self.first(caller, &insert).await?;
        row.map(ApiKey::from).ok_or(Error::Internal)
    }

    /// One more key than the page holds, if there are as many.
    pub async fn list_keys(&self, caller: &Caller, page: &ApiKeyPage) -> Result<Vec<ApiKey>> {
        let (before, before_id) = match &page.after {
            Some((micros, id)) => (
                Timestamp::from_microsecond(*micros).unwrap_or(Timestamp::MAX),
                id.as_str(),
            ),
            None => (Timestamp::MAX, ""),
        };
        let list = List {
            before,
            before_id,
            limit: page.fetch(),
        };
        let rows = self.run(caller, &list).await?;
        Ok(rows.into_iter().map(ApiKey::from).collect())
    }

    /// One key.
    pub async fn key(&self, caller: &Caller, id: &str) -> Result<ApiKey> {
        let row = self.first(caller, &Get { id }).await?;
        row.map(ApiKey::from).ok_or(Error::NotFound(Resource::ApiKey))
    }

    /// Ends a key.
    pub async fn revoke_key(&self, caller: &Caller, id: &str) -> Result<ApiKey> {
        let row = self.first(caller, &Revoke { id }).await?;
        row.map(ApiKey::from).ok_or(Error::NotFound(Resource::ApiKey))
    }

    /// Lets a key end then, unless it does earlier.
    pub async fn expire_key(&self, caller: &Caller, id: &str, at: Timestamp) -> Result<ApiKey> {
        let row = self.first(caller, &Expire { id, at }).await?;
        row.map(ApiKey::from).ok_or(Error::NotFound(Resource::ApiKey))
    }

    /// The keys of all tenants that have changed since then, or all.
    pub async fn known_keys(&self, since: Option<Timestamp>) -> Result<Vec<KnownKey>> {
        let rows = self.run_for_nobody(&Known { since }).await?;
        Ok(rows.into_iter().map(KnownKey::from).collect())
    }

    /// Notes that a key is in use.
    pub async fn note_key_use(&self, id: &str) -> Result<()> {
        self.run_for_nobody(&Used { ids: &[id] }).await.map(drop)
    }

    /// The id of the user whom a subject names, by id or external id, where that user may come in. Without users' tables, a
    /// subject that is an id is a user's.
    pub async fn subject(&self, caller: &Caller, subject: &str) -> Result<Option<Uuid>> {
        let id = Uuid::try_parse(subject).ok();
        if !self.scope.has_auth() {
            return Ok(id);
        }
        let asked = Subject {
            id,
            external_id: subject,
        };
        let user = self.first(caller, &asked).await?;
        Ok(user.filter(|user| user.is_active).map(|user| user.id))
    }
}
