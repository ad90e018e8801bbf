-- This role, whether it may create in the schema, and for whom it can't act among those who own the tables $1.
SELECT current_user::text, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
    (SELECT string_agg(DISTINCT pg_get_userbyid(c.relowner)::text, ', ') FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1)
            AND NOT pg_has_role(c.relowner, 'USAGE'))
