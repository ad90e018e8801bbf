-- The first statement of a transaction that appends: raises the session's counter, under the row's lock.
UPDATE chat_sessions SET last_seq = last_seq + 1, last_message_at = now(), updated_at = now() WHERE id = $1
RETURNING last_seq
