-- The transaction that inserts a row, by which reports find what is new (V6). Not immutable at all; said to be, a generated column
-- takes it, so that nobody can give another value, a restored dump has those of the database that it is restored to, and it is
-- computed once a statement. In plpgsql, since a function in SQL takes some 40 µs to start.
CREATE FUNCTION inserting_transaction() RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED AS $$
BEGIN
    RETURN pg_current_xact_id()::text::bigint;
END $$;

-- Messages: the ledger. Sizes are limited by the server, whose limits are settings.
CREATE TABLE messages (
    -- One column is the key, so that people's `GROUP BY m.id`, `ON CONFLICT (id)` and foreign keys to
    -- messages (id) work. The API lets two sessions use one message id: see given_id.
    id uuid CONSTRAINT messages_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid NOT NULL CONSTRAINT messages_session_fkey REFERENCES chat_sessions (id) ON DELETE CASCADE,
    -- 1, 2, 3, ... within the session, without a gap, in commit order.
    seq bigint NOT NULL CONSTRAINT messages_seq_check CHECK (seq > 0),
    role text NOT NULL CONSTRAINT messages_role_check CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    content text NOT NULL,
    selected_text text,
    metadata jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT messages_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    payload bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Set: the message was erased; the row stays, so that neither its seq nor its id is used again.
    deleted_at timestamptz,
    -- The id that the client gave, where a message of another session had it first and this row's id is
    -- message_row_id(session_id, given_id) instead. NULL: id is the client's.
    given_id uuid,
    inserted_by bigint NOT NULL GENERATED ALWAYS AS (inserting_transaction()) STORED,
    -- ListMessages, WatchMessages, the cascade from sessions, and the last line of defence for seq.
    CONSTRAINT messages_session_seq_key UNIQUE (session_id, seq)
);

-- ListDailyVolume's `created_at >= since`. BRIN: rows come in the order of time, and a btree would cost
-- every append.
CREATE INDEX messages_created_at_idx ON messages USING brin (created_at) WITH (autosummarize = on);

-- What reports haven't folded in yet. BRIN: transactions are numbered in the order of time.
CREATE INDEX messages_inserted_by_idx ON messages USING brin (inserted_by) WITH (autosummarize = on);

-- The row id of a message whose id another session uses already. Derived, so that the row is found again
-- by session and id: `m.id IN (given, message_row_id(session, given))`.
CREATE FUNCTION message_row_id(session_id uuid, given_id uuid) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN encode(substring(sha256(uuid_send(session_id) || uuid_send(given_id)) FOR 16), 'hex')::uuid;
