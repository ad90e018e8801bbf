-- The replication slots, whether somebody uses each, and how much WAL it keeps. Without temporary ones, which go with their session.
SELECT slot_name::text, active,
    greatest(0, coalesce(pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0))::bigint,
    coalesce(wal_status, 'reserved')
FROM pg_replication_slots WHERE NOT temporary
ORDER BY 1
