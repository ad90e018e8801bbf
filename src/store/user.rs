//! Users.

use uuid::Uuid;

use super::Store;
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        profile::{DEFAULT_LANGUAGE, ProfileFields},
        user::{NewUser, User, UserChange, UserFilter, UserKey},
    },
    statements::user::{
        ByEmail, ByExternalId, ById, CredentialsOf, IdInUse, Insert, List, Repeated, ReplaceHash,
        SetPassword, Update, UserRow,
    },
};
use chatledger_postgres::sql::like_literal;

impl From<UserRow> for User {
    fn from(row: UserRow) -> User {
        User {
            id: row.id,
            email: row.email,
            external_id: row.external_id,
            name: row.name,
            is_active: row.is_active,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The id that comes next, where a page goes on behind `after`; `None` behind the last one there is.
pub(super) fn first_id(after: Option<(Uuid,)>) -> Option<Uuid> {
    match after {
        None => Some(Uuid::nil()),
        Some((id,)) => id.as_u128().checked_add(1).map(Uuid::from_u128),
    }
}

/// A user and the hash of the password, if there is one.
pub struct UserCredentials {
    /// The user.
    pub user: User,
    /// The stored hash.
    pub hash: Option<String>,
}

impl Store {
    /// Creates a user, or answers the one whom the same request created before.
    pub async fn create_user(&self, caller: &Caller, new: &NewUser, hash: Option<&str>) -> Result<User> {
        let none = ProfileFields::default();
        let profile = new.profile.as_ref().unwrap_or(&none);
        let preferences = profile.preferences.clone().unwrap_or_default();
        let insert = Insert {
            id: new.id,
            email: &new.email,
            external_id: new.external_id.as_deref(),
            name: new.name.as_deref(),
            hashed_password: hash,
            with_profile: new.profile.is_some(),
            software_background: profile.software_background.as_deref(),
            hardware_background: profile.hardware_background.as_deref(),
            learning_goals: profile.learning_goals.as_deref(),
            experience_level: profile.experience_level.as_deref(),
            preferred_language: profile.preferred_language.as_deref().unwrap_or(DEFAULT_LANGUAGE),
            preferences: preferences.as_str(),
        };
        match self.first(caller, &insert).await {
            Ok(row) => row.map(User::from).ok_or(Error::Internal),
            // Which of several constraints is named is Postgres' choice: look for the repetition first.
            Err(taken @ (Error::EmailTaken | Error::ExternalIdTaken | Error::IdTaken(_))) => {
                let repeated = Repeated {
                    id: new.id,
                    email: &new.email,
                };
                if let Some(row) = self.first(caller, &repeated).await? {
                    return Ok(row.into());
                }
                match self.first(caller, &IdInUse { id: new.id }).await? {
                    Some(()) => Err(Error::IdTaken(Resource::User)),
                    None => Err(taken),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// One user.
    pub async fn user(&self, caller: &Caller, key: &UserKey) -> Result<User> {
        let row = match key {
            UserKey::Id(id) => self.first(caller, &ById { id: *id }).await?,
            UserKey::Email(email) => self.first(caller, &ByEmail { email }).await?,
            UserKey::ExternalId(external_id) => self.first(caller, &ByExternalId { external_id }).await?,
        };
        row.map(User::from).ok_or(Error::NotFound(Resource::User))
    }

    /// Changes a user.
    ///
    /// An end user changes neither its external id, by which tokens name it (it could become somebody whose account isn't there
    /// yet), nor whether it may come in.
    pub async fn update_user(&self, caller: &Caller, id: Uuid, change: &UserChange) -> Result<User> {
        if caller.end_user.is_some() && (change.external_id.is_some() || change.is_active.is_some()) {
            return Err(Error::NotForEndUsers);
        }
        let update = Update {
            id,
            email: change.email.as_deref(),
            with_external_id: change.external_id.is_some(),
            external_id: change.external_id.as_ref().and_then(Option::as_deref),
            name: change.name.as_deref(),
            is_active: change.is_active,
        };
        let row = self.first(caller, &update).await?;
        row.map(User::from).ok_or(Error::NotFound(Resource::User))
    }

    /// One more user than the page holds, if there are as many.
    pub async fn list_users(&self, caller: &Caller, filter: &UserFilter) -> Result<Vec<User>> {
        let Some(first_id) = first_id(filter.page.after) else {
            return Ok(Vec::new());
        };
        let prefix = filter
            .email_prefix
            .as_ref()
            .map(|prefix| like_literal(prefix) + "%");
        let list = List {
            first_id,
            email_prefix: prefix.as_deref(),
            is_active: filter.is_active,
            limit: filter.page.fetch(),
        };
        let rows = self.run(caller, &list).await?;
        Ok(rows.into_iter().map(User::from).collect())
    }

    /// Stores the hash of a new password.
    pub async fn set_password(&self, caller: &Caller, id: Uuid, hash: &str) -> Result<()> {
        let set = SetPassword {
            id,
            hashed_password: hash,
        };
        let found = self.first(caller, &set).await?;
        found.map(drop).ok_or(Error::NotFound(Resource::User))
    }

    /// What a password is verified against.
    pub async fn credentials(&self, caller: &Caller, email: &str) -> Result<Option<UserCredentials>> {
        let row = self.first(caller, &CredentialsOf { email }).await?;
        Ok(row.map(|row| UserCredentials {
            user: row.user.into(),
            hash: row.hashed_password,
        }))
    }

    /// Replaces a hash by a newer kind of the same password.
    pub async fn replace_hash(&self, caller: &Caller, id: Uuid, old: &str, new: &str) -> Result<()> {
        self.run(caller, &ReplaceHash { id, old, new }).await.map(drop)
    }
}
