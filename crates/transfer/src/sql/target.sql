-- What an import stores. Rows that are there are left as they are.
{% from "shared.sql" import identity_digest %}
--: Occupant
--:   given uuid
--:   stored uuid
--: LastSeq
--:   id uuid
--:   last_seq int8
--: ComparedMessage
--:   place int8
--:   deleted bool
--:   same bool

--! StoreDocuments(ids text[], titles text?[], source_uris text?[], mime_types text?[], content_hashes text?[],
--!     metadata text[], created_at timestamptz?[], updated_at timestamptz?[]) -> (id text)
--? write Import, each user's, since documents are the tenant's
-- Documents; it answers the keys of those that weren't there.
INSERT INTO documents (tenant_id, id, title, source_uri, mime_type, content_hash, metadata, created_at, updated_at)
SELECT :tenant, d.id, d.title, d.source_uri, d.mime_type, d.content_hash, d.metadata::jsonb,
    coalesce(d.created_at, now()), coalesce(d.updated_at, d.created_at, now())
FROM unnest(:ids, :titles, :source_uris, :mime_types, :content_hashes, :metadata, :created_at, :updated_at)
    AS d (id, title, source_uri, mime_type, content_hash, metadata, created_at, updated_at)
ON CONFLICT DO NOTHING RETURNING id

--! StoreUsers(ids uuid[], emails text[], external_ids text?[], names text?[], hashed_passwords text?[], is_active bool[],
--!     created_at timestamptz?[], updated_at timestamptz?[]) -> (id uuid)
--? write Import, each user's, since an import is the whole tenant's
-- Users; it answers the ids of those that weren't there.
INSERT INTO users (tenant_id, id, email, external_id, name, hashed_password, is_active, created_at, updated_at)
SELECT :tenant, u.id, u.email, u.external_id, u.name, u.hashed_password, u.is_active,
    coalesce(u.created_at, now()), coalesce(u.updated_at, u.created_at, now())
FROM unnest(:ids, :emails, :external_ids, :names, :hashed_passwords, :is_active, :created_at, :updated_at)
    AS u (id, email, external_id, name, hashed_password, is_active, created_at, updated_at)
ON CONFLICT DO NOTHING RETURNING id

--! Occupants(ids uuid[], emails text[]) -> Occupant
--? read Import, each user's, since an import is the whole tenant's
-- The user in the place of each user that was not stored: itself first, then the one with its email.
SELECT DISTINCT ON (given) given, stored FROM (
    SELECT g.id AS given, u.id AS stored FROM unnest(:ids, :emails) AS g (id, email)
        JOIN users u ON u.id = g.id WHERE u.tenant_id = :tenant
    UNION ALL
    SELECT g.id, u.id FROM unnest(:ids, :emails) AS g (id, email)
        JOIN users u ON lower(u.email) = lower(g.email) WHERE u.tenant_id = :tenant
) found ORDER BY given, stored <> given

--! KnownUsers(ids uuid[]) -> (id uuid)
--? read Import, each user's, since an import is the whole tenant's
-- Those of the users that there are.
SELECT id FROM users WHERE tenant_id = :tenant AND id = ANY(:ids)

--! StoreProfiles(user_ids uuid[], software_backgrounds text?[], hardware_backgrounds text?[], learning_goals text?[],
--!     experience_levels text?[], preferred_languages text[], preferences text[], created_at timestamptz?[],
--!     updated_at timestamptz?[]) -> (user_id uuid)
--? write Import, each user's, since an import is the whole tenant's
-- Profiles of users who exist; it answers the users of those that weren't there.
INSERT INTO user_profiles (user_id, software_background, hardware_background, learning_goals, experience_level,
    preferred_language, preferences, created_at, updated_at)
SELECT p.user_id, p.software_background, p.hardware_background, p.learning_goals, p.experience_level,
    p.preferred_language, p.preferences::jsonb, coalesce(p.created_at, now()), coalesce(p.updated_at, p.created_at, now())
FROM unnest(:user_ids, :software_backgrounds, :hardware_backgrounds, :learning_goals, :experience_levels,
    :preferred_languages, :preferences, :created_at, :updated_at)
    AS p (user_id, software_background, hardware_background, learning_goals, experience_level, preferred_language,
        preferences, created_at, updated_at)
JOIN users u ON u.id = p.user_id WHERE u.tenant_id = :tenant
ON CONFLICT DO NOTHING RETURNING user_id

--! StoreSessions(ids uuid[], user_ids uuid?[], titles text?[], metadata text[], claim_hashes text?[],
--!     created_at timestamptz?[], updated_at timestamptz?[]) -> (id uuid)
--? write Import, each user's, since an import is the whole tenant's
-- Sessions, whose users exist; it answers the ids of those that weren't there.
INSERT INTO chat_sessions (tenant_id, id, user_id, title, metadata, claim_hash, created_at, updated_at)
SELECT :tenant, s.id, s.user_id, s.title, s.metadata::jsonb, decode(s.claim_hash, 'hex'), coalesce(s.created_at, now()),
    coalesce(s.updated_at, s.created_at, now())
FROM unnest(:ids, :user_ids, :titles, :metadata, :claim_hashes, :created_at, :updated_at)
    AS s (id, user_id, title, metadata, claim_hash, created_at, updated_at)
ON CONFLICT DO NOTHING RETURNING id

--! LastSeqs(ids uuid[]) -> LastSeq
--? read Import, each user's, since an import is the whole tenant's
-- The last seqs of those sessions that there are.
SELECT {{ LastSeq }} FROM chat_sessions WHERE tenant_id = :tenant AND id = ANY(:ids)

--! CompareMessages(session_ids uuid[], ids uuid[], digests bytea[]) -> ComparedMessage
--? read Import, each tenant's, since LastSeqs has found the sessions in the tenant
-- Those of the messages that are stored, whether as deleted, and whether they are the same. The derived ids are computed once,
-- and both kinds looked up by the key: as one condition they were compared with every message of the session.
WITH given AS MATERIALIZED (
    SELECT *, message_row_id(session_id, id) AS row_id
    FROM unnest(:session_ids, :ids, :digests) WITH ORDINALITY AS g (session_id, id, digest, place)),
found AS (
    SELECT g.place, g.digest, m.* FROM given g JOIN messages m ON m.id = g.id AND m.session_id = g.session_id
    UNION ALL
    SELECT g.place, g.digest, m.* FROM given g JOIN messages m ON m.id = g.row_id AND m.session_id = g.session_id)
SELECT place, deleted_at IS NOT NULL AS deleted, {{ identity_digest("found") }} = digest AS same FROM found

--! MarkDeleted(session_ids uuid[], ids uuid[], deleted_at timestamptz[])
--? write Import, each tenant's, since the messages have just been stored in the tenant's sessions
-- Messages that were stored empty, to keep the places of deleted ones, become deleted.
UPDATE messages m SET deleted_at = g.deleted_at
FROM unnest(:session_ids, :ids, :deleted_at) AS g (session_id, id, deleted_at)
WHERE m.id IN (g.id, message_row_id(g.session_id, g.id)) AND m.session_id = g.session_id
    AND m.deleted_at IS NULL AND m.content = ''

--! SetUpdatedAt(ids uuid[], updated_at timestamptz?[], messages int8[])
--? write Import, each user's, since an import is the whole tenant's
-- Sessions get their own time of change again, which the appends have moved; unless somebody has gone on with them.
UPDATE chat_sessions s SET updated_at = coalesce(g.updated_at, s.last_message_at, s.created_at)
FROM unnest(:ids, :updated_at, :messages) AS g (id, updated_at, messages)
WHERE s.id = g.id AND s.tenant_id = :tenant AND s.last_seq = g.messages
    AND s.updated_at > coalesce(g.updated_at, s.last_message_at, s.created_at)
