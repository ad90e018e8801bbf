-- The indexes of the tables $1: whether each can be used, and whether somebody is building it just now.
SELECT i.relname::text, x.indisvalid AND x.indisready AND x.indislive,
    EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = x.indexrelid)
FROM pg_index x
JOIN pg_class t ON t.oid = x.indrelid AND t.relnamespace = current_schema()::regnamespace AND t.relname = ANY ($1)
JOIN pg_class i ON i.oid = x.indexrelid
ORDER BY 1
