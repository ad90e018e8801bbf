DROP POLICY IF EXISTS chatledger_all ON message_citations;
ALTER TABLE IF EXISTS message_citations DISABLE ROW LEVEL SECURITY;
