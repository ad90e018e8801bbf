-- What an import compares in the end.
{% from "shared.sql" import identity_digest %}
--: SessionTally
--:   id uuid = t.id
--:   messages int8 = count(m.id)::bigint
--:   high int8 = coalesce(bit_xor(m.high), 0)
--:   low int8 = coalesce(bit_xor(m.low), 0)
--:   citations int8 = coalesce(sum(m.citations), 0)::bigint

--! TallySessions(ids uuid[], messages int8[]) -> SessionTally
--? read Import, each tenant's, since the sessions are those that the import has stored or found in the tenant
-- Of the first messages of each session: how many there are, the digests of those that aren't deleted, and how many citations.
SELECT {{ SessionTally }}
FROM unnest(:ids, :messages) AS t (id, messages)
LEFT JOIN LATERAL (
    SELECT d.id, ('x' || encode(substr(d.digest, 1, 8), 'hex'))::bit(64)::bigint AS high,
        ('x' || encode(substr(d.digest, 9, 8), 'hex'))::bit(64)::bigint AS low,
        (SELECT count(*) FROM message_citations c WHERE c.message_id = d.id) AS citations
    FROM (
        SELECT m.id, CASE WHEN m.deleted_at IS NULL THEN
            sha256(convert_to(m.seq || E'\n', 'UTF8') || {{ identity_digest("m") }}) END AS digest
        FROM messages m WHERE m.session_id = t.id AND m.seq <= t.messages
    ) d
) m ON true
GROUP BY t.id
