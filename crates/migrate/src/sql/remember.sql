-- What a migration finds: written down, for the rest of its transaction, so that revoke.sql can tell what it has created.
SELECT set_config('chatledger_migrate.found', (
    SELECT coalesce(string_agg(thing, ','), '') FROM (
        SELECT 'relation ' || oid FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT 'routine ' || oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
    ) found (thing)), true)
