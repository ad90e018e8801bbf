-- What there is of connections: all, those reserved for others, the role's and the database's limit, those in use, and of these
-- our servers'. A superuser has what is reserved, too, and no limit of the role's; servers shouldn't be one.
SELECT current_setting('max_connections')::bigint,
    current_setting('superuser_reserved_connections')::bigint
        + coalesce(current_setting('reserved_connections', true)::bigint, 0),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)::bigint,
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database())::bigint,
    (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)::bigint,
    (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND application_name = 'chatledger')::bigint
