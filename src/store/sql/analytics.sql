-- Counts over all tables.
--: TopDocument
--:   document_id text = top.document_id
--:   title text = coalesce(d.title, '')
--:   citations int8 = top.citations
--:   mean float8 = top.mean
--: Activity
--:   user_id uuid = a.user_id
--:   email text = a.email
--:   sessions int8 = a.sessions
--:   messages int8 = a.messages
--:   last_active timestamptz? = a.last_active
--: Day
--:   day text = to_char(m.created_at AT TIME ZONE :time_zone, 'YYYY-MM-DD')
--:   messages int8 = count(*)
--:   sessions int8 = count(DISTINCT m.session_id)
--: Length
--:   label text = b.label
--:   sessions int8 = count(s.id)
{% set activity -%}
count(*) AS sessions, least(coalesce(sum(last_seq), 0), 9223372036854775807)::bigint AS messages,
    max(coalesce(last_message_at, created_at)) AS last_active
{%- endset %}

--! TopDocuments(since timestamptz?, limit int8) -> TopDocument
--? plan Analyze
-- The most cited documents. They are counted first, and then only the titles that are shown are looked up. Scores that a mean
-- can't be made of (SQL by hand may store NaN, or 1e300) are left out of it.
WITH top AS (
    SELECT document_id, count(*) AS citations,
        coalesce(avg(score) FILTER (WHERE score BETWEEN -1e100 AND 1e100), 0) AS mean
    FROM message_citations
    WHERE tenant_id = :tenant AND (:since::timestamptz IS NULL OR created_at >= :since)
        AND (:end_user::uuid IS NULL OR session_id IN (
            SELECT id FROM chat_sessions WHERE tenant_id = :tenant AND user_id = :end_user))
    GROUP BY document_id ORDER BY citations DESC, document_id LIMIT :limit)
SELECT {{ TopDocument }} FROM top LEFT JOIN documents d ON d.tenant_id = :tenant AND d.id = top.document_id
ORDER BY top.citations DESC, top.document_id

--! ActivityOfUsers(first_id uuid, limit int8) -> Activity
--? plan Analyze
-- A page of users with what they have done, by id.
SELECT {{ Activity }} FROM (
    SELECT u.id AS user_id, u.email, counted.* FROM users u
    CROSS JOIN LATERAL (
        SELECT {{ activity }} FROM chat_sessions WHERE tenant_id = u.tenant_id AND user_id = u.id) counted
    WHERE u.tenant_id = :tenant AND (:end_user::uuid IS NULL OR u.id = :end_user) AND u.id >= :first_id
    ORDER BY u.id LIMIT :limit
) a ORDER BY a.user_id

--! ActivityOfSessions like ActivityOfUsers -> Activity
--? plan Analyze
-- The same where there is no table of users.
SELECT {{ Activity }} FROM (
    SELECT user_id, ''::text AS email, {{ activity }} FROM chat_sessions
    WHERE tenant_id = :tenant AND (:end_user::uuid IS NULL OR user_id = :end_user) AND user_id >= :first_id
    GROUP BY user_id ORDER BY user_id LIMIT :limit
) a ORDER BY a.user_id

--! TimeZone(name text) -> (name text)
--? read Analyze, each tenant's, since time zones are the database's
-- A time zone as PostgreSQL spells it, if it knows one of that name.
SELECT name FROM pg_timezone_names WHERE lower(name) = lower(:name)

--! VolumeByDay(since timestamptz?, time_zone text) -> Day
--? plan Analyze
-- Messages by day, of the years that a date of the contract can have: SQL by hand may store infinity, too.
SELECT {{ Day }} FROM messages m JOIN chat_sessions s ON s.id = m.session_id
WHERE s.tenant_id = :tenant AND (:end_user::uuid IS NULL OR s.user_id = :end_user)
    AND (:since::timestamptz IS NULL OR m.created_at >= :since)
    AND m.created_at > '0001-01-02 00:00:00+00' AND m.created_at < '9999-12-31 00:00:00+00'
GROUP BY day ORDER BY day

--! SessionLengths(since timestamptz?) -> Length
--? plan Analyze
-- Sessions by how many messages they have.
SELECT {{ Length }}
FROM (VALUES (1, '1', 1, 1), (2, '2-5', 2, 5), (3, '6-10', 6, 10), (4, '11-20', 11, 20), (5, '20+', 21, NULL))
    AS b (ord, label, least, most)
LEFT JOIN chat_sessions s ON s.last_seq >= b.least AND (b.most IS NULL OR s.last_seq <= b.most)
    AND s.tenant_id = :tenant AND (:end_user::uuid IS NULL OR s.user_id = :end_user)
    AND (:since::timestamptz IS NULL OR s.created_at >= :since)
GROUP BY b.ord, b.label ORDER BY b.ord
