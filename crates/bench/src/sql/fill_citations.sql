-- Two citations for each message of these sessions, in the order in which the messages came.
INSERT INTO message_citations (tenant_id, message_id, session_id, document_id, chunk_id, score, citation_index)
SELECT s.tenant_id, m.id, s.id, 'bench-document-' || (hashtext(m.id::text) + number & 511), 'chunk-' || number, 0.5, number
FROM chat_sessions s JOIN messages m ON m.session_id = s.id, generate_series(1, 2) number
WHERE s.id = ANY($1::uuid[])
ORDER BY m.created_at, number
