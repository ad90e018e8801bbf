-- The statements of `users`.
--: User
--:   id uuid
--:   email text
--:   external_id text?
--:   name text = coalesce(name, '')
--:   is_active bool
--:   created_at timestamptz
--:   updated_at timestamptz
--: UserCredentials
--:   user: User
--:   hashed_password text?
{% macro visible() -%}
tenant_id = :tenant AND (:end_user::uuid IS NULL OR id = :end_user)
{%- endmacro %}

--! Insert(id uuid, email text, external_id text?, name text?, hashed_password text?, with_profile bool,
--!     software_background text?, hardware_background text?, learning_goals text?, experience_level text?,
--!     preferred_language text, preferences text) -> User
--? write CreateUser, each user's, since an end user creates none
-- A new user, and where that is wanted the profile: both rows or none.
WITH new_user AS (
    INSERT INTO users (tenant_id, id, email, external_id, name, hashed_password)
    VALUES (:tenant, :id, :email, :external_id, :name, :hashed_password) RETURNING *),
new_profile AS (
    INSERT INTO user_profiles (user_id, software_background, hardware_background, learning_goals, experience_level,
        preferred_language, preferences)
    SELECT id, :software_background, :hardware_background, :learning_goals, :experience_level, :preferred_language,
        :preferences::text::jsonb
    FROM new_user WHERE :with_profile)
SELECT {{ User }} FROM new_user

--! ById(id uuid) -> User
--? read ReadUser
-- The user with an id.
SELECT {{ User }} FROM users WHERE {{ visible() }} AND id = :id

--! ByEmail(email text) -> User
--? read ReadUser
-- The user with an email address, in whatever case.
SELECT {{ User }} FROM users WHERE {{ visible() }} AND lower(email) = lower(:email)

--! ByExternalId(external_id text) -> User
--? read ReadUser
-- The user with an id of the application's own.
SELECT {{ User }} FROM users WHERE {{ visible() }} AND external_id = :external_id

--! Repeated(id uuid, email text) -> User
--? read CreateUser, each user's, since an end user creates none
-- The user whom a creation repeats, if this is one: same id, same email.
SELECT {{ User }} FROM users WHERE tenant_id = :tenant AND id = :id AND lower(email) = lower(:email)

--! IdInUse(id uuid)
--? read CreateUser, each tenant's, since an id is unique in the whole table
-- A row without columns, if the id is in use, in whichever tenant.
SELECT FROM users WHERE id = :id

--! Update(id uuid, email text?, with_external_id bool, external_id text?, name text?, is_active bool?) -> User
--? write ChangeUser
-- A user's change.
UPDATE users SET email = coalesce(:email, email),
    external_id = CASE WHEN :with_external_id THEN :external_id ELSE external_id END,
    name = coalesce(:name, name), is_active = coalesce(:is_active, is_active), updated_at = now()
WHERE {{ visible() }} AND id = :id RETURNING {{ User }}

--! List(first_id uuid, email_prefix text?, is_active bool?, limit int8) -> User
--? plan ReadUser
-- A page of users, by id.
SELECT {{ User }} FROM users
WHERE {{ visible() }} AND id >= :first_id
    AND (:email_prefix::text IS NULL OR lower(email) LIKE lower(:email_prefix))
    AND (:is_active::boolean IS NULL OR is_active = :is_active)
ORDER BY id LIMIT :limit

--! SetPassword(id uuid, hashed_password text) -> (id uuid)
--? write ChangeUser
-- The hash of a new password.
UPDATE users SET hashed_password = :hashed_password, updated_at = now()
WHERE {{ visible() }} AND id = :id RETURNING id

--! CredentialsOf(email text) -> UserCredentials
--? read VerifyPassword
-- What a password is verified against.
SELECT {{ UserCredentials }} FROM users WHERE {{ visible() }} AND lower(email) = lower(:email)

--! ReplaceHash(id uuid, old text, new text)
--? write VerifyPassword, each user's, since it replaces only the hash that was verified
-- A newer kind of hash of the same password, while the hash is the one that was verified.
UPDATE users SET hashed_password = :new WHERE tenant_id = :tenant AND id = :id AND hashed_password = :old

--! Delete(id uuid) -> (id uuid)
--? write ChangeUser
-- A user's end, with all that is the user's.
DELETE FROM users WHERE {{ visible() }} AND id = :id RETURNING id

--! CountProfiles(user_id uuid) -> (profiles int8)
--? read ReadProfile
-- How many profiles a user has: one or none.
SELECT count(p.user_id) AS profiles FROM (SELECT id FROM users WHERE {{ visible() }} AND id = :user_id) u
JOIN user_profiles p ON p.user_id = u.id

--! Analyze
--? write KeepReports, each tenant's, since statistics are a table's
-- The planner's statistics, which quote values, are made of the rows that are left.
ANALYZE users, user_profiles
