-- Sessions: conversations, of a user or of nobody. The foreign key to users is set `link`'s, so that
-- this set also stands alone (`--scope chat`).
CREATE TABLE chat_sessions (
    id uuid CONSTRAINT chat_sessions_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL DEFAULT 'default',
    user_id uuid,
    title text CONSTRAINT chat_sessions_title_check CHECK (char_length(title) <= 500),
    metadata jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT chat_sessions_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    -- The seq of the last message: the counter that every append bumps, under this row's lock.
    last_seq bigint NOT NULL DEFAULT 0 CONSTRAINT chat_sessions_last_seq_check CHECK (last_seq >= 0),
    -- Whether some message of it has a given_id: then its ids are looked up before an append.
    has_given_ids boolean NOT NULL DEFAULT false,
    -- The newest created_at of the messages; the next one's is later.
    last_message_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
)
-- Every append updates one of these rows. None of the columns that it changes is indexed, and a fifth of
-- each page is free: the updates are heap-only and touch no index.
WITH (fillfactor = 80);

-- ListSessions of a user (both orders: a user's rows are few enough to sort), the cascade from users,
-- and ListUserActivity.
CREATE INDEX chat_sessions_user_idx ON chat_sessions (tenant_id, user_id, created_at, id);

-- ListSessions of nobody: a btree can't be read in order behind `user_id IS NULL`.
CREATE INDEX chat_sessions_anonymous_idx ON chat_sessions (tenant_id, created_at, id) WHERE user_id IS NULL;
