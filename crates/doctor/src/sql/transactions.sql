-- How old the oldest transaction of this database is, in seconds, prepared ones included; how many of these there are; and how
-- many sessions of other roles hide theirs from this one.
SELECT greatest(0, extract(epoch FROM clock_timestamp() - least(
        (SELECT min(xact_start) FROM pg_stat_activity
            WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()),
        (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database()),
        clock_timestamp())))::float8,
    (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = '<insufficient privilege>')
