-- What reports have counted: a service reads its tenant's. Nobody else writes it: the triggers do, as the owner. What is only the
-- server's own has no policy, so that nobody else sees anything of it.
DO $$
DECLARE
    counted text;
BEGIN
    IF to_regclass('chatledger_reports') IS NULL THEN
        RETURN;
    END IF;
    FOREACH counted IN ARRAY ARRAY['days', 'session_days', 'documents', 'document_days', 'document_months', 'sessions', 'lengths'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', 'chatledger_report_' || counted);
        EXECUTE format('CREATE POLICY chatledger_read ON %I FOR SELECT
            USING (tenant_id = (SELECT chatledger_tenant()) AND (SELECT chatledger_is_service()))', 'chatledger_report_' || counted);
    END LOOP;
    ALTER TABLE chatledger_reports ENABLE ROW LEVEL SECURITY;
    ALTER TABLE chatledger_report_message_changes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE chatledger_report_citation_changes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE chatledger_report_session_changes ENABLE ROW LEVEL SECURITY;
END $$;
