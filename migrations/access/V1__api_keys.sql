-- The keys of services. Of a secret its SHA-256 is kept: it has 256 random bits, so that nothing slower is needed.
CREATE TABLE api_keys (
    id text CONSTRAINT api_keys_pkey PRIMARY KEY CONSTRAINT api_keys_id_check CHECK (id ~ '^[0-9a-f]{16}$'),
    tenant_id text NOT NULL DEFAULT 'default'
        CONSTRAINT api_keys_tenant_id_check CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    name text NOT NULL CONSTRAINT api_keys_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    secret_hash bytea NOT NULL CONSTRAINT api_keys_secret_hash_check CHECK (octet_length(secret_hash) = 32),
    scopes text[] NOT NULL CONSTRAINT api_keys_scopes_check
        CHECK (scopes <@ ARRAY['read', 'write', 'users', 'admin'] AND cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    -- To the hour: servers tell it once in that time.
    last_used_at timestamptz,
    -- When the row last became another one for the servers, which ask for what has changed since they asked before.
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- ListApiKeys.
CREATE INDEX api_keys_tenant_idx ON api_keys (tenant_id, created_at, id);
-- The servers' question.
CREATE INDEX api_keys_changed_at_idx ON api_keys (changed_at);

-- Row-level security without a policy: whatever is granted by default, nobody but the owner sees a row.
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
