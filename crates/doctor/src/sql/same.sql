-- Which database this is: its number, and when its server was started, to the microsecond.
SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text || ' '
    || extract(epoch FROM pg_postmaster_start_time())::text
