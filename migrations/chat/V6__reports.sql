-- What reports have counted, kept by day, document and length, so that they needn't count all messages again. docs/reports.md has
-- the whole argument. A fold adds what was inserted by the transactions from a report's watermark on to the oldest that still runs,
-- and moves the watermark there; a report reads what is kept and adds what was inserted since. What changes otherwise (deleted
-- rows, times and tenants that somebody corrects) is logged by triggers, none of which fires for an append.

-- The reports, each with its watermark: `documents`, `lengths`, and `volume` in each time zone that was asked for.
CREATE TABLE chatledger_reports (
    report text NOT NULL,
    time_zone text NOT NULL,
    -- The rows of all transactions before this one are counted.
    folded_through bigint NOT NULL,
    -- Where the transactions are numbered: chatledger_report_origin().
    origin text NOT NULL,
    CONSTRAINT chatledger_reports_pkey PRIMARY KEY (report, time_zone)
);

-- Messages, and sessions that have some, by day.
CREATE TABLE chatledger_report_days (
    tenant_id text NOT NULL,
    time_zone text NOT NULL,
    day date NOT NULL,
    messages bigint NOT NULL,
    sessions bigint NOT NULL,
    CONSTRAINT chatledger_report_days_pkey PRIMARY KEY (tenant_id, time_zone, day)
);

-- Messages of a session by day: by them is known when a session becomes one of a day, and when it ceases to be.
CREATE TABLE chatledger_report_session_days (
    session_id uuid NOT NULL,
    time_zone text NOT NULL,
    day date NOT NULL,
    tenant_id text NOT NULL,
    messages bigint NOT NULL,
    CONSTRAINT chatledger_report_session_days_pkey PRIMARY KEY (session_id, time_zone, day, tenant_id)
);

-- Citations by document. The sum of scores is exact: what is added can be taken away.
CREATE TABLE chatledger_report_documents (
    tenant_id text NOT NULL,
    document_id text NOT NULL,
    citations bigint NOT NULL,
    scores bigint NOT NULL,
    score_sum numeric NOT NULL,
    CONSTRAINT chatledger_report_documents_pkey PRIMARY KEY (tenant_id, document_id)
);

-- The same by day (of UTC).
CREATE TABLE chatledger_report_document_days (
    tenant_id text NOT NULL,
    day date NOT NULL,
    document_id text NOT NULL,
    citations bigint NOT NULL,
    scores bigint NOT NULL,
    score_sum numeric NOT NULL,
    CONSTRAINT chatledger_report_document_days_pkey PRIMARY KEY (tenant_id, day, document_id)
);

-- The same by month, named by its first day: of a long time there are fewer rows to read.
CREATE TABLE chatledger_report_document_months (
    tenant_id text NOT NULL,
    month date NOT NULL,
    document_id text NOT NULL,
    citations bigint NOT NULL,
    scores bigint NOT NULL,
    score_sum numeric NOT NULL,
    CONSTRAINT chatledger_report_document_months_pkey PRIMARY KEY (tenant_id, month, document_id)
);

-- Sessions as they were counted. A bucket is one of the report's ranges of lengths, from 1.
CREATE TABLE chatledger_report_sessions (
    session_id uuid CONSTRAINT chatledger_report_sessions_pkey PRIMARY KEY,
    tenant_id text NOT NULL,
    created_at timestamptz NOT NULL,
    bucket integer NOT NULL
);

-- Sessions since the middle of a day.
CREATE INDEX chatledger_report_sessions_created_idx ON chatledger_report_sessions (tenant_id, created_at);

-- Sessions by the day (of UTC) of their creation and by length.
CREATE TABLE chatledger_report_lengths (
    tenant_id text NOT NULL,
    day date NOT NULL,
    bucket integer NOT NULL,
    sessions bigint NOT NULL,
    CONSTRAINT chatledger_report_lengths_pkey PRIMARY KEY (tenant_id, day, bucket)
);

-- Messages that are gone (-1) or have come to be without an insert (1). Those of transactions that aren't folded in don't matter:
-- the rows themselves are read then.
CREATE TABLE chatledger_report_message_changes (
    tenant_id text NOT NULL,
    session_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    inserted_by bigint NOT NULL,
    change integer NOT NULL
);

-- The same of citations.
CREATE TABLE chatledger_report_citation_changes (
    tenant_id text NOT NULL,
    document_id text NOT NULL,
    created_at timestamptz NOT NULL,
    score double precision,
    inserted_by bigint NOT NULL,
    change integer NOT NULL
);

-- Sessions to be looked at, and those that are gone with all that was theirs. Without an id: a table was emptied, and nothing that
-- is kept holds any more.
CREATE TABLE chatledger_report_session_changes (
    session_id uuid,
    removed boolean NOT NULL
);

-- The numbering of transactions that what is kept was counted by. A dump that is restored elsewhere has another one, and begins anew.
CREATE FUNCTION chatledger_report_origin() RETURNS text LANGUAGE sql STABLE SET search_path FROM CURRENT
    RETURN concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'chat_sessions'::regclass::oid, 'messages'::regclass::oid, 'message_citations'::regclass::oid);

-- The triggers' functions are their owner's: whoever deletes by hand needn't be allowed to write here.

-- Logs deleted messages, and their sessions, whose lengths may not be counted yet and are no longer known by the messages. The
-- tenant is that of the session, which is held so that nobody moves it meanwhile. Where the session went with them, its own trigger
-- says all.
CREATE FUNCTION chatledger_report_messages_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_message_changes
        SELECT s.tenant_id, s.id, m.created_at, m.inserted_by, -1
        FROM gone m JOIN chat_sessions s ON s.id = m.session_id FOR KEY SHARE OF s;
    INSERT INTO chatledger_report_session_changes
        SELECT DISTINCT s.id, false FROM gone m JOIN chat_sessions s ON s.id = m.session_id;
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_deleted AFTER DELETE ON messages
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_messages_deleted();

-- Logs messages of which something that counts has changed. An erasure changes nothing that does.
CREATE FUNCTION chatledger_report_messages_updated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_message_changes
        SELECT s.tenant_id, s.id, m.created_at, m.inserted_by, m.change
        FROM (
            SELECT *, -1 AS change FROM (
                SELECT session_id, created_at, inserted_by FROM gone
                EXCEPT ALL SELECT session_id, created_at, inserted_by FROM come) before
            UNION ALL
            SELECT *, 1 FROM (
                SELECT session_id, created_at, inserted_by FROM come
                EXCEPT ALL SELECT session_id, created_at, inserted_by FROM gone) after
        ) m JOIN chat_sessions s ON s.id = m.session_id FOR KEY SHARE OF s;
    INSERT INTO chatledger_report_session_changes
        SELECT session_id, false FROM gone EXCEPT SELECT session_id, false FROM come;
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_updated AFTER UPDATE ON messages
    REFERENCING OLD TABLE AS gone NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_messages_updated();

-- Logs deleted citations.
CREATE FUNCTION chatledger_report_citations_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_citation_changes
        SELECT tenant_id, document_id, created_at, score, inserted_by, -1 FROM gone;
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_deleted AFTER DELETE ON message_citations
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_citations_deleted();

-- Logs citations that have changed: as they were, and as they are.
CREATE FUNCTION chatledger_report_citations_updated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_citation_changes
        SELECT tenant_id, document_id, created_at, score, inserted_by, -1 FROM gone
        UNION ALL
        SELECT tenant_id, document_id, created_at, score, inserted_by, 1 FROM come;
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_updated AFTER UPDATE ON message_citations
    REFERENCING OLD TABLE AS gone NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_citations_updated();

-- Logs deleted sessions.
CREATE FUNCTION chatledger_report_sessions_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_session_changes SELECT id, true FROM gone;
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_deleted AFTER DELETE ON chat_sessions
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_sessions_deleted();

-- Logs a session that is to be looked at, and, where it moves to another tenant, its messages: those that nobody is adding just now,
-- since its row is locked for it.
CREATE FUNCTION chatledger_report_session_updated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_session_changes VALUES (NEW.id, false);
    IF OLD.id <> NEW.id THEN
        INSERT INTO chatledger_report_session_changes VALUES (OLD.id, true);
    END IF;
    IF OLD.tenant_id <> NEW.tenant_id THEN
        PERFORM FROM chat_sessions WHERE id = NEW.id FOR UPDATE;
        INSERT INTO chatledger_report_message_changes
            SELECT t.tenant_id, m.session_id, m.created_at, m.inserted_by, t.change
            FROM messages m, (VALUES (OLD.tenant_id, -1), (NEW.tenant_id, 1)) AS t (tenant_id, change)
            WHERE m.session_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;

-- An append raises last_seq as well, together with the two times; its session is known by its messages.
CREATE TRIGGER chatledger_report_updated AFTER UPDATE OF id, tenant_id, created_at, last_seq ON chat_sessions
    FOR EACH ROW WHEN (
        OLD.id <> NEW.id OR OLD.tenant_id <> NEW.tenant_id OR OLD.created_at <> NEW.created_at
        OR OLD.last_seq <> NEW.last_seq
            AND (OLD.updated_at = NEW.updated_at OR OLD.last_message_at IS NOT DISTINCT FROM NEW.last_message_at))
    EXECUTE FUNCTION chatledger_report_session_updated();

-- Logs a session that is inserted with messages to come, or without.
CREATE FUNCTION chatledger_report_session_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_session_changes VALUES (NEW.id, false);
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_inserted AFTER INSERT ON chat_sessions
    FOR EACH ROW WHEN (NEW.last_seq > 0) EXECUTE FUNCTION chatledger_report_session_inserted();

-- Logs that a table was emptied, for which there are no rows to be told.
CREATE FUNCTION chatledger_report_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chatledger_report_session_changes VALUES (NULL, true);
    RETURN NULL;
END $$;

CREATE TRIGGER chatledger_report_truncated AFTER TRUNCATE ON chat_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_truncated();
CREATE TRIGGER chatledger_report_truncated AFTER TRUNCATE ON messages
    FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_truncated();
CREATE TRIGGER chatledger_report_truncated AFTER TRUNCATE ON message_citations
    FOR EACH STATEMENT EXECUTE FUNCTION chatledger_report_truncated();
