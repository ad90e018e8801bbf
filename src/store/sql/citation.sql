-- The statements of `message_citations`, but for those that are appended with their message.
{% from "shared.sql" import visible_sessions %}
--: Citation
--:   document_id text = mc.document_id
--:   chunk_id text = coalesce(mc.chunk_id, '')
--:   score float8 = coalesce(mc.score, 0)
--:   citation_index int4 = mc.citation_index
--:   session_id uuid = mc.session_id
--:   message_id uuid = coalesce(m.given_id, m.id)
--:   message_row_id uuid = m.id
--:   created_at timestamptz = mc.created_at
{% set joined -%}
message_citations mc JOIN messages m ON m.id = mc.message_id JOIN chat_sessions s ON s.id = m.session_id
{%- endset %}

--! OfLocked(message_row_id uuid) -> Citation
--? read ChangeCitations, each tenant's, since the message was locked by message.Lock
-- The citations of a message that the transaction has locked.
SELECT {{ Citation }} FROM {{ joined }} WHERE mc.message_id = :message_row_id

--! Insert(message_row_id uuid, session_id uuid, document_ids text[], chunk_ids text[], scores float8[], indexes int4[])
--!     -> Citation
--? write ChangeCitations, each user's, since the message was locked by message.Lock
-- More citations of a message that the transaction has locked.
WITH added AS (
    INSERT INTO message_citations (tenant_id, message_id, session_id, document_id, chunk_id, score, citation_index)
    SELECT :tenant, :message_row_id, :session_id, a.document_id, a.chunk_id, a.score, a.citation_index
    FROM unnest(:document_ids, :chunk_ids, :scores, :indexes) AS a (document_id, chunk_id, score, citation_index)
    RETURNING *)
SELECT {{ Citation }} FROM added mc JOIN messages m ON m.id = mc.message_id

--! ListOfMessage(session_id uuid, message_id uuid, after_index int4, limit int8) -> Citation
--? read ReadCitations
-- A page of a message's citations.
SELECT {{ Citation }} FROM {{ joined }}
WHERE {{ visible_sessions() }} AND m.session_id = :session_id
    AND m.id IN (:message_id, message_row_id(:session_id, :message_id)) AND mc.citation_index > :after_index
ORDER BY mc.citation_index LIMIT :limit

--! ListOfDocument(document_id text, after_message uuid, after_index int4, limit int8) -> Citation
--? read ReadCitations
-- A page of the citations of a document.
SELECT {{ Citation }} FROM {{ joined }}
WHERE {{ visible_sessions() }} AND mc.tenant_id = :tenant AND mc.document_id = :document_id
    AND mc.message_id >= :after_message AND (mc.message_id, mc.citation_index) > (:after_message, :after_index)
ORDER BY mc.message_id, mc.citation_index LIMIT :limit

--! Delete(message_row_id uuid, citation_index int4) -> (citation_index int4)
--? write ChangeCitations, each tenant's, since the message was locked by message.Lock
-- The end of one citation of a message that the transaction has locked.
DELETE FROM message_citations WHERE message_id = :message_row_id AND citation_index = :citation_index
RETURNING citation_index
