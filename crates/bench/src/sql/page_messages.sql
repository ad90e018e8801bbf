-- The messages of a page with the columns that the service answers, without citations.
SELECT m.id, m.seq, m.role, m.content, m.selected_text, m.metadata::text, m.payload, m.created_at
FROM messages m
WHERE m.session_id = $1 AND m.deleted_at IS NULL
ORDER BY m.seq LIMIT 50
