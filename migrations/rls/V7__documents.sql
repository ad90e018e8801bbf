-- Documents are the tenant's: an end user reads them, a service changes them.
DO $$
BEGIN
    IF to_regclass('documents') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
    CREATE POLICY chatledger_all ON documents
        USING (tenant_id = (SELECT chatledger_tenant()) AND (SELECT chatledger_is_service()));
    CREATE POLICY chatledger_read ON documents FOR SELECT
        USING (tenant_id = (SELECT chatledger_tenant()) AND (SELECT chatledger_end_user()) IS NOT NULL);
END $$;
