DROP POLICY IF EXISTS chatledger_read ON documents;
DROP POLICY IF EXISTS chatledger_all ON documents;
ALTER TABLE IF EXISTS documents DISABLE ROW LEVEL SECURITY;
