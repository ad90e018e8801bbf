-- The statements of `chat_sessions`.
{% from "shared.sql" import merged_json %}
--: Session
--:   id uuid
--:   user_id uuid?
--:   title text = coalesce(title, '')
--:   metadata text = metadata::text
--:   last_seq int8
--:   created_at timestamptz
--:   updated_at timestamptz
--:   last_message_at timestamptz?
{% macro visible() -%}
tenant_id = :tenant AND (:end_user::uuid IS NULL OR user_id = :end_user)
{%- endmacro %}
{# The rows of a list that are below `:before` and `:before_id`. #}
{% macro listed(owner, time) -%}
{{ visible() }} AND {{ owner }} AND ({{ time }}, id) < (:before, :before_id)
    AND (:metadata::text IS NULL OR metadata @> :metadata::text::jsonb)
    AND (:title::text IS NULL OR coalesce(title, '') ILIKE :title)
{%- endmacro %}
{% macro page(owner, time) -%}
SELECT {{ Session }} FROM chat_sessions WHERE {{ listed(owner, time) }}
ORDER BY {{ time }} DESC, id DESC LIMIT :limit
{%- endmacro %}
{# The rows of a list by last activity. No row below `:before` has a later active_hour than that time's. #}
{% macro active() -%}
{{ listed("user_id = :user_id", "coalesce(last_message_at, created_at)") }}
    AND active_hour <= date_bin('1 hour',
        least(greatest(:before, to_timestamp(0)), to_timestamp(253402214400)), to_timestamp(0))
{%- endmacro %}

--! Insert(id uuid, user_id uuid?, title text?, metadata text, claim_hash bytea?) -> Session
--? write CreateSession
-- A new session. One of an end user who names nobody is that user's own.
INSERT INTO chat_sessions (tenant_id, id, user_id, title, metadata, claim_hash)
SELECT :tenant, :id, coalesce(:user_id, :end_user), :title, :metadata::text::jsonb, :claim_hash
WHERE :end_user::uuid IS NULL OR coalesce(:user_id, :end_user) = :end_user
ON CONFLICT (id) DO NOTHING RETURNING {{ Session }}

--! Repeated(id uuid, user_id uuid?, claim_hash bytea?) -> Session
--? read CreateSession
-- The session that a creation repeats, if this is one: same id, same owner, and while it is nobody's the same secret.
SELECT {{ Session }} FROM chat_sessions
WHERE {{ visible() }} AND id = :id AND user_id IS NOT DISTINCT FROM coalesce(:user_id, :end_user)
    AND (user_id IS NOT NULL OR claim_hash IS NOT DISTINCT FROM :claim_hash)

--! Get(id uuid) -> Session
--? read ReadSession
-- One session.
SELECT {{ Session }} FROM chat_sessions WHERE {{ visible() }} AND id = :id

--! Update(id uuid, title text?, metadata text?, replace bool) -> Session
--? write ChangeSession
-- A session's change of title and metadata.
UPDATE chat_sessions SET title = coalesce(:title, title),
    metadata = {{ merged_json("metadata", ":metadata", ":replace") }}, updated_at = now()
WHERE {{ visible() }} AND id = :id RETURNING {{ Session }}

--! Claim(user_id uuid, ids uuid[], hashes bytea[]?) -> (id uuid)
--? write ClaimSessions
-- Anonymous sessions become a user's, where the hash of their secret is the given one; a service may give none at all. They are
-- locked in id order, as appends lock: no deadlock with them.
WITH mine AS (
    SELECT s.id FROM unnest(:ids, :hashes) AS given (id, claim_hash) JOIN chat_sessions s ON s.id = given.id
    WHERE s.tenant_id = :tenant AND (:end_user::uuid IS NULL OR :user_id = :end_user)
        AND (s.user_id = :user_id OR s.user_id IS NULL AND (s.claim_hash = given.claim_hash
            OR :end_user::uuid IS NULL AND :hashes::bytea[] IS NULL))
    ORDER BY s.id FOR NO KEY UPDATE OF s)
UPDATE chat_sessions s SET user_id = :user_id, claim_hash = NULL,
    updated_at = CASE WHEN s.user_id IS NULL THEN now() ELSE s.updated_at END
FROM mine WHERE s.id = mine.id RETURNING s.id

--! ListCreated(user_id uuid, before timestamptz, before_id uuid, metadata text?, title text?, limit int8) -> Session
--? read ReadSession
-- A page of a user's sessions, the newest first.
{{ page("user_id = :user_id", "created_at") }}

--! ListLastActive like ListCreated -> Session
--? read ReadSession
-- A page of a user's sessions, the last active first. The index has them in the order of hours: as many as the page holds say
-- back to which hour the page may reach, and only those are sorted. In one step PostgreSQL would sort all of the user's, since
-- its plan is made for the usual user, who has few.
WITH newest AS (
    SELECT active_hour FROM chat_sessions WHERE {{ active() }} ORDER BY active_hour DESC LIMIT :limit)
SELECT {{ Session }} FROM chat_sessions
WHERE {{ active() }} AND active_hour >= (SELECT min(active_hour) FROM newest)
ORDER BY coalesce(last_message_at, created_at) DESC, id DESC LIMIT :limit

--! ListAnonymous(before timestamptz, before_id uuid, metadata text?, title text?, limit int8) -> Session
--? read ReadSession
-- A page of the sessions that are nobody's, the newest first.
{{ page("user_id IS NULL", "created_at") }}

--! LockLarge(session_id uuid?, user_id uuid?, more_than int8) -> LargeSession
--? write ChangeSession
-- Locks those sessions, of a user or just one, that have more messages than that. In id order, as appends lock.
SELECT {{ LargeSession }} FROM chat_sessions
WHERE {{ visible() }} AND (id = :session_id OR user_id = :user_id) AND last_seq > :more_than
ORDER BY id FOR UPDATE
--: LargeSession
--:   id uuid
--:   last_seq int8

--! DeleteMessages(session_id uuid, after_seq int8, through_seq int8)
--? write ChangeSession, each tenant's, since the session was locked by LockLarge
-- Some messages of a session that is locked.
DELETE FROM messages WHERE session_id = :session_id AND seq > :after_seq AND seq <= :through_seq

--! Delete(id uuid) -> (id uuid)
--? write ChangeSession
-- A session's end, with all that is in it.
DELETE FROM chat_sessions WHERE {{ visible() }} AND id = :id RETURNING id

--! DeleteOfUser(user_id uuid) -> (id uuid)
--? write ChangeSession
-- The end of all sessions of a user, with all that is in them. In id order, as appends lock.
WITH mine AS (
    SELECT id FROM chat_sessions WHERE {{ visible() }} AND user_id = :user_id ORDER BY id FOR UPDATE)
DELETE FROM chat_sessions s USING mine WHERE s.id = mine.id RETURNING s.id

--! CountOfUser(user_id uuid) -> Contents
--? read ReadSession
-- How much a user has.
SELECT {{ Contents }}
FROM (SELECT id FROM chat_sessions WHERE {{ visible() }} AND user_id = :user_id) s
--: Contents
--:   sessions int8 = count(*)
--:   messages int8 = coalesce(sum((SELECT count(*) FROM messages m WHERE m.session_id = s.id)), 0)::bigint
--:   citations int8 = coalesce(sum((SELECT count(*) FROM messages m JOIN message_citations c ON c.message_id = m.id WHERE m.session_id = s.id)), 0)::bigint

--! Analyze
--? write KeepReports, each tenant's, since statistics are a table's
-- The planner's statistics, which quote values, are made of the rows that are left.
ANALYZE chat_sessions, messages, message_citations, chatledger_report_documents, chatledger_report_document_days,
    chatledger_report_document_months, chatledger_report_sessions, chatledger_report_session_days
