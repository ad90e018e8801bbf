-- What was done that somebody may ask for later: who, what, when, from where. No contents, no secrets. Filled where a server has
-- `--audit table`.
CREATE TABLE audit_events (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event text NOT NULL,
    actor text NOT NULL,
    subject text,
    method text,
    peer text,
    cause text,
    CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, id)
);

-- What is too old to be kept, and what happened in a time: rows come in the order of time, so that ranges of them are enough.
CREATE INDEX audit_events_at_idx ON audit_events USING brin (at) WITH (autosummarize = on);

-- A row stays as it is. Rows go when they are older than a day at least: the server's retention, which is longer, says when.
CREATE FUNCTION audit_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < now() - interval '1 day' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_events are append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER audit_events_stay BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_stay();
CREATE TRIGGER audit_events_not_emptied BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_stay();

ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
