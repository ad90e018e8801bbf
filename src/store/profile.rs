//! Profiles.

use uuid::Uuid;

use super::{CallerTransaction, Store, replaces, user::first_id};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result, json,
        profile::{DEFAULT_LANGUAGE, Profile, ProfileChange, ProfileFields, ProfileFilter},
        user::UserKey,
    },
    statements::profile::{Delete, Get, Insert, List, ProfileRow, Update},
};

impl From<ProfileRow> for Profile {
    fn from(row: ProfileRow) -> Profile {
        Profile {
            user_id: row.user_id,
            software_background: row.software_background,
            hardware_background: row.hardware_background,
            learning_goals: row.learning_goals,
            experience_level: row.experience_level,
            preferred_language: row.preferred_language,
            preferences: row.preferences,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Store {
    /// A user's profile.
    pub async fn profile(&self, caller: &Caller, user_id: Uuid) -> Result<Profile> {
        match self.first(caller, &Get { user_id }).await? {
            Some(row) => Ok(row.into()),
            None => Err(self.no_profile(caller, user_id).await),
        }
    }

    /// Changes a profile, or creates it where the change says so.
    pub async fn update_profile(&self, caller: &Caller, change: &ProfileChange) -> Result<Profile> {
        let changed = self.transaction(caller, async |tx| {
            if let Some(changed) = self.change_profile(tx, change).await? {
                return Ok(Some(changed));
            }
            let Some(fields) = &change.create else {
                return Ok(None);
            };
            if let Some(created) = insert_profile(tx, change, fields).await? {
                return Ok(Some(created));
            }
            // Either there is no user, or somebody else has just created the profile.
            self.change_profile(tx, change).await
        });
        match changed.await? {
            Some(profile) => Ok(profile),
            None => Err(self.no_profile(caller, change.user_id).await),
        }
    }

    async fn change_profile(
        &self,
        tx: &CallerTransaction<'_>,
        change: &ProfileChange,
    ) -> Result<Option<Profile>> {
        let update = Update {
            user_id: change.user_id,
            with_software_background: change.software_background.is_some(),
            software_background: text(change.software_background.as_ref()),
            with_hardware_background: change.hardware_background.is_some(),
            hardware_background: text(change.hardware_background.as_ref()),
            with_learning_goals: change.learning_goals.is_some(),
            learning_goals: text(change.learning_goals.as_ref()),
            with_experience_level: change.experience_level.is_some(),
            experience_level: text(change.experience_level.as_ref()),
            preferred_language: change.preferred_language.as_deref(),
            preferences: change.preferences.as_ref().map(json::JsonObject::as_str),
            replace: replaces(change.preferences_mode),
        };
        let changed = tx.first(&update).await?.map(Profile::from);
        // Preferences that are kept are not the caller's fault: they may have been written by SQL, or under
        // other limits.
        if let (Some(profile), Some(_)) = (&changed, &change.preferences) {
            json::check_merged(&profile.preferences, &self.limits)
                .map_err(|description| Error::invalid("profile.preferences_json", description))?;
        }
        Ok(changed)
    }

    /// Deletes a profile.
    pub async fn delete_profile(&self, caller: &Caller, user_id: Uuid) -> Result<()> {
        match self.first(caller, &Delete { user_id }).await? {
            Some(_) => Ok(()),
            None => Err(self.no_profile(caller, user_id).await),
        }
    }

    /// One more profile than the page holds, if there are as many.
    pub async fn list_profiles(&self, caller: &Caller, filter: &ProfileFilter) -> Result<Vec<Profile>> {
        let Some(first_id) = first_id(filter.page.after) else {
            return Ok(Vec::new());
        };
        let list = List {
            first_id,
            experience_level: filter.experience_level.as_deref(),
            preferences: filter.preferences_contain.as_ref().map(json::JsonObject::as_str),
            limit: filter.page.fetch(),
        };
        let rows = self.run(caller, &list).await?;
        Ok(rows.into_iter().map(Profile::from).collect())
    }

    /// Which of the two is missing.
    async fn no_profile(&self, caller: &Caller, user_id: Uuid) -> Error {
        match self.user(caller, &UserKey::Id(user_id)).await {
            Ok(_) => Error::NotFound(Resource::Profile),
            Err(error) => error,
        }
    }
}

/// The new text of a field that is changed, or NULL.
fn text(field: Option<&Option<String>>) -> Option<&str> {
    field.and_then(Option::as_deref)
}

async fn insert_profile(
    tx: &CallerTransaction<'_>,
    change: &ProfileChange,
    fields: &ProfileFields,
) -> Result<Option<Profile>> {
    let preferences = fields.preferences.clone().unwrap_or_default();
    let insert = Insert {
        user_id: change.user_id,
        software_background: fields.software_background.as_deref(),
        hardware_background: fields.hardware_background.as_deref(),
        learning_goals: fields.learning_goals.as_deref(),
        experience_level: fields.experience_level.as_deref(),
        preferred_language: fields.preferred_language.as_deref().unwrap_or(DEFAULT_LANGUAGE),
        preferences: preferences.as_str(),
        replace: replaces(change.preferences_mode),
    };
    Ok(tx.first(&insert).await?.map(Profile::from))
}
