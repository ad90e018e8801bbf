-- The constraints of the tables $1 that aren't validated.
SELECT t.relname || '.' || c.conname FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid AND t.relnamespace = current_schema()::regnamespace AND t.relname = ANY ($1)
WHERE NOT c.convalidated
ORDER BY 1
