-- How this connection is encrypted, as the server sees it.
SELECT coalesce(s.ssl, false), coalesce(s.version, '')::text, coalesce(s.cipher, '')::text
FROM (SELECT 1) AS one LEFT JOIN pg_stat_ssl s ON s.pid = pg_backend_pid()
