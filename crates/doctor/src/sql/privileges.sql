-- What this role may not do with the tables $1, of what the server does with all of them.
SELECT c.relname::text, string_agg(p.privilege, ', ' ORDER BY p.place)
FROM pg_class c
CROSS JOIN (VALUES (1, 'SELECT'), (2, 'INSERT'), (3, 'UPDATE'), (4, 'DELETE')) AS p (place, privilege)
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1)
    AND NOT has_table_privilege(c.oid, p.privilege)
GROUP BY 1
ORDER BY 1
