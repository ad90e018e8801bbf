-- A page with the columns that the service answers: a message's citations as arrays, one row a message.
SELECT m.id, m.seq, m.role, m.content, m.selected_text, m.metadata::text, m.payload, m.created_at,
    c.documents, c.chunks, c.scores, c.indexes
FROM messages m LEFT JOIN LATERAL (
    SELECT array_agg(document_id ORDER BY citation_index) AS documents,
        array_agg(chunk_id ORDER BY citation_index) AS chunks,
        array_agg(score ORDER BY citation_index) AS scores,
        array_agg(citation_index ORDER BY citation_index) AS indexes
    FROM message_citations WHERE message_id = m.id
) c ON true
WHERE m.session_id = $1 AND m.deleted_at IS NULL
ORDER BY m.seq LIMIT 50
