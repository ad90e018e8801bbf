-- The sequences that columns of the tables $1 take their numbers from, how far each is, and what the column can hold.
SELECT t.relname || '.' || a.attname, coalesce(pg_sequence_last_value(q.seqrelid), 0),
    least(q.seqmax, CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
        ELSE 9223372036854775807 END)
FROM pg_depend d
JOIN pg_sequence q ON q.seqrelid = d.objid
JOIN pg_class t ON t.oid = d.refobjid AND t.relnamespace = current_schema()::regnamespace AND t.relname = ANY ($1)
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
ORDER BY 1
