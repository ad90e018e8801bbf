-- Whether autovacuum can do its work.
SELECT current_setting('autovacuum')::boolean, current_setting('track_counts')::boolean,
    current_setting('autovacuum_max_workers')::integer
