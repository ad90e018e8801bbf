-- Appends messages to sessions: locks the sessions in id order, bumps their counters, inserts messages and
-- citations. A session that doesn't exist, isn't the caller's, or is locked by somebody else, simply returns
-- no row: nobody waits behind another writer's transaction.
--
-- Each session once: $1 id, $2 tenant, $3 end user or NULL, $4 how many messages, $5 whether any of them is
-- timed by the server, $6 the latest time of those that aren't (imports).
-- Each message: $7 its session's place in $1 (from 1), $8 its place among the session's messages (from 1),
-- $9 id, $10 role, $11 content, $12 selected_text, $13 metadata, $14 payload, $15 import time, $16 given_id.
-- Each citation: $17 its session's place, $18 message id, $19 import time, $20 document_id, $21 chunk_id,
-- $22 score, $23 citation_index.
-- $24, each session: whether any of its messages has a given_id. $25: whether nobody has looked up which ids
-- are stored; then a session that has messages with a given_id returns no row either, since the key alone
-- doesn't find those. $26, each session: how many citations.
--
-- Times are those of the clock, or just after the session's last message; which may be of a year that no clock of
-- a client knows, or infinity, in rows that others wrote: then they stay in the year 9999.
--
-- This is its first part; the second stores citations (append_cited.sql) or knows that there are none
-- (append_uncited.sql), which spares a lone append a twentieth of its time.
WITH locked AS MATERIALIZED (
    SELECT s.id, t.place, t.count, t.timed, t.imported_at, t.given, t.cited,
        greatest(
            clock_timestamp(),
            CASE WHEN s.last_message_at < timestamptz '9999-12-30 00:00:00+00'
                THEN s.last_message_at + interval '1 microsecond'
                WHEN s.last_message_at IS NOT NULL THEN timestamptz '9999-12-30 00:00:00+00' END
        ) AS starts_at
    FROM unnest($1, $2, $3, $4, $5, $6, $24, $26)
        WITH ORDINALITY AS t (session_id, tenant_id, user_id, count, timed, imported_at, given, cited, place)
    JOIN chat_sessions s ON s.id = t.session_id
    WHERE s.tenant_id = t.tenant_id AND (t.user_id IS NULL OR t.user_id = s.user_id)
        AND NOT ($25 AND s.has_given_ids)
    ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED
), bumped AS (
    UPDATE chat_sessions s SET
        last_seq = s.last_seq + l.count,
        has_given_ids = s.has_given_ids OR l.given,
        last_message_at = greatest(
            s.last_message_at,
            CASE WHEN l.timed THEN l.starts_at + (l.count - 1) * interval '1 microsecond' END,
            l.imported_at),
        updated_at = clock_timestamp()
    FROM locked l
    WHERE s.id = l.id
    RETURNING l.place, l.count, l.cited, s.id, s.tenant_id, s.last_seq - l.count AS base, l.starts_at
), stored AS (
    INSERT INTO messages (id, session_id, seq, role, content, selected_text, metadata, payload, created_at, given_id)
    SELECT m.id, b.id, b.base + m.number, m.role, m.content, m.selected_text, m.metadata::jsonb, m.payload,
        coalesce(m.imported_at, b.starts_at + (m.number - 1) * interval '1 microsecond'), m.given_id
    FROM unnest($7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        AS m (place, number, id, role, content, selected_text, metadata, payload, imported_at, given_id)
    JOIN bumped b ON b.place = m.place
    RETURNING id, session_id, seq, created_at
)
