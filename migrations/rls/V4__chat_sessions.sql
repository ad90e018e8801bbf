-- Sessions, in the scopes that have them: an end user's own. Those of nobody are a service's.
DO $$
BEGIN
    IF to_regclass('chat_sessions') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE chat_sessions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY chatledger_all ON chat_sessions USING (tenant_id = (SELECT chatledger_tenant())
        AND ((SELECT chatledger_is_service()) OR user_id = (SELECT chatledger_end_user())));
END $$;
