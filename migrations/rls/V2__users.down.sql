DROP POLICY IF EXISTS chatledger_create ON users;
DROP POLICY IF EXISTS chatledger_delete ON users;
DROP POLICY IF EXISTS chatledger_change ON users;
DROP POLICY IF EXISTS chatledger_read ON users;
ALTER TABLE IF EXISTS users DISABLE ROW LEVEL SECURITY;
