{# The columns of macros/columns.sql for a longer bucket, from those of the shorter buckets within it. #}
{% macro merged_coverage() -%}
sum(n_readings)::bigint as n_readings,
    min(first_at) as first_at,
    max(last_at) as last_at,
    sum(covered_s) as covered_s
{%- endmacro %}

{% macro merged_gauge(name) -%}
coalesce(
        sum({{ name }}_area) / nullif(sum({{ name }}_weight_s), 0), sum({{ name }}_sum) / nullif(sum({{ name }}_count), 0)
    ) as {{ name }}_mean,
    sum({{ name }}_sum) / nullif(sum({{ name }}_count), 0)::float8 as {{ name }}_sample_mean,
    min({{ name }}_min) as {{ name }}_min,
    max({{ name }}_max) as {{ name }}_max,
    {{ _first(name ~ '_first') }} as {{ name }}_first,
    {{ _last(name ~ '_last') }} as {{ name }}_last,
    sum({{ name }}_count)::bigint as {{ name }}_count,
    sum({{ name }}_sum) as {{ name }}_sum,
    sum({{ name }}_area) as {{ name }}_area,
    sum({{ name }}_weight_s) as {{ name }}_weight_s
{%- endmacro %}

{% macro merged_counter(name, moved, gap) -%}
sum({{ moved }}) as {{ moved }},
    sum({{ gap }}) as {{ gap }},
    {{ _first(name ~ '_first') }} as {{ name }}_first,
    {{ _last(name ~ '_last') }} as {{ name }}_last,
    sum({{ name }}_events)::bigint as {{ name }}_events
{%- endmacro %}

{% macro merged_state(name) -%}
hl.merged_seconds({{ name }}_seconds) as {{ name }}_seconds,
    sum({{ name }}_changes)::bigint as {{ name }}_changes
{%- endmacro %}

{% macro merged_running(name, seconds, starts) -%}
sum({{ seconds }}) as {{ seconds }},
    sum({{ starts }})::bigint as {{ starts }}
{%- endmacro %}

{% macro merged_label(name) -%}
{{ _last(name) }} as {{ name }}
{%- endmacro %}

{% macro _first(column) -%}
(array_agg({{ column }} order by bucket) filter (where {{ column }} is not null))[1]
{%- endmacro %}

{% macro _last(column) -%}
(array_agg({{ column }} order by bucket desc) filter (where {{ column }} is not null))[1]
{%- endmacro %}
