-- The statements of `messages`, but for those of the append path.
{% from "shared.sql" import merged_json, visible_sessions, message_size, join_citations %}
-- A message `m` and its citations `c`.
--: Message
--:   id uuid = coalesce(m.given_id, m.id)
--:   session_id uuid = m.session_id
--:   seq int8 = m.seq
--:   role text = m.role
--:   content text = m.content
--:   selected_text text? = m.selected_text
--:   metadata text = m.metadata::text
--:   payload bytea? = m.payload
--:   created_at timestamptz = m.created_at
--:   documents text[]? = c.documents
--:   chunks text[]? = c.chunks
--:   scores float8[]? = c.scores
--:   indexes int4[]? = c.indexes
--: &PagePart
--:   row_id uuid
--:   id uuid?
--:   seq int8?
--:   role text?
--:   content text?
--:   selected_text text?
--:   metadata text?
--:   payload bytea?
--:   created_at timestamptz?
--:   available int8?
--:   document_id text?
--:   chunk_id text?
--:   score float8?
--:   citation_index int4?
{# A message of a session, which has its id or, where that was taken, the derived one. #}
{% macro one() -%}
{{ visible_sessions() }} AND s.id = :session_id AND m.session_id = s.id AND m.deleted_at IS NULL
    AND m.id IN (:id, message_row_id(:session_id, :id))
{%- endmacro %}
{# A page of a session's messages: the citations of all of them first, and then the messages, which have a seq. One look-up
of all citations costs half of one for each message.

A message is left out where those before it have `:max_bytes`: sizes are known without reading the texts, so a page of large
ones costs only what it shows. `available` is how many messages there were before that. Of messages that have a payload, that
is all that is read where `:payload_only` says so. The session is looked at once, and not for each message. #}
{% macro page(order) -%}
WITH page AS MATERIALIZED (
    SELECT m.*, coalesce(sum({{ message_size() }}) OVER (
        ORDER BY m.seq {{ order }} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT m.id AS row_id, coalesce(m.given_id, m.id) AS id, m.seq, m.role, m.payload, m.created_at,
            CASE WHEN NOT l.is_lean THEN m.content END AS content,
            CASE WHEN NOT l.is_lean THEN m.selected_text END AS selected_text,
            CASE WHEN NOT l.is_lean THEN m.metadata END AS metadata
        FROM messages m CROSS JOIN LATERAL (SELECT :payload_only AND m.payload IS NOT NULL AS is_lean) l
        WHERE m.session_id = (SELECT s.id FROM chat_sessions s WHERE {{ visible_sessions() }} AND s.id = :session_id)
            AND m.deleted_at IS NULL AND m.seq > :after_seq AND m.seq < :before_seq AND (:roles::text[] IS NULL OR m.role = ANY(:roles))
        ORDER BY m.seq {{ order }} LIMIT :limit
    ) m
)
SELECT {{ PagePart }} FROM (
    SELECT c.message_id AS row_id, NULL::uuid AS id, NULL::bigint AS seq, NULL AS role, NULL AS content, NULL AS selected_text,
        NULL AS metadata, NULL::bytea AS payload, NULL::timestamptz AS created_at, NULL::bigint AS available,
        c.document_id, c.chunk_id, c.score, c.citation_index
    FROM (
        SELECT * FROM message_citations mc
        WHERE :with_citations AND mc.message_id = ANY(ARRAY(SELECT p.row_id FROM page p WHERE p.before < :max_bytes))
        LIMIT :max_citations
    ) c
    UNION ALL
    SELECT p.row_id, p.id, p.seq, p.role, p.content, p.selected_text, p.metadata::text, p.payload, p.created_at,
        (SELECT count(*) FROM page), NULL, NULL, NULL, NULL
    FROM page p WHERE p.before < :max_bytes
) parts
{%- endmacro %}
{% set erased -%}
content = '', selected_text = NULL, metadata = '{}', payload = NULL, deleted_at = clock_timestamp()
{%- endset %}

--! Get(session_id uuid, id uuid) -> Message
--? read ReadMessages
-- One message.
SELECT {{ Message }} FROM chat_sessions s JOIN messages m ON m.session_id = s.id {{ join_citations() }}
WHERE {{ one() }}

--! ListAscending(session_id uuid, after_seq int8, before_seq int8, roles text[]?, limit int8, max_bytes int8,
--!     max_citations int8, with_citations bool, payload_only bool) -> PagePart
--? read ReadMessages
-- A page of messages with a seq between two, in order.
{{ page("ASC") }}

--! ListDescending like ListAscending -> PagePart
--? read ReadMessages
-- The same from the end.
{{ page("DESC") }}

--! Update(session_id uuid, id uuid, metadata text, replace bool) -> Message
--? write ChangeMessages
-- A message's change of metadata.
WITH m AS (UPDATE messages m SET metadata = {{ merged_json("m.metadata", ":metadata", ":replace") }}
    FROM chat_sessions s WHERE {{ one() }} RETURNING m.*)
SELECT {{ Message }} FROM m {{ join_citations() }}

--! Erase(session_id uuid, id uuid) -> (id uuid)
--? write ChangeMessages
-- A message's end: its row stays, without what was in it.
UPDATE messages m SET {{ erased }} FROM chat_sessions s WHERE {{ one() }} RETURNING m.id

--! EraseAll(session_id uuid) -> (id uuid)
--? write ChangeMessages
-- The end of all messages of a session.
UPDATE messages m SET {{ erased }} FROM chat_sessions s
WHERE {{ visible_sessions() }} AND s.id = :session_id AND m.session_id = s.id AND m.deleted_at IS NULL RETURNING m.id

--! DeleteCitations(row_ids uuid[])
--? write ChangeMessages, each tenant's, since the messages were locked by Erase or EraseAll
-- The end of the citations of erased messages. It is a statement of its own, behind the one that locked the messages: a
-- citation that was added meanwhile is seen, and none can be added afterwards.
DELETE FROM message_citations WHERE message_id = ANY(:row_ids)

--! Lock(session_id uuid, id uuid) -> (id uuid)
--? write ChangeCitations
-- The row id of a message, which stays locked for the transaction.
SELECT m.id FROM chat_sessions s JOIN messages m ON m.session_id = s.id
WHERE {{ one() }} FOR NO KEY UPDATE OF m
