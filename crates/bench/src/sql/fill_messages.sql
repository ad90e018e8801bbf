-- Messages of many sessions at once, as if their users had written in turn: so many to each session, a microsecond
-- apart, with ids of the kind that is asked for. Rows lie in the table in the order of time, as appends leave them: a
-- session's own are far from each other.
-- $1: the sessions; $2: messages a session; $3: bytes of a content; $4: whether ids are of version 7, and not 4.
WITH began AS MATERIALIZED (
    SELECT greatest(clock_timestamp(), max(last_message_at)) AS at FROM chat_sessions WHERE id = ANY($1::uuid[])
), bumped AS (
    UPDATE chat_sessions SET last_seq = last_seq + $2::bigint, updated_at = clock_timestamp(),
        last_message_at = began.at + $2::bigint * cardinality($1::uuid[]) * interval '1 microsecond'
    FROM began WHERE id = ANY($1::uuid[])
    RETURNING id, last_seq - $2::bigint AS base
)
INSERT INTO messages (id, session_id, seq, role, content, created_at)
SELECT
    CASE WHEN $4::bool THEN (
        -- 48 bits of milliseconds, the version, and the random bits of a version 4.
        lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '-7' || substr(random_id::text, 16)
    )::uuid ELSE random_id END,
    id, seq, 'user', left(repeat(md5(random_id::text), 1 + $3::int / 32), $3::int), at
FROM (
    SELECT bumped.id, base + number AS seq, gen_random_uuid() AS random_id,
        began.at + row_number() OVER (ORDER BY number, bumped.id) * interval '1 microsecond' AS at
    FROM bumped, began, generate_series(1, $2::bigint) number
    ORDER BY number, bumped.id
) turn
