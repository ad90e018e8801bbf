-- Who may do what with the tables $1 that wasn't meant to: everybody's and the web's roles' ($4) privileges, and whoever can read
-- the secrets, the columns $3 of the tables $2. Not told of the latter: superusers, whoever acts for the owner, and the members of
-- pg_read_all_data, which is made for that.
WITH tables AS (
    SELECT c.oid, c.relname::text AS name, c.relowner, c.relacl FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1)
), given AS (
    SELECT t.name, a.grantee, a.privilege_type FROM tables t, aclexplode(t.relacl) a
    UNION ALL
    SELECT t.name, a.grantee, a.privilege_type || ' of ' || c.attname FROM tables t
    JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped, aclexplode(c.attacl) a
), readers AS (
    SELECT 0::oid AS oid, 'public' AS asked, 'PUBLIC' AS name
    UNION ALL
    SELECT oid, rolname::text, rolname::text FROM pg_roles
    WHERE NOT rolsuper AND rolname !~ '^pg_' AND NOT pg_has_role(oid, 'pg_read_all_data', 'USAGE')
), secrets AS (
    SELECT t.oid, t.name AS table_name, t.relowner, c.attname::text AS column_name, c.attnum
    FROM unnest($2::text[], $3::text[]) AS s (table_name, column_name)
    JOIN tables t ON t.name = s.table_name
    JOIN pg_attribute c ON c.attrelid = t.oid AND c.attname = s.column_name AND NOT c.attisdropped
)
SELECT r.name AS role, s.table_name, s.column_name, 'SELECT' AS privileges
FROM secrets s, readers r
WHERE has_column_privilege(r.asked, s.oid, s.attnum, 'SELECT')
    AND (r.oid = 0 OR NOT has_column_privilege('public', s.oid, s.attnum, 'SELECT') AND NOT pg_has_role(r.oid, s.relowner, 'USAGE'))
UNION ALL
SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE r.rolname::text END, g.name, NULL,
    string_agg(DISTINCT g.privilege_type, ', ' ORDER BY g.privilege_type)
FROM given g LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE g.grantee = 0 OR r.rolname = ANY ($4)
GROUP BY 1, 2
ORDER BY 2, 3 NULLS LAST, 1
