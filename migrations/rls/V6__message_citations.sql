-- Citations are seen with their messages. That the session is the message's, and the tenant the caller's, is asked for since
-- whoever inserts one may give them by hand, and no foreign key looks at them.
DO $$
BEGIN
    IF to_regclass('message_citations') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE message_citations ENABLE ROW LEVEL SECURITY;
    CREATE POLICY chatledger_all ON message_citations USING (tenant_id = (SELECT chatledger_tenant())
        AND EXISTS (SELECT FROM messages m
            WHERE m.id = message_citations.message_id AND m.session_id = message_citations.session_id));
END $$;
