-- Takes from everybody but the owner what default privileges gave of what this migration has created. What somebody has granted
-- on purpose is of before, and stays. That everybody may call a function is PostgreSQL's own default, and
-- stays: triggers rely on it.
DO $$
DECLARE
    found text[] := string_to_array(current_setting('chatledger_migrate.found', true), ',');
    given record;
BEGIN
    FOR given IN
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name, a.grantee
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
            AND pg_get_userbyid(c.relowner) = current_user AND a.grantee <> c.relowner
            AND 'relation ' || c.oid <> ALL (found)
        UNION
        SELECT 'ROUTINE', p.oid::regprocedure::text, a.grantee
        FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.pronamespace = current_schema()::regnamespace
            AND pg_get_userbyid(p.proowner) = current_user AND a.grantee <> p.proowner
            AND a.grantee <> 0 AND 'routine ' || p.oid <> ALL (found)
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s', given.kind, given.name,
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END);
    END LOOP;
END
$$
