-- People insert messages and citations by hand, in SQL that knows nothing of seq. These triggers keep the
-- ledger's promises for them, and don't fire for the server's own inserts, which give everything.

-- Whether any message has this row id, also one that whoever inserts may not see: it can't be the row's id then. It is the owner's,
-- and tells no more than the key would.
CREATE FUNCTION message_row_exists(row_id uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    RETURN EXISTS (SELECT FROM messages WHERE id = row_id);

-- Numbers a message as the server would: under the session's lock, one sequence for all writers.
CREATE FUNCTION messages_number() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    -- Of the columns that it needs and no more: whoever inserts may not have a right to all of them.
    session record;
    stored record;
BEGIN
    SELECT last_seq, last_message_at, has_given_ids INTO session FROM chat_sessions WHERE id = NEW.session_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('session %s does not exist', NEW.session_id),
            TABLE = 'messages', CONSTRAINT = 'messages_session_fkey';
    END IF;

    SELECT id, seq INTO stored FROM messages
        WHERE id IN (NEW.id, message_row_id(NEW.session_id, NEW.id)) AND session_id = NEW.session_id;
    IF FOUND THEN
        -- The key will conflict, or ON CONFLICT DO NOTHING will pass it over: either way no seq is spent.
        NEW.id := stored.id;
        NEW.seq := stored.seq;
        RETURN NEW;
    END IF;
    IF message_row_exists(NEW.id) THEN
        NEW.given_id := NEW.id;
        NEW.id := message_row_id(NEW.session_id, NEW.given_id);
    END IF;

    -- max(seq): somebody may have given a seq by hand.
    NEW.seq := 1 + greatest(session.last_seq, (SELECT max(seq) FROM messages WHERE session_id = NEW.session_id));
    -- A default or now() was read before the lock was held, so another writer's time may be later.
    NEW.created_at := greatest(
        least(NEW.created_at, clock_timestamp()), session.last_message_at + interval '1 microsecond');
    UPDATE chat_sessions
        SET last_seq = NEW.seq, last_message_at = NEW.created_at, updated_at = clock_timestamp(),
            has_given_ids = session.has_given_ids OR NEW.given_id IS NOT NULL
        WHERE id = NEW.session_id;
    RETURN NEW;
END $$;

CREATE TRIGGER messages_number BEFORE INSERT ON messages
    FOR EACH ROW WHEN (NEW.seq IS NULL) EXECUTE FUNCTION messages_number();

-- Completes a citation that names its message only.
CREATE FUNCTION message_citations_complete() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    SELECT s.id, s.tenant_id INTO NEW.session_id, NEW.tenant_id
        FROM messages m JOIN chat_sessions s ON s.id = m.session_id WHERE m.id = NEW.message_id;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('message %s does not exist', NEW.message_id),
            TABLE = 'message_citations', CONSTRAINT = 'message_citations_message_fkey';
    END IF;
    IF NEW.citation_index IS NULL THEN
        NEW.citation_index := 1 + coalesce(
            (SELECT max(citation_index) FROM message_citations WHERE message_id = NEW.message_id), 0);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER message_citations_complete BEFORE INSERT ON message_citations
    FOR EACH ROW WHEN (NEW.session_id IS NULL) EXECUTE FUNCTION message_citations_complete();
