-- The second statement of a transaction that appends: stores the message at the seq that the first one answered.
INSERT INTO messages (id, session_id, seq, role, content) VALUES ($1, $2, $3, 'user', $4)
