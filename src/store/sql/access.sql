-- The statements of `api_keys`, and of whom a credential names.
--: ApiKey
--:   id text
--:   tenant_id text
--:   name text
--:   scopes text[]
--:   created_at timestamptz
--:   expires_at timestamptz?
--:   revoked_at timestamptz?
--:   last_used_at timestamptz?
--: KnownKey
--:   id text
--:   tenant_id text
--:   scopes text[]
--:   secret_hash bytea
--:   expires_at timestamptz?
--:   is_revoked bool = revoked_at IS NOT NULL
--:   as_of timestamptz = clock_timestamp()
--: SubjectUser
--:   id uuid
--:   is_active bool

--! Insert(id text, for_tenant text, name text, secret_hash bytea, scopes text[], expires_at timestamptz?) -> ApiKey
--? write ManageKeys, each tenant's, since the function says whose the key may be
-- A new key.
INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes, expires_at)
VALUES (:id, :for_tenant, :name, :secret_hash, :scopes, :expires_at) RETURNING {{ ApiKey }}

--! List(before timestamptz, before_id text, limit int8) -> ApiKey
--? read ManageKeys, each user's, since keys are services'
-- A page of the tenant's keys, the newest first.
SELECT {{ ApiKey }} FROM api_keys WHERE tenant_id = :tenant AND (created_at, id) < (:before, :before_id)
ORDER BY created_at DESC, id DESC LIMIT :limit

--! Revoke(id text) -> ApiKey
--? write ManageKeys, each user's, since keys are services'
-- A key's end. One that is revoked already stays as it is.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()),
    changed_at = CASE WHEN revoked_at IS NULL THEN clock_timestamp() ELSE changed_at END
WHERE tenant_id = :tenant AND id = :id RETURNING {{ ApiKey }}

--! Expire(id text, at timestamptz) -> ApiKey
--? write ManageKeys, each user's, since keys are services'
-- An end for a key that hasn't an earlier one, or is revoked.
UPDATE api_keys SET expires_at = least(expires_at, :at), changed_at = clock_timestamp()
WHERE tenant_id = :tenant AND id = :id AND revoked_at IS NULL RETURNING {{ ApiKey }}

--! Get(id text) -> ApiKey
--? read ManageKeys, each user's, since keys are services'
-- One key.
SELECT {{ ApiKey }} FROM api_keys WHERE tenant_id = :tenant AND id = :id

--! Known(since timestamptz?) -> KnownKey
--? read Authenticate, each tenant's, since a key says whose it is
-- The keys that have changed since then, or all.
SELECT {{ KnownKey }} FROM api_keys WHERE :since::timestamptz IS NULL OR changed_at > :since

--! Used(ids text[])
--? write Authenticate, each tenant's, since a key says whose it is
-- Keys are in use. Once an hour is enough.
UPDATE api_keys SET last_used_at = now()
WHERE id = ANY(:ids) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 hour')

--! Subject(id uuid?, external_id text) -> SubjectUser
--? read Authenticate, each user's, since it is asked who the user is
-- The user whom a token names: by id, or else by the external id.
SELECT {{ SubjectUser }} FROM users WHERE tenant_id = :tenant AND id = :id
UNION ALL
SELECT {{ SubjectUser }} FROM users WHERE tenant_id = :tenant AND external_id = :external_id
LIMIT 1
