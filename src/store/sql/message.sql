-- The statements of `messages`, but for those of the append path.
{% from "shared.sql" import merged_json, visible_sessions, message_size, join_citations, take_citations %}
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
--: ListedMessage
--:   message: Message
--:   available int8 = m.available
{# A message of a session, which has its id or, where that was taken, the derived one. #}
{% macro one() -%}
{{ visible_sessions() }} AND s.id = :session_id AND m.session_id = s.id AND m.deleted_at IS NULL
    AND m.id IN (:id, message_row_id(:session_id, :id))
{%- endmacro %}
{# A row is left out where those before it have `:max_bytes`: sizes are known without reading the texts, so a page of large
ones costs only what it shows. `available` is how many rows there were before that. #}
{% macro page(order) -%}
SELECT {{ ListedMessage }} FROM (
    SELECT m.*, c.*, count(*) OVER () AS available,
        coalesce(sum({{ message_size() }}) OVER (
            ORDER BY m.seq {{ order }} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT m.* FROM chat_sessions s JOIN messages m ON m.session_id = s.id
        WHERE {{ visible_sessions() }} AND s.id = :session_id AND m.session_id = :session_id AND m.deleted_at IS NULL
            AND m.seq > :after_seq AND m.seq < :before_seq AND (:roles::text[] IS NULL OR m.role = ANY(:roles))
        ORDER BY m.seq {{ order }} LIMIT :limit
    ) m {{ join_citations(":with_citations") }}
) m {{ take_citations("m") }}
WHERE m.before < :max_bytes ORDER BY m.seq {{ order }}
{%- endmacro %}
{% set erased -%}
content = '', selected_text = NULL, metadata = '{}', payload = NULL, deleted_at = clock_timestamp()
{%- endset %}

--! Get(session_id uuid, id uuid) -> Message
--? read ReadMessages
-- One message.
SELECT {{ Message }} FROM chat_sessions s JOIN messages m ON m.session_id = s.id {{ join_citations("true") }}
WHERE {{ one() }}

--! ListAscending(session_id uuid, after_seq int8, before_seq int8, roles text[]?, limit int8, max_bytes int8,
--!     with_citations bool) -> ListedMessage
--? read ReadMessages
-- A page of messages with a seq between two, in order.
{{ page("ASC") }}

--! ListDescending like ListAscending -> ListedMessage
--? read ReadMessages
-- The same from the end.
{{ page("DESC") }}

--! Update(session_id uuid, id uuid, metadata text, replace bool) -> Message
--? write ChangeMessages
-- A message's change of metadata.
WITH m AS (UPDATE messages m SET metadata = {{ merged_json("m.metadata", ":metadata", ":replace") }}
    FROM chat_sessions s WHERE {{ one() }} RETURNING m.*)
SELECT {{ Message }} FROM m {{ join_citations("true") }}

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
