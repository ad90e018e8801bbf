-- The search in messages: of one session or one user, which are reached by their index and ranked on the fly, or of all of a
-- tenant's, which the opt-in index of `migrations/search` finds.
{% from "shared.sql" import visible_sessions, message_size, joined_citations_size, join_citations, take_citations %}
--: Hit
--:   message: Message
--:   available int8 = p.available
--:   session_title text = coalesce(p.title, '')
--:   rank float4 = p.rank
--:   snippet text = h.snippet
{# What of a text is searched: `to_tsvector` fails on a text whose words take more than 1 MiB. #}
{% macro searched(text) -%}
to_tsvector(:config_name::text::regconfig, left({{ text }}, 100000))
{%- endmacro %}
{# Between the two texts: a word that nobody can search for, so far from them that no phrase goes from one to the other. #}
{% set gap -%}
$$' ':1000$$::tsvector
{%- endset %}
{# The rows are below `:rank`, `:after_session` and `:after_seq`; `:max_bytes` is as for lists of messages. #}
{% macro page(within) -%}
WITH hits AS (
    SELECT m.id, m.session_id, m.seq, s.title, q.query, ts_rank(texts.vector, q.query) AS rank
    FROM chat_sessions s
    JOIN messages m ON m.session_id = s.id AND m.deleted_at IS NULL
    CROSS JOIN websearch_to_tsquery(:config_name::text::regconfig, :query) AS q (query)
    CROSS JOIN LATERAL (SELECT
        CASE WHEN :in_content THEN {{ searched("m.content") }} ELSE '' END
        || CASE WHEN :in_selected_text THEN {{ gap }} || {{ searched("coalesce(m.selected_text, '')") }} ELSE '' END
    ) AS texts (vector)
    WHERE {{ visible_sessions() }} AND {{ within }}
        AND (:roles::text[] IS NULL OR m.role = ANY(:roles)) AND texts.vector @@ q.query
), page AS (
    SELECT * FROM hits WHERE (rank, session_id, seq) < (:rank, :after_session, :after_seq)
    ORDER BY rank DESC, session_id DESC, seq DESC LIMIT :limit
), sized AS (
    SELECT p.*, c.*, count(*) OVER () AS available,
        coalesce(sum({{ message_size() }} + {{ joined_citations_size() }}) OVER (
            ORDER BY p.rank DESC, p.session_id DESC, p.seq DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM page p JOIN messages m ON m.id = p.id {{ join_citations() }}
)
SELECT {{ Hit }} FROM sized p JOIN messages m ON m.id = p.id {{ take_citations("p") }}
CROSS JOIN LATERAL (SELECT ts_headline(
    :config_name::text::regconfig,
    left(
        CASE WHEN :in_content AND (:in_selected_text IS FALSE OR {{ searched("m.content") }} @@ p.query)
            THEN m.content ELSE coalesce(m.selected_text, m.content) END,
        100000),
    p.query, 'MaxFragments=2, FragmentDelimiter= … ') AS snippet) h
WHERE p.before < :max_bytes
ORDER BY p.rank DESC, p.session_id DESC, p.seq DESC
{%- endmacro %}

--! InSession(config_name text, query text, roles text[]?, in_content bool, in_selected_text bool, rank float4,
--!     after_session uuid, after_seq int8, limit int8, max_bytes int8, session_id uuid?, user_id uuid?, config regconfig?)
--!     -> Hit
--? plan ReadMessages
-- A page of a session's hits; of a user's session, where one is named.
{{ page("s.id = :session_id AND (:user_id::uuid IS NULL OR s.user_id = :user_id)") }}

--! OfUser like InSession -> Hit
--? plan ReadMessages
-- A page of a user's hits.
{{ page("s.user_id = :user_id") }}

--! InTenant like InSession -> Hit
--? plan ReadMessages
-- A page of all hits. The configuration is given by its id as well: as a text it isn't a constant to the planner, and the
-- index wouldn't do. The expression is that of the index, content marked A and selected text B; a search in one of them
-- asks for words with that mark.
{% set found_by_index -%}
(setweight(to_tsvector(:config, left(m.content, 100000)), 'A') || {{ gap }}
    || setweight(to_tsvector(:config, left(coalesce(m.selected_text, ''), 100000)), 'B'))
@@ CASE WHEN :in_content AND :in_selected_text THEN q.query ELSE regexp_replace(q.query::text, $$('([^']|'')*')$$,
    CASE WHEN :in_content THEN $$\1:A$$ ELSE $$\1:B$$ END, 'g')::tsquery END
{%- endset %}
{{ page(found_by_index) }}

--! TenantIndex(config_name text) -> (config oid)
--? read ReadMessages, each tenant's, since it looks at the catalog
-- The id of a configuration, where the index is there and is for that one.
SELECT :config_name::text::regconfig::oid AS config FROM pg_index i
WHERE i.indexrelid = to_regclass('messages_search_idx') AND i.indisvalid
    AND strpos(pg_get_indexdef(i.indexrelid), format('to_tsvector(%L::regconfig', :config_name::text::regconfig)) > 0
