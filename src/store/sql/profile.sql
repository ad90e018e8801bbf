-- The statements of `user_profiles`, which have the tenant of their user.
{% from "shared.sql" import merged_json %}
--: Profile
--:   user_id uuid = p.user_id
--:   software_background text? = p.software_background
--:   hardware_background text? = p.hardware_background
--:   learning_goals text? = p.learning_goals
--:   experience_level text? = p.experience_level
--:   preferred_language text = p.preferred_language
--:   preferences text = p.preferences::text
--:   created_at timestamptz = p.created_at
--:   updated_at timestamptz = p.updated_at
{% macro of_user() -%}
u.id = p.user_id AND u.tenant_id = :tenant AND (:end_user::uuid IS NULL OR u.id = :end_user)
{%- endmacro %}

--! Get(user_id uuid) -> Profile
--? read ReadProfile
-- A user's profile.
SELECT {{ Profile }} FROM user_profiles p JOIN users u ON {{ of_user() }} WHERE p.user_id = :user_id

--! Update(user_id uuid, with_software_background bool, software_background text?, with_hardware_background bool,
--!     hardware_background text?, with_learning_goals bool, learning_goals text?, with_experience_level bool,
--!     experience_level text?, preferred_language text?, preferences text?, replace bool) -> Profile
--? write ChangeProfile
-- A profile's change.
UPDATE user_profiles p SET
    software_background = CASE WHEN :with_software_background THEN :software_background ELSE software_background END,
    hardware_background = CASE WHEN :with_hardware_background THEN :hardware_background ELSE hardware_background END,
    learning_goals = CASE WHEN :with_learning_goals THEN :learning_goals ELSE learning_goals END,
    experience_level = CASE WHEN :with_experience_level THEN :experience_level ELSE experience_level END,
    preferred_language = coalesce(:preferred_language, preferred_language),
    preferences = {{ merged_json("preferences", ":preferences", ":replace") }}, updated_at = now()
FROM users u WHERE p.user_id = :user_id AND {{ of_user() }} RETURNING {{ Profile }}

--! Insert(user_id uuid, software_background text?, hardware_background text?, learning_goals text?,
--!     experience_level text?, preferred_language text, preferences text, replace bool) -> Profile
--? write ChangeProfile
-- A new profile; nothing where there is no such user, or the profile exists.
INSERT INTO user_profiles AS p (user_id, software_background, hardware_background, learning_goals, experience_level,
    preferred_language, preferences)
SELECT id, :software_background, :hardware_background, :learning_goals, :experience_level, :preferred_language,
    {{ merged_json("'{}'::jsonb", ":preferences", ":replace") }}
FROM users WHERE id = :user_id AND tenant_id = :tenant AND (:end_user::uuid IS NULL OR id = :end_user)
ON CONFLICT DO NOTHING RETURNING {{ Profile }}

--! Delete(user_id uuid) -> (user_id uuid)
--? write ChangeProfile
-- A profile's end.
DELETE FROM user_profiles p USING users u WHERE p.user_id = :user_id AND {{ of_user() }} RETURNING p.user_id

--! List(first_id uuid, experience_level text?, preferences text?, limit int8) -> Profile
--? plan ReadProfile
-- A page of profiles, by user id.
SELECT {{ Profile }} FROM user_profiles p JOIN users u ON {{ of_user() }}
WHERE p.user_id >= :first_id AND (:experience_level::text IS NULL OR p.experience_level = :experience_level)
    AND (:preferences::text IS NULL OR p.preferences @> :preferences::text::jsonb)
ORDER BY p.user_id LIMIT :limit
