//! `users`.

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{Store, first};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        profile::DEFAULT_LANGUAGE,
        user::{NewUser, User, UserChange, UserFilter, UserKey},
    },
};
use chatledger_postgres::{Sql, Time, sql::like_literal};

macro_rules! columns {
    () => {
        "id, email, external_id, coalesce(name, ''), is_active, created_at, updated_at"
    };
}

/// Both rows or none. `$13`: with a profile.
static INSERT: Sql = Sql {
    text: concat!(
        "WITH new_user AS (INSERT INTO users (tenant_id, id, email, external_id, name, hashed_password)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING *),
        new_profile AS (INSERT INTO user_profiles (user_id, software_background, hardware_background,
            learning_goals, experience_level, preferred_language, preferences)
            SELECT id, $7, $8, $9, $10, $11, $12::text::jsonb FROM new_user WHERE $13)
        SELECT ",
        columns!(),
        " FROM new_user"
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::BOOL,
    ],
};

static BY_ID: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM users WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND id = $3"
    ),
    params: &[Type::TEXT, Type::UUID, Type::UUID],
};

static BY_EMAIL: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM users
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND lower(email) = lower($3)"
    ),
    params: &[Type::TEXT, Type::UUID, Type::TEXT],
};

static BY_EXTERNAL_ID: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM users
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND external_id = $3"
    ),
    params: &[Type::TEXT, Type::UUID, Type::TEXT],
};

/// The user that a creation repeats, if this is one: same id, same email.
static REPEATED: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM users WHERE tenant_id = $1 AND id = $2 AND lower(email) = lower($3)"
    ),
    params: &[Type::TEXT, Type::UUID, Type::TEXT],
};

/// Whether an id is in use, in whichever tenant.
static ID_IN_USE: Sql = Sql {
    text: "SELECT FROM users WHERE id = $1",
    params: &[Type::UUID],
};

static UPDATE: Sql = Sql {
    text: concat!(
        "UPDATE users SET email = coalesce($4, email),
            external_id = CASE WHEN $5 THEN $6 ELSE external_id END,
            name = coalesce($7, name), is_active = coalesce($8, is_active), updated_at = now()
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND id = $3
        RETURNING ",
        columns!()
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::BOOL,
    ],
};

/// `$3` is the first id that may be on the page.
static LIST: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM users
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND id >= $3
            AND ($4::text IS NULL OR lower(email) LIKE lower($4)) AND ($5::boolean IS NULL OR is_active = $5)
        ORDER BY id LIMIT $6"
    ),
    params: &[
        Type::TEXT,
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::BOOL,
        Type::INT8,
    ],
};

static SET_PASSWORD: Sql = Sql {
    text: "UPDATE users SET hashed_password = $4, updated_at = now()
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND id = $3 RETURNING id",
    params: &[Type::TEXT, Type::UUID, Type::UUID, Type::TEXT],
};

static CREDENTIALS: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        ", hashed_password FROM users
        WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2) AND lower(email) = lower($3)"
    ),
    params: &[Type::TEXT, Type::UUID, Type::TEXT],
};

/// Only while the hash is the one that was verified.
static REPLACE_HASH: Sql = Sql {
    text: "UPDATE users SET hashed_password = $4
        WHERE tenant_id = $1 AND id = $2 AND hashed_password = $3",
    params: &[Type::TEXT, Type::UUID, Type::TEXT, Type::TEXT],
};

pub(super) static ALL: &[&Sql] = &[
    &INSERT,
    &BY_ID,
    &BY_EMAIL,
    &BY_EXTERNAL_ID,
    &REPEATED,
    &ID_IN_USE,
    &UPDATE,
    &LIST,
    &SET_PASSWORD,
    &CREDENTIALS,
    &REPLACE_HASH,
];

fn user(row: &Row) -> User {
    User {
        id: row.get(0),
        email: row.get(1),
        external_id: row.get(2),
        name: row.get(3),
        is_active: row.get(4),
        created_at: row.get::<_, Time>(5).0,
        updated_at: row.get::<_, Time>(6).0,
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
pub struct Credentials {
    /// The user.
    pub user: User,
    /// The stored hash.
    pub hash: Option<String>,
}

impl Store {
    /// Creates a user, or answers the one whom the same request created before.
    pub async fn create_user(&self, caller: &Caller, new: &NewUser, hash: Option<&str>) -> Result<User> {
        let none = crate::domain::profile::ProfileFields::default();
        let profile = new.profile.as_ref().unwrap_or(&none);
        let language = profile.preferred_language.as_deref().unwrap_or(DEFAULT_LANGUAGE);
        let preferences = profile.preferences.clone().unwrap_or_default();
        let tenant = caller.tenant.as_ref();
        let inserted = self
            .write(
                caller,
                &INSERT,
                &[
                    &tenant,
                    &new.id,
                    &new.email,
                    &new.external_id,
                    &new.name,
                    &hash,
                    &profile.software_background,
                    &profile.hardware_background,
                    &profile.learning_goals,
                    &profile.experience_level,
                    &language,
                    &preferences.as_str(),
                    &new.profile.is_some(),
                ],
            )
            .await;
        match inserted {
            Ok(rows) => rows.first().map(user).ok_or(Error::Internal),
            // Which of several constraints is named is Postgres' choice: look for the repetition first.
            Err(taken @ (Error::EmailTaken | Error::ExternalIdTaken | Error::IdTaken(_))) => {
                let rows = self
                    .read(caller, &REPEATED, &[&tenant, &new.id, &new.email])
                    .await?;
                if let Some(row) = rows.first() {
                    return Ok(user(row));
                }
                let id_in_use = !self.read(caller, &ID_IN_USE, &[&new.id]).await?.is_empty();
                Err(if id_in_use {
                    Error::IdTaken(Resource::User)
                } else {
                    taken
                })
            }
            Err(error) => Err(error),
        }
    }

    /// One user.
    pub async fn user(&self, caller: &Caller, key: &UserKey) -> Result<User> {
        let tenant = caller.tenant.as_ref();
        let rows = match key {
            UserKey::Id(id) => {
                self.read(caller, &BY_ID, &[&tenant, &caller.end_user, id])
                    .await?
            }
            UserKey::Email(email) => {
                self.read(caller, &BY_EMAIL, &[&tenant, &caller.end_user, email])
                    .await?
            }
            UserKey::ExternalId(id) => {
                self.read(caller, &BY_EXTERNAL_ID, &[&tenant, &caller.end_user, id])
                    .await?
            }
        };
        rows.first().map(user).ok_or(Error::NotFound(Resource::User))
    }

    /// Changes a user.
    pub async fn update_user(&self, caller: &Caller, id: Uuid, change: &UserChange) -> Result<User> {
        let external_id = change.external_id.as_ref();
        let rows = self
            .write(
                caller,
                &UPDATE,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &id,
                    &change.email,
                    &external_id.is_some(),
                    &external_id.cloned().flatten(),
                    &change.name,
                    &change.is_active,
                ],
            )
            .await?;
        rows.first().map(user).ok_or(Error::NotFound(Resource::User))
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
        let rows = self
            .read_planned(
                caller,
                &LIST,
                &[
                    &caller.tenant.as_ref(),
                    &caller.end_user,
                    &first_id,
                    &prefix,
                    &filter.is_active,
                    &filter.page.fetch(),
                ],
            )
            .await?;
        Ok(rows.iter().map(user).collect())
    }

    /// Stores the hash of a new password.
    pub async fn set_password(&self, caller: &Caller, id: Uuid, hash: &str) -> Result<()> {
        let rows = self
            .write(
                caller,
                &SET_PASSWORD,
                &[&caller.tenant.as_ref(), &caller.end_user, &id, &hash],
            )
            .await?;
        first(rows).map(drop).ok_or(Error::NotFound(Resource::User))
    }

    /// What a password is verified against.
    pub async fn credentials(&self, caller: &Caller, email: &str) -> Result<Option<Credentials>> {
        let rows = self
            .read(
                caller,
                &CREDENTIALS,
                &[&caller.tenant.as_ref(), &caller.end_user, &email],
            )
            .await?;
        Ok(rows.first().map(|row| Credentials {
            user: user(row),
            hash: row.get(7),
        }))
    }

    /// Replaces a hash by a newer kind of the same password.
    pub async fn replace_hash(&self, caller: &Caller, id: Uuid, old: &str, new: &str) -> Result<()> {
        self.write(caller, &REPLACE_HASH, &[&caller.tenant.as_ref(), &id, &old, &new])
            .await
            .map(drop)
    }
}
