-- Users, in the scopes that have them: an end user sees and changes itself; a service makes them.
DO $$
BEGIN
    IF to_regclass('users') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE users ENABLE ROW LEVEL SECURITY;
    -- The calls in parentheses are made once a statement, not once a row.
    CREATE POLICY chatledger_read ON users FOR SELECT USING (tenant_id = (SELECT chatledger_tenant())
        AND ((SELECT chatledger_is_service()) OR id = (SELECT chatledger_end_user())));
    CREATE POLICY chatledger_change ON users FOR UPDATE USING (tenant_id = (SELECT chatledger_tenant())
        AND ((SELECT chatledger_is_service()) OR id = (SELECT chatledger_end_user())));
    CREATE POLICY chatledger_delete ON users FOR DELETE USING (tenant_id = (SELECT chatledger_tenant())
        AND ((SELECT chatledger_is_service()) OR id = (SELECT chatledger_end_user())));
    CREATE POLICY chatledger_create ON users FOR INSERT
        WITH CHECK (tenant_id = (SELECT chatledger_tenant()) AND (SELECT chatledger_is_service()));
END $$;
