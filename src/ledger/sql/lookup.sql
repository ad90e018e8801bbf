-- What is stored of the given messages, after their sessions have been locked: one row or more a message.
-- $1 session, $2 id, $3 role, $4 content, $5 selected_text, $6 payload.
SELECT g.place, m.session_id = g.session_id AS here, m.seq, m.created_at, m.deleted_at IS NOT NULL AS deleted,
    m.role = g.role AND m.content = g.content AND m.selected_text IS NOT DISTINCT FROM g.selected_text
        AND m.payload IS NOT DISTINCT FROM g.payload AS same,
    message_row_id(g.session_id, g.id) AS row_id
FROM unnest($1, $2, $3, $4, $5, $6)
    WITH ORDINALITY AS g (session_id, id, role, content, selected_text, payload, place)
LEFT JOIN LATERAL (
    SELECT * FROM messages m
    WHERE m.id = g.id OR (m.id = message_row_id(g.session_id, g.id) AND m.session_id = g.session_id)
) m ON true
