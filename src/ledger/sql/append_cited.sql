-- The second part of append.sql, with citations. A trigger may drop a row without a word: then the statement fails, by
-- dividing by 0, and nothing is stored.
, cited AS (
    INSERT INTO message_citations
        (tenant_id, message_id, session_id, document_id, chunk_id, score, citation_index, created_at)
    SELECT b.tenant_id, c.message_id, b.id, c.document_id, c.chunk_id, c.score, c.citation_index,
        coalesce(c.imported_at, b.starts_at)
    FROM unnest($17, $18, $19, $20, $21, $22, $23)
        AS c (place, message_id, imported_at, document_id, chunk_id, score, citation_index)
    JOIN bumped b ON b.place = c.place
    RETURNING 1
)
SELECT id, session_id, seq, created_at FROM stored
WHERE (
    -- As int, whose sum isn't a numeric.
    SELECT 1 / (
        coalesce(sum((count + cited)::int), 0) = (SELECT count(*) FROM stored) + (SELECT count(*) FROM cited)
    )::int
    FROM bumped
) = 1
