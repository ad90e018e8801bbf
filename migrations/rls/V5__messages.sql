-- Messages are seen with their sessions, by whatever policies those have.
DO $$
BEGIN
    IF to_regclass('messages') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
    CREATE POLICY chatledger_all ON messages
        USING (EXISTS (SELECT FROM chat_sessions s WHERE s.id = messages.session_id));
END $$;
