-- The database itself, as those who operate the server want to know it.
--: DatabaseRow
--:   size_bytes int8 = pg_database_size(current_database())
--:   replica text? = r.name
--:   seconds float8? = r.seconds
--:   bytes float8? = r.bytes

--! State -> DatabaseRow
--? read Operate, each tenant's, since it is about the database and no row of anybody's
-- The size, and a row for each standby: those of one name as the one that is farthest behind. What the role may not see isn't
-- there. A standby that has replayed all has no lag.
SELECT {{ DatabaseRow }} FROM (VALUES (true)) here
LEFT JOIN (
    SELECT coalesce(nullif(application_name, ''), 'unnamed') AS name,
        coalesce(extract(epoch FROM max(replay_lag)), 0)::float8 AS seconds,
        greatest(max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_lsn() END, replay_lsn)), 0)::float8 AS bytes
    FROM pg_stat_replication WHERE replay_lsn IS NOT NULL
    GROUP BY 1 ORDER BY 1 LIMIT 32) r ON true
