-- The statements of the append path.
--
-- They bind no caller: one of them serves units of several callers. Each session is looked up with its unit's tenant and end user
-- before it is locked: nobody waits for, or holds, what isn't its own.
{% from "shared.sql" import identity %}
--: AppendedMessage
--:   id uuid
--:   session_id uuid
--:   seq int8
--:   created_at timestamptz
--: LockedSession
--:   id uuid = s.id
--:   tenant_id text = s.tenant_id
--:   user_id uuid? = s.user_id
--:   last_seq int8 = s.last_seq
--: KnownMessage
--:   place int8
--:   here bool?
--:   seq int8?
--:   created_at timestamptz?
--:   deleted bool
--:   same bool
--:   row_id uuid
{# The sessions `s` of units, which are their callers'; one that two callers name, twice. #}
{% set of_callers -%}
unnest(:session_ids, :tenants, :users) AS t (session_id, tenant_id, user_id)
JOIN chat_sessions s ON s.id = t.session_id
WHERE s.tenant_id = t.tenant_id AND (t.user_id IS NULL OR t.user_id = s.user_id)
{%- endset %}
{# Locks the sessions in id order, raises their counters by what they get, and inserts messages. A session that doesn't exist,
isn't the caller's, or is locked by somebody else, simply returns no row: nobody waits behind another writer's transaction.

Of each session: how many messages (`counts`) and citations (`cited`), whether any of them is timed by the server (`timed`), the
latest time of those that aren't (`sessions_imported_at`), whether any has a given_id (`given`). `optimistic` says that nobody
has looked up which ids are stored: then a session that has messages with a given_id returns no row either, since the key alone
doesn't find those. Of each message: its session's place in `session_ids`, from 1, its number among the session's messages, from
1, and its columns. Of each citation the same.

Times are those of the clock, or just after the session's last message; which may be of a year that no clock of a client knows,
or infinity, in rows that others wrote: then they stay in the year 9999. #}
{% set append -%}
WITH locked AS MATERIALIZED (
    SELECT s.id, t.place, t.count, t.timed, t.imported_at, t.given, t.cited,
        greatest(
            clock_timestamp(),
            CASE WHEN s.last_message_at < timestamptz '9999-12-30 00:00:00+00'
                THEN s.last_message_at + interval '1 microsecond'
                WHEN s.last_message_at IS NOT NULL THEN timestamptz '9999-12-30 00:00:00+00' END
        ) AS starts_at
    FROM unnest(:session_ids, :tenants, :users, :counts, :timed, :sessions_imported_at, :given, :cited)
        WITH ORDINALITY AS t (session_id, tenant_id, user_id, count, timed, imported_at, given, cited, place)
    JOIN chat_sessions s ON s.id = t.session_id
    WHERE s.tenant_id = t.tenant_id AND (t.user_id IS NULL OR t.user_id = s.user_id)
        AND NOT (:optimistic AND s.has_given_ids)
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
    FROM unnest(:places, :numbers, :ids, :roles, :contents, :selected_texts, :metadata, :payloads, :imported_at, :given_ids)
        AS m (place, number, id, role, content, selected_text, metadata, payload, imported_at, given_id)
    JOIN bumped b ON b.place = m.place
    RETURNING id, session_id, seq, created_at
)
{%- endset %}

--! AppendCited(session_ids uuid[], tenants text[], users uuid?[], counts int8[], cited int8[], timed bool[],
--!     sessions_imported_at timestamptz?[], given bool[], optimistic bool,
--!     places int8[], numbers int8[], ids uuid[], roles text[], contents text[], selected_texts text?[], metadata text[],
--!     payloads bytea?[], imported_at timestamptz?[], given_ids uuid?[],
--!     citation_places int8[], citation_messages uuid[], citations_imported_at timestamptz?[], document_ids text[],
--!     chunk_ids text[], scores float8[], indexes int4[]) -> AppendedMessage
--? write AppendMessages, each tenant's, since each session is looked up with its unit's tenant and end user
-- Messages of which some have citations. A trigger may drop a row without a word: then the statement fails, by dividing by 0,
-- and nothing is stored.
{{ append }}, cited AS (
    INSERT INTO message_citations
        (tenant_id, message_id, session_id, document_id, chunk_id, score, citation_index, created_at)
    SELECT b.tenant_id, c.message_id, b.id, c.document_id, c.chunk_id, c.score, c.citation_index,
        coalesce(c.imported_at, b.starts_at)
    FROM unnest(:citation_places, :citation_messages, :citations_imported_at, :document_ids, :chunk_ids, :scores, :indexes)
        AS c (place, message_id, imported_at, document_id, chunk_id, score, citation_index)
    JOIN bumped b ON b.place = c.place
    RETURNING 1
)
SELECT {{ AppendedMessage }} FROM stored
WHERE (
    -- As int, whose sum isn't a numeric.
    SELECT 1 / (
        coalesce(sum((count + cited)::int), 0) = (SELECT count(*) FROM stored) + (SELECT count(*) FROM cited)
    )::int
    FROM bumped
) = 1

--! AppendUncited like AppendCited -> AppendedMessage
--? write AppendMessages, each tenant's, since each session is looked up with its unit's tenant and end user
-- Messages without citations, which spares a lone append a twentieth of its time. A trigger may drop a row without a word: then
-- the statement fails, by dividing by 0, and nothing is stored.
{{ append }}
SELECT {{ AppendedMessage }} FROM stored
WHERE (
    SELECT 1 / (coalesce(sum(count::int), 0) = (SELECT count(*) FROM stored))::int FROM bumped
) = 1

--! Lock(session_ids uuid[], tenants text[], users uuid?[]) -> LockedSession
--? write AppendMessages, each tenant's, since each session is looked up with its unit's tenant and end user
-- Sessions, which stay locked for the transaction. In id order, as every statement that locks sessions does.
SELECT {{ LockedSession }} FROM {{ of_callers }} ORDER BY s.id FOR NO KEY UPDATE OF s

--! LockFree like Lock -> LockedSession
--? write AppendMessages, each tenant's, since each session is looked up with its unit's tenant and end user
-- The same without those that somebody else holds.
SELECT {{ LockedSession }} FROM {{ of_callers }} ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED

--! Lookup(session_ids uuid[], ids uuid[], roles text[], contents text[], selected_texts text?[], payloads bytea?[])
--!     -> KnownMessage
--? read AppendMessages, each tenant's, since the sessions were locked by Lock or LockFree
-- What is stored of the given messages, after their sessions have been locked: one row or more a message.
SELECT {{ KnownMessage }} FROM (
    SELECT g.place, m.session_id = g.session_id AS here, m.seq, m.created_at, m.deleted_at IS NOT NULL AS deleted,
        {{ identity("m") }} IS NOT DISTINCT FROM {{ identity("g") }} AS same,
        message_row_id(g.session_id, g.id) AS row_id
    FROM unnest(:session_ids, :ids, :roles, :contents, :selected_texts, :payloads)
        WITH ORDINALITY AS g (session_id, id, role, content, selected_text, payload, place)
    LEFT JOIN LATERAL (
        SELECT * FROM messages m
        WHERE m.id = g.id OR (m.id = message_row_id(g.session_id, g.id) AND m.session_id = g.session_id)
    ) m ON true
) known

--! RaiseLastSeq like Lock
--? write AppendMessages, each tenant's, since each session is looked up with its unit's tenant and end user
-- The counters of sessions where a seq was given by hand that the counter hadn't reached. The rows lock, so the counter can't
-- move meanwhile.
WITH locked AS (
    SELECT s.id FROM {{ of_callers }} ORDER BY s.id FOR NO KEY UPDATE OF s)
UPDATE chat_sessions s SET last_seq = greatest(
    s.last_seq, (SELECT max(seq) FROM messages m WHERE m.session_id = s.id))
FROM locked WHERE s.id = locked.id
