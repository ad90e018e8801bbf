-- How much a tenant has stored.
--: Amounts
--:   sessions int8 = totals.sessions
--:   messages int8 = totals.messages
--:   bytes int8 = least(ceil(totals.messages * sample.bytes / greatest(sample.messages, 1)), 9223372036854775807)::bigint

--! Count(most_sessions int8, most_messages int8) -> Amounts
--? plan Analyze
-- Sessions and messages are counted by the sessions' rows; bytes are those of the last messages of some sessions, taken for all. The
-- length of a text is known without reading it.
WITH mine AS (
    SELECT id, last_seq FROM chat_sessions
    WHERE tenant_id = :tenant AND (:end_user::uuid IS NULL OR user_id = :end_user)),
totals AS (
    SELECT count(*) AS sessions, least(coalesce(sum(last_seq), 0), 9223372036854775807)::bigint AS messages FROM mine),
sample AS (
    SELECT count(*) AS messages, coalesce(sum(m.bytes), 0) AS bytes
    FROM (SELECT id FROM mine WHERE last_seq > 0 ORDER BY random() LIMIT :most_sessions) few
    CROSS JOIN LATERAL (
        SELECT octet_length(content) + coalesce(octet_length(selected_text), 0)::bigint
            + coalesce(octet_length(payload), 0) AS bytes
        FROM messages WHERE session_id = few.id ORDER BY seq DESC LIMIT :most_messages) m)
SELECT {{ Amounts }} FROM totals, sample
