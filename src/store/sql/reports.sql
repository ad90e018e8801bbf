-- Reports that are kept: what a fold does, and what a report reads. docs/reports.md has the argument.
--
-- Nobody but a fold writes the kept tables, and one fold runs at a time. It sees one snapshot.
--: Watermark
--:   report text
--:   time_zone text
--:   folded_through int8
--: Position
--:   horizon int8 = pg_snapshot_xmin(pg_current_snapshot())::text::bigint
--:   held bool = pg_snapshot_xmin(pg_current_snapshot()) < pg_snapshot_xmax(pg_current_snapshot())
--:   emptied bool = EXISTS (SELECT FROM chatledger_report_session_changes WHERE session_id IS NULL)
--:   foreign_numbers bool = EXISTS (SELECT FROM chatledger_reports r WHERE NOT (r.origin = chatledger_report_origin() AND r.folded_through <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint))
--: CountedReport
--:   report text = r.report
--:   counted int8 = coalesce(r.counted, 0)::bigint
--:   rows int8 = r.rows
--: KeptReport
--:   time_zone text = r.time_zone
--:   folded_through int8 = r.folded_through
--:   behind int8 = pg_snapshot_xmin(pg_current_snapshot())::text::bigint - r.folded_through
--:   first_day text = f.day::text
--:   whole_from timestamptz? = nullif((f.day::timestamp AT TIME ZONE r.time_zone) + j.minutes * interval '1 minute', '-infinity')
--: KeptDay
--:   day text? = k.day
--:   messages int8? = k.messages
--:   sessions int8? = k.sessions
--: KeptDocument
--:   document_id text? = k.document_id
--:   title text = coalesce(d.title, '')
--:   citations int8? = k.citations
--:   mean float8? = k.mean
--: KeptLength
--:   label text = b.label
--:   sessions int8 = coalesce(k.sessions, 0)
{# The years that a date of the contract can have. #}
{% macro dated(row) -%}
{{ row }}.created_at > timestamptz '0001-01-02 00:00:00+00' AND {{ row }}.created_at < timestamptz '9999-12-31 00:00:00+00'
{%- endmacro %}
{% macro day(row, zone) -%}
({{ row }}.created_at AT TIME ZONE {{ zone }})::date
{%- endmacro %}
{# Messages by session and day. They are grouped before anybody asks for their sessions' tenants: so much fewer look-ups. #}
{% macro messages_by_day(zone, condition) -%}
SELECT s.tenant_id, s.id AS session_id, m.day, m.messages FROM (
    SELECT m.session_id, {{ day("m", zone) }} AS day, count(*) AS messages FROM messages m
    WHERE {{ condition }} AND {{ dated("m") }} GROUP BY m.session_id, {{ day("m", zone) }}
) m JOIN chat_sessions s ON s.id = m.session_id
{%- endmacro %}
{# The sessions that are gone with all that was theirs. One may have come again since: what it has now isn't folded in. #}
{% set removed -%}
SELECT session_id FROM chatledger_report_session_changes WHERE removed AND session_id IS NOT NULL
{%- endset %}
{# Changes of messages that are counted. #}
{% macro changed_messages(through) -%}
chatledger_report_message_changes c
WHERE c.inserted_by < {{ through }} AND {{ dated("c") }} AND NOT EXISTS ({{ removed }} AND session_id = c.session_id)
{%- endmacro %}
{# The first day of the first month that lies behind as a whole. #}
{% macro first_month() -%}
(date_trunc('month', :first_day::text::date - interval '1 day') + interval '1 month')::date
{%- endmacro %}
{% macro score(row) -%}
CASE WHEN {{ row }}.score BETWEEN -1e100 AND 1e100 THEN {{ row }}.score::text::numeric END
{%- endmacro %}
{% macro bucket(row) -%}
CASE WHEN {{ row }}.last_seq = 1 THEN 1 WHEN {{ row }}.last_seq <= 5 THEN 2 WHEN {{ row }}.last_seq <= 10 THEN 3
    WHEN {{ row }}.last_seq <= 20 THEN 4 WHEN {{ row }}.last_seq > 20 THEN 5 END
{%- endmacro %}
{# Whether what is kept is still that of the watermark by which a report was asked for: a fold may have come between. #}
{% macro current(report) -%}
SELECT FROM chatledger_reports WHERE report = '{{ report }}' AND time_zone = :time_zone AND folded_through = :folded_through
    AND NOT EXISTS (SELECT FROM chatledger_report_session_changes WHERE session_id IS NULL)
{%- endmacro %}

--! Begin -> (mine bool)
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- The lock of whoever folds, until the end of the transaction. The number is a random one.
SELECT pg_try_advisory_xact_lock(3190846120775932571) AS mine

--! ReadPosition -> Position
--? read KeepReports, each tenant's, since what is kept is all tenants'
-- Up to which transaction a fold may go: all before have ended, and are seen. And whether what is kept can be gone on with.
SELECT {{ Position }}

--! Watermarks -> Watermark
--? read KeepReports, each tenant's, since what is kept is all tenants'
-- How far each report has come.
SELECT {{ Watermark }} FROM chatledger_reports ORDER BY report, time_zone

--! Forget
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- Nothing is kept any more.
WITH a AS (DELETE FROM chatledger_reports), b AS (DELETE FROM chatledger_report_days),
    c AS (DELETE FROM chatledger_report_session_days), d AS (DELETE FROM chatledger_report_documents),
    e AS (DELETE FROM chatledger_report_document_days), f AS (DELETE FROM chatledger_report_sessions),
    g AS (DELETE FROM chatledger_report_lengths), h AS (DELETE FROM chatledger_report_document_months)
SELECT

--! Add(reports text[], time_zones text[])
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- Reports that aren't kept yet, with nothing counted.
INSERT INTO chatledger_reports (report, time_zone, folded_through, origin)
SELECT report, time_zone, 0, chatledger_report_origin() FROM unnest(:reports, :time_zones) AS t (report, time_zone)
ON CONFLICT DO NOTHING

--! FoldVolume(time_zone text, from int8, to int8)
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- The messages of the transactions from one to another are counted, and what has changed of those before.
WITH delta AS (
    SELECT tenant_id, session_id, day, sum(messages) AS messages FROM (
        {{ messages_by_day(":time_zone", "m.inserted_by >= :from AND m.inserted_by < :to") }}
        UNION ALL
        SELECT c.tenant_id, c.session_id, {{ day("c", ":time_zone") }}, c.change FROM {{ changed_messages(":from") }}
        UNION ALL
        SELECT tenant_id, session_id, day, -messages FROM chatledger_report_session_days
        WHERE time_zone = :time_zone AND session_id IN ({{ removed }})
    ) t GROUP BY tenant_id, session_id, day HAVING sum(messages) <> 0
), known AS (
    SELECT d.tenant_id, d.session_id, d.day, d.messages, coalesce(k.messages, 0) AS before,
        coalesce(k.messages, 0) + d.messages AS after
    FROM delta d LEFT JOIN chatledger_report_session_days k ON k.session_id = d.session_id AND k.time_zone = :time_zone
        AND k.day = d.day AND k.tenant_id = d.tenant_id
), stored AS (
    INSERT INTO chatledger_report_session_days AS k (session_id, time_zone, day, tenant_id, messages)
    SELECT session_id, :time_zone, day, tenant_id, after FROM known WHERE after <> 0
    ON CONFLICT (session_id, time_zone, day, tenant_id) DO UPDATE SET messages = excluded.messages
), gone AS (
    DELETE FROM chatledger_report_session_days k USING known n
    WHERE n.after = 0 AND k.session_id = n.session_id AND k.time_zone = :time_zone AND k.day = n.day
        AND k.tenant_id = n.tenant_id
)
INSERT INTO chatledger_report_days AS k (tenant_id, time_zone, day, messages, sessions)
SELECT tenant_id, :time_zone, day, sum(messages), sum((after > 0)::int - (before > 0)::int)
FROM known GROUP BY tenant_id, day
ON CONFLICT (tenant_id, time_zone, day) DO UPDATE SET
    messages = k.messages + excluded.messages, sessions = k.sessions + excluded.sessions

--! FoldDocuments(from int8, to int8)
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- The citations of the transactions from one to another are counted, and what has changed of those before.
WITH delta AS (
    SELECT tenant_id, day, document_id, sum(change) AS citations,
        coalesce(sum(change) FILTER (WHERE score IS NOT NULL), 0) AS scores, coalesce(sum(change * score), 0) AS score_sum
    FROM (
        SELECT c.tenant_id, {{ day("c", "'UTC'") }} AS day, c.document_id, 1 AS change, {{ score("c") }} AS score
        FROM message_citations c WHERE c.inserted_by >= :from AND c.inserted_by < :to
        UNION ALL
        SELECT c.tenant_id, {{ day("c", "'UTC'") }}, c.document_id, c.change, {{ score("c") }}
        FROM chatledger_report_citation_changes c WHERE c.inserted_by < :from
    ) t GROUP BY tenant_id, day, document_id
), by_day AS (
    INSERT INTO chatledger_report_document_days AS k (tenant_id, day, document_id, citations, scores, score_sum)
    -- In the order in which they are read.
    SELECT tenant_id, day, document_id, citations, scores, score_sum FROM delta ORDER BY tenant_id, day, document_id
    ON CONFLICT (tenant_id, day, document_id) DO UPDATE SET citations = k.citations + excluded.citations,
        scores = k.scores + excluded.scores, score_sum = k.score_sum + excluded.score_sum
), by_month AS (
    INSERT INTO chatledger_report_document_months AS k (tenant_id, month, document_id, citations, scores, score_sum)
    SELECT tenant_id, date_trunc('month', day::timestamp)::date AS month, document_id,
        sum(citations), sum(scores), sum(score_sum)
    FROM delta GROUP BY tenant_id, month, document_id ORDER BY tenant_id, month, document_id
    ON CONFLICT (tenant_id, month, document_id) DO UPDATE SET citations = k.citations + excluded.citations,
        scores = k.scores + excluded.scores, score_sum = k.score_sum + excluded.score_sum
)
INSERT INTO chatledger_report_documents AS k (tenant_id, document_id, citations, scores, score_sum)
SELECT tenant_id, document_id, sum(citations), sum(scores), sum(score_sum) FROM delta GROUP BY tenant_id, document_id
ON CONFLICT (tenant_id, document_id) DO UPDATE SET citations = k.citations + excluded.citations,
    scores = k.scores + excluded.scores, score_sum = k.score_sum + excluded.score_sum

--! FoldLengths(from int8, to int8)
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- The sessions that got messages from the transactions from one to another are counted as they are, and no longer as they were. From
-- the beginning, all sessions.
WITH touched AS (
    SELECT session_id FROM messages WHERE inserted_by >= :from AND inserted_by < :to AND :from > 0
    UNION SELECT id FROM chat_sessions WHERE :from = 0
    UNION SELECT session_id FROM chatledger_report_session_changes WHERE session_id IS NOT NULL
), known AS (
    SELECT t.session_id, s.tenant_id, s.created_at, {{ bucket("s") }} AS bucket,
        k.tenant_id AS old_tenant_id, k.created_at AS old_created_at, k.bucket AS old_bucket
    FROM touched t LEFT JOIN chat_sessions s ON s.id = t.session_id AND s.last_seq > 0
        LEFT JOIN chatledger_report_sessions k ON k.session_id = t.session_id
    WHERE (s.tenant_id, s.created_at, {{ bucket("s") }}) IS DISTINCT FROM (k.tenant_id, k.created_at, k.bucket)
), stored AS (
    INSERT INTO chatledger_report_sessions AS k (session_id, tenant_id, created_at, bucket)
    SELECT session_id, tenant_id, created_at, bucket FROM known WHERE bucket IS NOT NULL
    ON CONFLICT (session_id) DO UPDATE SET
        tenant_id = excluded.tenant_id, created_at = excluded.created_at, bucket = excluded.bucket
), gone AS (
    DELETE FROM chatledger_report_sessions k USING known n WHERE n.bucket IS NULL AND k.session_id = n.session_id
)
INSERT INTO chatledger_report_lengths AS k (tenant_id, day, bucket, sessions)
SELECT tenant_id, day, bucket, sum(change) FROM (
    SELECT tenant_id, {{ day("n", "'UTC'") }} AS day, bucket, 1 AS change FROM known n WHERE bucket IS NOT NULL
    UNION ALL
    SELECT old_tenant_id, (old_created_at AT TIME ZONE 'UTC')::date, old_bucket, -1 FROM known WHERE old_bucket IS NOT NULL
) t GROUP BY tenant_id, day, bucket HAVING sum(change) <> 0
ON CONFLICT (tenant_id, day, bucket) DO UPDATE SET sessions = k.sessions + excluded.sessions

--! ForgetUncited
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- Documents that lost a citation, and have none left: no name of them is kept that nobody uses.
WITH gone AS (
    SELECT DISTINCT tenant_id, document_id, {{ day("c", "'UTC'") }} AS day FROM chatledger_report_citation_changes c
), a AS (
    DELETE FROM chatledger_report_documents k USING gone g
    WHERE k.tenant_id = g.tenant_id AND k.document_id = g.document_id AND k.citations = 0
), b AS (
    DELETE FROM chatledger_report_document_days k USING gone g
    WHERE k.tenant_id = g.tenant_id AND k.day = g.day AND k.document_id = g.document_id AND k.citations = 0
), c AS (
    DELETE FROM chatledger_report_document_months k USING gone g
    WHERE k.tenant_id = g.tenant_id AND k.month = date_trunc('month', g.day::timestamp)::date
        AND k.document_id = g.document_id AND k.citations = 0
)
SELECT

--! ForgetChanges
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- The changes that this snapshot sees are folded in, by every report.
WITH a AS (DELETE FROM chatledger_report_message_changes), b AS (DELETE FROM chatledger_report_citation_changes),
    c AS (DELETE FROM chatledger_report_session_changes)
SELECT

--! Advance(reports text[], time_zones text[], through int8[])
--? write KeepReports, each tenant's, since what is kept is all tenants'
-- The watermarks are where the fold has come to.
UPDATE chatledger_reports r SET folded_through = t.through
FROM unnest(:reports, :time_zones, :through) AS t (report, time_zone, through)
WHERE r.report = t.report AND r.time_zone = t.time_zone

--! CountKept -> CountedReport
--? read KeepReports, each tenant's, since what is kept is all tenants'
-- What is kept, for whoever has it rebuilt.
SELECT {{ CountedReport }} FROM (
    SELECT 'messages by day in ' || z.time_zone AS report, sum(k.messages) AS counted, count(k.day) AS rows
    FROM chatledger_reports z LEFT JOIN chatledger_report_days k ON k.time_zone = z.time_zone
    WHERE z.report = 'volume' GROUP BY z.time_zone
    UNION ALL
    SELECT 'citations by document and day', sum(citations), count(*) FROM chatledger_report_document_days
    UNION ALL
    SELECT 'sessions by length', count(*), (SELECT count(*) FROM chatledger_report_lengths) FROM chatledger_report_sessions
) r ORDER BY r.report

--! FindKept(report text, time_zone text, since timestamptz?) -> KeptReport
--? plan Analyze, each tenant's, since how far a report has come is all tenants'
-- A report that is kept, by its time zone's name in whatever case; with the first day of the zone's that lies behind `since` as a
-- whole, and a time by which no earlier day goes on. Where clocks are set back at midnight, a day may begin twice: since 1900 by
-- less than three hours, before by up to a day.
SELECT {{ KeptReport }} FROM chatledger_reports r
CROSS JOIN LATERAL (
    SELECT CASE WHEN r.time_zone = 'UTC' THEN 0 WHEN :since < timestamptz '1900-01-01 00:00:00+00' THEN 1500 ELSE 180 END AS minutes
) j CROSS JOIN LATERAL (
    SELECT coalesce(1 + max(((:since - minute * interval '1 minute' - interval '1 microsecond') AT TIME ZONE r.time_zone)::date),
        '-infinity') AS day
    FROM generate_series(0, j.minutes) AS g (minute)
) f
WHERE r.report = :report AND lower(r.time_zone) = lower(:time_zone) AND r.folded_through > 0
    AND r.origin = chatledger_report_origin() AND r.folded_through <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    AND NOT EXISTS (SELECT FROM chatledger_report_session_changes WHERE session_id IS NULL)

--! KeptVolume(time_zone text, folded_through int8, since timestamptz?, first_day text, whole_from timestamptz?) -> KeptDay
--? plan Analyze, each user's, since reports are a service's alone
-- Messages by day: what is kept, with what was inserted and changed since, and before the first whole day the messages themselves.
-- A row at least, unless a fold has come between. Without `since` no message is of a first part, which PostgreSQL has to see by an
-- index: it plans what it knows to be empty like a read of the whole table, and compiles that.
WITH delta AS (
    SELECT session_id, day, sum(messages) AS messages FROM (
        SELECT session_id, day, messages FROM (
            {{ messages_by_day(":time_zone", "m.inserted_by >= :folded_through") }}
        ) live WHERE tenant_id = :tenant
        UNION ALL
        SELECT c.session_id, {{ day("c", ":time_zone") }}, c.change
        FROM {{ changed_messages(":folded_through") }} AND c.tenant_id = :tenant
        UNION ALL
        SELECT session_id, day, -messages FROM chatledger_report_session_days
        WHERE tenant_id = :tenant AND time_zone = :time_zone AND session_id IN ({{ removed }})
    ) t WHERE day >= :first_day::text::date GROUP BY session_id, day
), counted AS (
    SELECT day, messages, sessions FROM chatledger_report_days
    WHERE tenant_id = :tenant AND time_zone = :time_zone AND day >= :first_day::text::date
    UNION ALL
    SELECT d.day, sum(d.messages),
        sum((coalesce(k.messages, 0) + d.messages > 0)::int - (coalesce(k.messages, 0) > 0)::int)
    FROM delta d LEFT JOIN chatledger_report_session_days k ON k.session_id = d.session_id AND k.time_zone = :time_zone
        AND k.day = d.day AND k.tenant_id = :tenant
    GROUP BY d.day
    UNION ALL
    SELECT day, sum(messages), count(*) FROM (
        {{ messages_by_day(":time_zone", "m.created_at >= coalesce(:since, 'infinity') AND m.created_at < coalesce(:whole_from, '-infinity')") }}
    ) part WHERE tenant_id = :tenant AND day < :first_day::text::date GROUP BY day
)
SELECT {{ KeptDay }} FROM ({{ current("volume") }}) current LEFT JOIN (
    SELECT to_char(day, 'YYYY-MM-DD') AS day, sum(messages)::bigint AS messages, sum(sessions)::bigint AS sessions
    FROM counted GROUP BY counted.day HAVING sum(messages) > 0
) k ON true ORDER BY k.day

--! KeptDocuments(time_zone text, folded_through int8, since timestamptz?, first_day text, whole_from timestamptz?, limit int8)
--!     -> KeptDocument
--? plan Analyze, each user's, since reports are a service's alone
-- The most cited documents, likewise. Of all time they are kept as one number each, and of whole months. Counts are added as float8, exact below 2^53:
-- the sum of bigints is a numeric, which takes several times as long.
WITH delta AS (
    SELECT {{ day("c", "'UTC'") }} AS day, c.document_id, 1 AS change, {{ score("c") }} AS score
    FROM message_citations c WHERE c.tenant_id = :tenant AND c.inserted_by >= :folded_through
    UNION ALL
    SELECT {{ day("c", "'UTC'") }}, c.document_id, c.change, {{ score("c") }}
    FROM chatledger_report_citation_changes c WHERE c.tenant_id = :tenant AND c.inserted_by < :folded_through
), counted AS (
    SELECT document_id, citations, scores, score_sum FROM chatledger_report_documents
    WHERE tenant_id = :tenant AND :since::timestamptz IS NULL
    UNION ALL
    SELECT document_id, citations, scores, score_sum FROM chatledger_report_document_days
    WHERE tenant_id = :tenant AND :since::timestamptz IS NOT NULL
        AND day >= :first_day::text::date AND day < {{ first_month() }}
    UNION ALL
    SELECT document_id, citations, scores, score_sum FROM chatledger_report_document_months
    WHERE tenant_id = :tenant AND :since::timestamptz IS NOT NULL AND month >= {{ first_month() }}
    UNION ALL
    SELECT document_id, change, CASE WHEN score IS NULL THEN 0 ELSE change END, coalesce(change * score, 0)
    FROM delta WHERE day >= :first_day::text::date
    UNION ALL
    SELECT c.document_id, 1, CASE WHEN {{ score("c") }} IS NULL THEN 0 ELSE 1 END, coalesce({{ score("c") }}, 0)
    FROM message_citations c WHERE c.tenant_id = :tenant AND c.created_at >= coalesce(:since, 'infinity') AND c.created_at < coalesce(:whole_from, '-infinity')
        AND {{ day("c", "'UTC'") }} < :first_day::text::date
), top AS (
    SELECT document_id, sum(citations::float8)::bigint AS citations,
        coalesce((sum(score_sum) / nullif(sum(scores::float8), 0)::numeric)::float8, 0) AS mean
    FROM counted GROUP BY document_id HAVING sum(citations::float8) > 0
    ORDER BY citations DESC, document_id LIMIT :limit
)
SELECT {{ KeptDocument }} FROM ({{ current("documents") }}) current LEFT JOIN top k ON true
LEFT JOIN documents d ON d.tenant_id = :tenant AND d.id = k.document_id
ORDER BY k.citations DESC, k.document_id

--! KeptLengths(time_zone text, folded_through int8, since timestamptz?, first_day text, whole_from timestamptz?) -> KeptLength
--? plan Analyze, each user's, since reports are a service's alone
-- Sessions by how many messages they have: those that were touched since are counted as they are, and no longer as they were.
WITH touched AS (
    SELECT session_id FROM messages WHERE inserted_by >= :folded_through
    UNION SELECT session_id FROM chatledger_report_session_changes
), counted AS (
    SELECT bucket, sessions FROM chatledger_report_lengths WHERE tenant_id = :tenant AND day >= :first_day::text::date
    UNION ALL
    SELECT s.bucket, 1 FROM chatledger_report_sessions s WHERE s.tenant_id = :tenant AND s.created_at >= :since
        AND s.created_at < :whole_from AND {{ day("s", "'UTC'") }} < :first_day::text::date
    UNION ALL
    SELECT s.bucket, -1 FROM touched t JOIN chatledger_report_sessions s ON s.session_id = t.session_id
    WHERE s.tenant_id = :tenant AND (:since::timestamptz IS NULL OR s.created_at >= :since)
    UNION ALL
    SELECT {{ bucket("s") }}, 1 FROM touched t JOIN chat_sessions s ON s.id = t.session_id
    WHERE s.tenant_id = :tenant AND s.last_seq > 0 AND (:since::timestamptz IS NULL OR s.created_at >= :since)
)
SELECT {{ KeptLength }} FROM ({{ current("lengths") }}) current CROSS JOIN
    (VALUES (1, '1'), (2, '2-5'), (3, '6-10'), (4, '11-20'), (5, '20+')) AS b (bucket, label)
LEFT JOIN (SELECT bucket, sum(sessions)::bigint AS sessions FROM counted GROUP BY bucket) k ON k.bucket = b.bucket
ORDER BY b.bucket
