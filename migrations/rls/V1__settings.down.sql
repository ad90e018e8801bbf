DROP FUNCTION chatledger_end_user();
DROP FUNCTION chatledger_is_service();
DROP FUNCTION chatledger_tenant();
