-- The settings $1 as this session has them, and who set each.
SELECT name, setting, source FROM pg_settings WHERE name = ANY ($1)
