-- A page as teams write it: citations joined and gathered as JSON, in the order of time.
SELECT m.id, m.seq, m.role, m.content, m.selected_text, m.metadata::text, m.payload, m.created_at,
    coalesce(json_agg(json_build_object(
        'document_id', mc.document_id, 'chunk_id', mc.chunk_id, 'score', mc.score, 'citation_index', mc.citation_index
    ) ORDER BY mc.citation_index) FILTER (WHERE mc.id IS NOT NULL), '[]')::text AS citations
FROM messages m LEFT JOIN message_citations mc ON mc.message_id = m.id
WHERE m.session_id = $1 AND m.deleted_at IS NULL
GROUP BY m.id
ORDER BY m.created_at LIMIT 50
