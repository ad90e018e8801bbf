-- What is new in watched sessions, and how servers that share the database wake each other.
{% from "shared.sql" import message_size, joined_citations_size, join_citations, take_citations %}
--: NewsItem
--:   message: Message?
--:   place int8 = w.place
--:   last_seq int8 = s.last_seq
--:   available int8? = m.available

--! News(session_ids uuid[], tenants text[], users uuid?[], known int8[], limit int8, max_bytes int8, large bool)
--!     -> NewsItem
--? read ReadMessages, each tenant's, since each session is looked up with its watcher's tenant and end user
-- The news of several sessions at once, above the seq that is known of each: a page of some messages and bytes, or, where that
-- is wanted, of one that is larger. A session that isn't there, or isn't the caller's, has no row; one without news has a row
-- without a message. Nothing above last_seq is read: a seq that was given by hand is ahead of messages that are still to come.
SELECT {{ NewsItem }}
FROM unnest(:session_ids, :tenants, :users, :known)
    WITH ORDINALITY AS w (session_id, tenant_id, user_id, known, place)
JOIN chat_sessions s ON s.id = w.session_id AND s.tenant_id = w.tenant_id
    AND (w.user_id IS NULL OR s.user_id = w.user_id)
LEFT JOIN LATERAL (
    SELECT *, count(*) OVER () AS available, sum(size) OVER (ORDER BY seq) AS through
    FROM (
        SELECT m.*, c.*, {{ message_size() }} + {{ joined_citations_size() }} AS size
        FROM (
            SELECT m.* FROM messages m
            WHERE m.session_id = s.id AND m.seq > w.known AND m.seq <= s.last_seq AND m.deleted_at IS NULL
            ORDER BY m.seq LIMIT :limit
        ) m {{ join_citations() }}
    ) sized
) m ON m.through <= :max_bytes OR :large AND m.through = m.size
{{ take_citations("m") }}
ORDER BY w.place, m.seq

--! Notify(payload text)
--? write NotifyServers, each tenant's, since it names sessions by their ids and tells nothing of them
-- A notification to the servers that listen, this one included.
SELECT FROM pg_notify('chatledger_appends', :payload)
