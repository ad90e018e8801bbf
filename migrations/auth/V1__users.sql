-- Users. Names as in the schemas that teams have already: id, email, name, hashed_password, is_active.
CREATE TABLE users (
    id uuid CONSTRAINT users_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL DEFAULT 'default',
    email text NOT NULL CONSTRAINT users_email_check CHECK (char_length(email) BETWEEN 1 AND 255),
    -- The id that an identity provider gives (a JWT's sub).
    external_id text CONSTRAINT users_external_id_check CHECK (char_length(external_id) BETWEEN 1 AND 255),
    name text CONSTRAINT users_name_check CHECK (char_length(name) <= 255),
    -- A PHC string (argon2id) or another system's bcrypt hash; NULL: no password.
    hashed_password text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- What the sessions' foreign key (set `link`) refers to; also ListUsers, which pages by id.
    CONSTRAINT users_tenant_id_key UNIQUE (tenant_id, id),
    -- GetUser by external id.
    CONSTRAINT users_external_id_key UNIQUE (tenant_id, external_id)
);

-- One user an email, whatever its case: GetUser and VerifyPassword by email. The operator class lets
-- ListUsers' email_prefix use it in every collation.
CREATE UNIQUE INDEX users_email_key ON users (tenant_id, lower(email) text_pattern_ops);
