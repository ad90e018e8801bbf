-- What the server is.
SELECT current_setting('server_version'), current_setting('server_version_num')::integer, pg_is_in_recovery(),
    current_setting('transaction_read_only')::boolean, current_setting('server_encoding')
