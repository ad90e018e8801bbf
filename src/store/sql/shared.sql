{# What the statements of several files have in common. #}
{#- A JSONB column after an update: by a text, or NULL, which keeps it; and whether that text replaces it. -#}
{% macro merged_json(column, value, replace) -%}
CASE WHEN {{ value }}::text IS NULL THEN {{ column }} WHEN {{ replace }}::boolean THEN {{ value }}::jsonb
    ELSE ({{ column }} || {{ value }}::jsonb)
        - ARRAY(SELECT key FROM jsonb_each({{ value }}::jsonb) WHERE value = 'null') END
{%- endmacro %}
{#- The sessions `s` that the caller sees. -#}
{% macro visible_sessions() -%}
s.tenant_id = :tenant AND (:end_user::uuid IS NULL OR s.user_id = :end_user)
{%- endmacro %}
{#- What a JSON column has in bytes as text, about. What is stored compressed has to be looked at; it is as good as never
small, and seldom there. -#}
{% macro json_size(column) -%}
CASE WHEN pg_column_compression({{ column }}) IS NULL THEN pg_column_size({{ column }})
    ELSE octet_length({{ column }}::text) END
{%- endmacro %}
{#- What a message `m` weighs (domain::message), told without reading its texts; its citations aside. -#}
{% macro message_size() -%}
coalesce(octet_length(m.content), 0) + coalesce(octet_length(m.selected_text), 0) + coalesce(octet_length(m.payload), 0)
    + coalesce({{ json_size("m.metadata") }}, 0)
{%- endmacro %}
{#- The citations `c` of a message `m` as four arrays, one row; all NULL where there are none. -#}
{% macro join_citations() -%}
LEFT JOIN LATERAL (
    SELECT array_agg(document_id) AS documents, array_agg(coalesce(chunk_id, '')) AS chunks,
        array_agg(coalesce(score, 0)) AS scores, array_agg(citation_index) AS indexes
    FROM (SELECT * FROM message_citations mc WHERE mc.message_id = m.id ORDER BY citation_index) ordered
) c ON true
{%- endmacro %}
{#- What the citations that were joined weigh: of each a struct of 64 bytes besides its texts. -#}
{% macro joined_citations_size() -%}
coalesce(pg_column_size(c.documents) + pg_column_size(c.chunks) + 64 * cardinality(c.indexes), 0)
{%- endmacro %}
{#- The citations of a page's rows, which have been read with them. -#}
{% macro take_citations(page) -%}
CROSS JOIN LATERAL (SELECT {{ page }}.documents, {{ page }}.chunks, {{ page }}.scores, {{ page }}.indexes) c
{%- endmacro %}
{#- What makes a retry the same message (domain::message::Identity): the columns of a row that agree. -#}
{% macro identity(row) -%}
({{ row }}.role, {{ row }}.content, {{ row }}.selected_text, {{ row }}.payload)
{%- endmacro %}
{#- The SHA-256 of a row's identity, as domain::message::Identity has it: each part with its length before it, `-` where it is
absent. -#}
{% macro identity_digest(row) -%}
sha256(convert_to(concat(
    {{ row }}.role, E'\n', octet_length({{ row }}.content), E'\n', {{ row }}.content, E'\n',
    coalesce(octet_length({{ row }}.selected_text)::text, '-'), E'\n', {{ row }}.selected_text, E'\n',
    coalesce(octet_length({{ row }}.payload)::text, '-'), E'\n'), 'UTF8') || coalesce({{ row }}.payload, ''::bytea))
{%- endmacro %}
