-- Who copies this server, and how far behind each is. A role that may not see it sees the rows without what is in them.
SELECT coalesce(nullif(application_name, ''), 'a replica') || coalesce(' at ' || host(client_addr), ''), state,
    coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        replay_lsn), 0)::bigint,
    coalesce(extract(epoch FROM replay_lag), 0)::float8
FROM pg_stat_replication
ORDER BY 1
