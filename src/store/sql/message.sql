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
--: &MessagePart
--:   seq int8 = m.seq
--:   id uuid? = CASE WHEN c.citation_index IS NULL THEN m.id END
--:   role text? = CASE WHEN c.citation_index IS NULL THEN m.role END
--:   content text? = CASE WHEN c.citation_index IS NULL THEN m.content END
--:   selected_text text? = CASE WHEN c.citation_index IS NULL THEN m.selected_text END
--:   metadata text? = CASE WHEN c.citation_index IS NULL THEN m.metadata::text END
--:   payload bytea? = CASE WHEN c.citation_index IS NULL THEN m.payload END
--:   created_at timestamptz? = CASE WHEN c.citation_index IS NULL THEN m.created_at END
--:   available int8? = m.available
--:   is_left_out bool = m.is_left_out
--:   document_id text? = c.document_id
--:   chunk_id text? = c.chunk_id
--:   score float8? = c.score
--:   citation_index int4? = c.citation_index
{# A message of a session, which has its id or, where that was taken, the derived one. #}
{% macro one() -%}
{{ visible_sessions() }} AND s.id = :session_id AND m.session_id = s.id AND m.deleted_at IS NULL
    AND m.id IN (:id, message_row_id(:session_id, :id))
{%- endmacro %}
{# A session's messages `m`. The session is looked at once, and not for each of them. Of those that have a payload, nothing else
is read where `:payload_only` says so. #}
{% macro messages(order) -%}
SELECT coalesce(m.given_id, m.id) AS id, m.id AS row_id, m.seq, m.role, m.payload, m.created_at,
    CASE WHEN NOT l.is_lean THEN m.content END AS content,
    CASE WHEN NOT l.is_lean THEN m.selected_text END AS selected_text,
    CASE WHEN NOT l.is_lean THEN m.metadata END AS metadata
FROM messages m CROSS JOIN LATERAL (SELECT :payload_only AND m.payload IS NOT NULL AS is_lean) l
WHERE m.session_id = (SELECT s.id FROM chat_sessions s WHERE {{ visible_sessions() }} AND s.id = :session_id)
    AND m.deleted_at IS NULL AND m.seq > :after_seq AND m.seq < :before_seq
    AND (:roles::text[] IS NULL OR m.role = ANY(:roles))
ORDER BY m.seq {{ order }}
{%- endmacro %}
{# Each message `m` as a row, and behind it one for each of its citations: they come as they are found, without sorting or
gathering anything. That costs half of what an aggregate for each message does. #}
{% macro with_citations() -%}
CROSS JOIN LATERAL (
    SELECT NULL AS document_id, NULL AS chunk_id, NULL::float8 AS score, NULL::int AS citation_index
    UNION ALL
    SELECT mc.document_id, mc.chunk_id, mc.score, mc.citation_index FROM message_citations mc
    WHERE :with_citations AND mc.message_id = m.row_id
) c
{%- endmacro %}
{# A page of messages none of which is larger than its share, `:share`; one that is larger is left out, and the page is read
by `large_page` instead. So a page is no larger than it may be, and nobody adds up sizes. #}
{% macro page(order) -%}
SELECT {{ MessagePart }} FROM (
    SELECT m.seq, m.row_id, m.role, m.created_at, NULL::bigint AS available, z.is_left_out,
        CASE WHEN NOT z.is_left_out THEN m.id END AS id,
        CASE WHEN NOT z.is_left_out THEN m.content END AS content,
        CASE WHEN NOT z.is_left_out THEN m.selected_text END AS selected_text,
        CASE WHEN NOT z.is_left_out THEN m.metadata END AS metadata,
        CASE WHEN NOT z.is_left_out THEN m.payload END AS payload
    FROM ({{ messages(order) }} LIMIT :limit) m
    CROSS JOIN LATERAL (SELECT {{ message_size() }} > :share AS is_left_out) z
) m {{ with_citations() }}
ORDER BY m.seq {{ order }} LIMIT :max_parts
{%- endmacro %}
{# A page of messages that ends where those before one have `:max_bytes`: sizes are known without reading the texts, so a page of
large ones costs only what it shows. `available` is how many messages there were before that. #}
{% macro large_page(order) -%}
SELECT {{ MessagePart }} FROM (
    SELECT m.*, count(*) OVER () AS available, false AS is_left_out,
        coalesce(sum({{ message_size() }}) OVER (
            ORDER BY m.seq {{ order }} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM ({{ messages(order) }} LIMIT :limit) m
) m {{ with_citations() }}
WHERE m.before < :max_bytes ORDER BY m.seq {{ order }} LIMIT :max_parts
{%- endmacro %}
{% set erased -%}
content = '', selected_text = NULL, metadata = '{}', payload = NULL, deleted_at = clock_timestamp()
{%- endset %}

--! Get(session_id uuid, id uuid) -> Message
--? read ReadMessages
-- One message.
SELECT {{ Message }} FROM chat_sessions s JOIN messages m ON m.session_id = s.id {{ join_citations() }}
WHERE {{ one() }}

--! ListAscending(session_id uuid, after_seq int8, before_seq int8, roles text[]?, limit int8, max_bytes int8, share int8,
--!     max_parts int8, with_citations bool, payload_only bool) -> MessagePart
--? read ReadMessages
-- A page of messages with a seq between two, in order.
{{ page("ASC") }}

--! ListDescending like ListAscending -> MessagePart
--? read ReadMessages
-- The same from the end.
{{ page("DESC") }}

--! ListLargeAscending like ListAscending -> MessagePart
--? read ReadMessages
-- A page that has large messages, in order.
{{ large_page("ASC") }}

--! ListLargeDescending like ListAscending -> MessagePart
--? read ReadMessages
-- The same from the end.
{{ large_page("DESC") }}

--! Read like ListAscending -> MessagePart
--? read ReadMessages
-- All messages with a seq between two, in order, which are taken as they come.
SELECT {{ MessagePart }}
FROM (SELECT m.*, NULL::bigint AS available, false AS is_left_out FROM ({{ messages("ASC") }}) m) m {{ with_citations() }}
ORDER BY m.seq

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
