-- The tables $1 with their indexes and long values, the largest first, and about how many rows each has.
SELECT relname::text, pg_total_relation_size(oid), greatest(reltuples, 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relname = ANY ($1) AND relkind = 'r'
ORDER BY 2 DESC, 1
