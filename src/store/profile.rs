//! `user_profiles`.

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Store, first, merged_json, replaces, user::first_id};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result, json,
        profile::{DEFAULT_LANGUAGE, Profile, ProfileChange, ProfileFields, ProfileFilter},
        user::UserKey,
    },
};
use chatledger_postgres::{Sql, Time, Tx};

macro_rules! columns {
    () => {
        "p.user_id, p.software_background, p.hardware_background, p.learning_goals, p.experience_level,
         p.preferred_language, p.preferences::text, p.created_at, p.updated_at"
    };
}

/// Profiles have the tenant of their user.
macro_rules! of_user {
    () => {
        "u.id = p.user_id AND u.tenant_id = $1 AND ($2::uuid IS NULL OR u.id = $2)"
    };
}

static GET: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM user_profiles p JOIN users u ON ",
        of_user!(),
        " WHERE p.user_id = $3"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

static UPDATE: Sql = Sql {
    text: concat!(
        "UPDATE user_profiles p SET
            software_background = CASE WHEN $4 THEN $5 ELSE software_background END,
            hardware_background = CASE WHEN $6 THEN $7 ELSE hardware_background END,
            learning_goals = CASE WHEN $8 THEN $9 ELSE learning_goals END,
            experience_level = CASE WHEN $10 THEN $11 ELSE experience_level END,
            preferred_language = coalesce($12, preferred_language),
            preferences = ",
        merged_json!("preferences", "$13", "$14"),
        ",
            updated_at = now()
        FROM users u WHERE p.user_id = $3 AND ",
        of_user!(),
        "
        RETURNING ",
        columns!()
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::BOOL,
        Type::TEXT,
        Type::BOOL,
        Type::TEXT,
        Type::BOOL,
        Type::TEXT,
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::BOOL,
    ],
};

/// Nothing where there is no such user, or the profile exists.
static INSERT: Sql = Sql {
    text: concat!(
        "INSERT INTO user_profiles AS p (user_id, software_background, hardware_background, learning_goals,
            experience_level, preferred_language, preferences)
        SELECT id, $4, $5, $6, $7, $8, ",
        merged_json!("'{}'::jsonb", "$9", "$10"),
        " FROM users
            WHERE id = $3 AND tenant_id = $1 AND ($2::uuid IS NULL OR id = $2)
        ON CONFLICT DO NOTHING RETURNING ",
        columns!()
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::BOOL,
    ],
};

static DELETE: Sql = Sql {
    text: concat!(
        "DELETE FROM user_profiles p USING users u WHERE p.user_id = $3 AND ",
        of_user!(),
        " RETURNING p.user_id"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

/// `$3` is the first user id that may be on the page.
static LIST: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM user_profiles p JOIN users u ON ",
        of_user!(),
        "
        WHERE p.user_id >= $3 AND ($4::text IS NULL OR p.experience_level = $4)
            AND ($5::text IS NULL OR p.preferences @> $5::text::jsonb)
        ORDER BY p.user_id LIMIT $6"
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
    ],
};

pub(super) static ALL: &[&Sql] = &[&GET, &UPDATE, &INSERT, &DELETE, &LIST];

fn profile(row: &Row) -> Profile {
    Profile {
        user_id: row.get(0),
        software_background: row.get(1),
        hardware_background: row.get(2),
        learning_goals: row.get(3),
        experience_level: row.get(4),
        preferred_language: row.get(5),
        preferences: row.get(6),
        created_at: row.get::<_, Time>(7).0,
        updated_at: row.get::<_, Time>(8).0,
    }
}

impl Store {
    /// A user's profile.
    pub async fn profile(&self, caller: &Caller, user_id: Uuid) -> Result<Profile> {
        let rows = self
            .read(
                caller,
                &GET,
                &[&caller.tenant.as_ref(), &caller.end_user, &user_id],
            )
            .await?;
        match rows.first() {
            Some(row) => Ok(profile(row)),
            None => Err(self.no_profile(caller, user_id).await),
        }
    }

    /// Changes a profile, or creates it where the change says so.
    pub async fn update_profile(&self, caller: &Caller, change: &ProfileChange) -> Result<Profile> {
        let tx = self.db.begin(caller.deadline).await?;
        let changed = self.update_profile_in(&tx, caller, change).await;
        match tx.end(changed).await? {
            Some(profile) => Ok(profile),
            None => Err(self.no_profile(caller, change.user_id).await),
        }
    }

    async fn update_profile_in(
        &self,
        tx: &Tx,
        caller: &Caller,
        change: &ProfileChange,
    ) -> Result<Option<Profile>> {
        if let Some(changed) = self.change_profile(tx, caller, change).await? {
            return Ok(Some(changed));
        }
        let Some(fields) = &change.create else {
            return Ok(None);
        };
        if let Some(created) = insert_profile(tx, caller, change, fields).await? {
            return Ok(Some(created));
        }
        // Either there is no user, or somebody else has just created the profile.
        self.change_profile(tx, caller, change).await
    }

    async fn change_profile(
        &self,
        tx: &Tx,
        caller: &Caller,
        change: &ProfileChange,
    ) -> Result<Option<Profile>> {
        let text = |field: &Option<Option<String>>| (field.is_some(), field.clone().flatten());
        let software = text(&change.software_background);
        let hardware = text(&change.hardware_background);
        let goals = text(&change.learning_goals);
        let level = text(&change.experience_level);
        let rows = tx
            .query(
                &UPDATE,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &change.user_id,
                    &software.0,
                    &software.1,
                    &hardware.0,
                    &hardware.1,
                    &goals.0,
                    &goals.1,
                    &level.0,
                    &level.1,
                    &change.preferred_language,
                    &change.preferences.as_ref().map(json::JsonObject::as_str),
                    &replaces(change.preferences_mode),
                ],
            )
            .await?;
        let changed = rows.first().map(profile);
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
        let rows = self
            .write(
                caller,
                &DELETE,
                &[&caller.tenant.as_ref(), &caller.end_user, &user_id],
            )
            .await?;
        match first(rows) {
            Some(_) => Ok(()),
            None => Err(self.no_profile(caller, user_id).await),
        }
    }

    /// One more profile than the page holds, if there are as many.
    pub async fn list_profiles(&self, caller: &Caller, filter: &ProfileFilter) -> Result<Vec<Profile>> {
        let Some(first_id) = first_id(filter.page.after) else {
            return Ok(Vec::new());
        };
        let rows = self
            .read_planned(
                caller,
                &LIST,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &first_id,
                    &filter.experience_level,
                    &filter.preferences_contain.as_ref().map(json::JsonObject::as_str),
                    &filter.page.fetch(),
                ],
            )
            .await?;
        Ok(rows.into_iter().map(|row| profile(&row)).collect())
    }

    /// Which of the two is missing.
    async fn no_profile(&self, caller: &Caller, user_id: Uuid) -> Error {
        match self.user(caller, &UserKey::Id(user_id)).await {
            Ok(_) => Error::NotFound(Resource::Profile),
            Err(error) => error,
        }
    }
}

async fn insert_profile(
    tx: &Tx,
    caller: &Caller,
    change: &ProfileChange,
    fields: &ProfileFields,
) -> Result<Option<Profile>> {
    let rows = tx
        .query(
            &INSERT,
            &[
                &caller.tenant.as_ref(),
                &caller.end_user,
                &change.user_id,
                &fields.software_background,
                &fields.hardware_background,
                &fields.learning_goals,
                &fields.experience_level,
                &fields.preferred_language.as_deref().unwrap_or(DEFAULT_LANGUAGE),
                &fields.preferences.clone().unwrap_or_default().as_str(),
                &replaces(change.preferences_mode),
            ],
        )
        .await?;
    Ok(rows.first().map(profile))
}
