-- The best single statement that appends: both in one round trip, and its own transaction.
WITH bump AS (
    UPDATE chat_sessions SET last_seq = last_seq + 1, last_message_at = now(), updated_at = now() WHERE id = $1
    RETURNING id, last_seq
)
INSERT INTO messages (id, session_id, seq, role, content)
SELECT $2, bump.id, bump.last_seq, 'user', $3 FROM bump
