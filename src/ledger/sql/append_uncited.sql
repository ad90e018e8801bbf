-- The second part of append.sql, without citations. A trigger may drop a row without a word: then the statement fails,
-- by dividing by 0, and nothing is stored.
SELECT id, session_id, seq, created_at FROM stored
WHERE (
    SELECT 1 / (coalesce(sum(count::int), 0) = (SELECT count(*) FROM stored))::int FROM bumped
) = 1
