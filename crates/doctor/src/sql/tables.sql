-- The tables $1: whether autovacuum is switched off, live and dead rows, when it was last vacuumed, its size, what its rows need,
-- and the age of its oldest transaction id, long values' included. A row has 24 bytes before its columns and 4 in its page, whose
-- own part is 24 of 8,192; pg_stats has what the columns take, long values as what stands for them.
SELECT c.relname::text,
    'autovacuum_enabled=false' = ANY (coalesce(c.reloptions, '{}') || coalesce(o.reloptions, '{}'))
        OR 'autovacuum_enabled=off' = ANY (coalesce(c.reloptions, '{}') || coalesce(o.reloptions, '{}')),
    coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0),
    to_char(greatest(s.last_vacuum, s.last_autovacuum) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    pg_relation_size(c.oid),
    CASE WHEN c.reltuples > 0 AND w.width IS NOT NULL
        THEN (c.reltuples * (28 + w.width) * 8192 / 8168)::bigint END,
    greatest(age(c.relfrozenxid), age(nullif(o.relfrozenxid, '0'::xid)))::bigint
FROM pg_class c
LEFT JOIN pg_class o ON o.oid = c.reltoastrelid
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
LEFT JOIN LATERAL (
    SELECT sum(avg_width) AS width FROM pg_stats
    WHERE schemaname = current_schema() AND tablename = c.relname AND NOT inherited
) w ON true
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1) AND c.relkind = 'r'
ORDER BY 1
