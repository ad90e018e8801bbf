-- The citations of a whole history: of the forms that were tried, the fastest.
SELECT message_id, document_id, chunk_id, score, citation_index
FROM message_citations
WHERE message_id = ANY(ARRAY(SELECT m.id FROM messages m WHERE m.session_id = $1 AND m.deleted_at IS NULL))
ORDER BY message_id, citation_index
