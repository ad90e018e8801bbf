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
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- The SHA-256 of the secret by which an end user may claim it while it is nobody's.
    claim_hash bytea CONSTRAINT chat_sessions_claim_hash_check CHECK (octet_length(claim_hash) = 32),
    -- The hour of its last activity, by which lists are read in order; of a time before 1970 or after 9999, infinity too, the
    -- nearest hour between. The constants are functions' results, since a timestamptz is spelled as the reader's time zone has it.
    active_hour timestamptz NOT NULL GENERATED ALWAYS AS (date_bin(interval '1 hour',
        least(greatest(coalesce(last_message_at, created_at), to_timestamp(0)), to_timestamp(253402214400)),
        to_timestamp(0))) STORED
)
-- Every append updates one of these rows. Of the columns that it changes only active_hour is indexed, whose value changes
-- once an hour at most, and a fifth of each page is free: nearly all updates are heap-only and touch no index.
WITH (fillfactor = 80);

-- ListSessions of a user by creation, the cascade from users, and ListUserActivity.
CREATE INDEX chat_sessions_user_idx ON chat_sessions (tenant_id, user_id, created_at, id);

-- ListSessions of nobody: a btree can't be read in order behind `user_id IS NULL`.
CREATE INDEX chat_sessions_anonymous_idx ON chat_sessions (tenant_id, created_at, id) WHERE user_id IS NULL;

-- ListSessions of a user by last activity: in the order of hours, each of which is sorted when it is reached.
CREATE INDEX chat_sessions_active_idx ON chat_sessions (tenant_id, user_id, active_hour);
