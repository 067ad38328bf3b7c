{#
Columns of a bucket from the pieces of readings. Each is a state that can be merged: macros/merged.sql makes the
same columns of a longer bucket from those of shorter ones.
#}
{% macro coverage() -%}
count(at) as n_readings,
    min(at) as first_at,
    max(at) as last_at,
    coalesce(sum(seconds), 0) as covered_s
{%- endmacro %}

{% macro gauge(name) -%}
{% set known = field(name) -%}
coalesce(
        sum(held_{{ name }} * seconds) / nullif(sum(seconds) filter (where held_{{ name }} is not null), 0),
        sum({{ name }}) / nullif(count({{ name }}), 0)
    ) as {{ name }}_mean,
    sum({{ name }}) / nullif(count({{ name }}), 0) as {{ name }}_sample_mean,
    min({{ name }}) as {{ name }}_min,
    max({{ name }}) as {{ name }}_max,
    max(first_{{ name }}) as {{ name }}_first,
    max(last_{{ name }}) as {{ name }}_last,
    count({{ name }}) as {{ name }}_count,
    sum({{ name }}) as {{ name }}_sum,
    sum(held_{{ name }} * seconds) as {{ name }}_area,
    coalesce(sum(seconds) filter (where held_{{ name }} is not null), 0) as {{ name }}_weight_s
{%- endmacro %}

{% macro counter(name, moved, gap) -%}
coalesce(sum(moved_{{ name }}), 0) as {{ moved }},
    coalesce(sum(moved_{{ name }}) filter (where is_gap), 0) as {{ gap }},
    max(first_{{ name }}) as {{ name }}_first,
    max(last_{{ name }}) as {{ name }}_last,
    count(*) filter (where ends and {{ event(field(name)) }}) as {{ name }}_events
{%- endmacro %}

{# Whether a counter did something in a step that a person should see: fell, beyond its jitter, or jumped. #}
{% macro event(f) -%}
(next_{{ f.name }} < held_{{ f.name }} * (1 - {{ f.jitter_share }})
        {%- if f.max_rate_per_hour %} or next_{{ f.name }} - held_{{ f.name }} > {{ f.max_rate_per_hour }}
            and next_{{ f.name }} - held_{{ f.name }}
                > {{ f.max_rate_per_hour }} * date_part('epoch', next_at - step_at) / 3600{% endif %})
{%- endmacro %}

{% macro state(name) -%}
{% set known = field(name) -%}
hl.seconds_by(held_{{ name }}::text, seconds) as {{ name }}_seconds,
    count(*) filter (where ends and next_{{ name }} <> held_{{ name }}) as {{ name }}_changes
{%- endmacro %}

{# A state that is true or false: how long it was true, and how often it became so. #}
{% macro running(name, seconds, starts) -%}
{% set known = field(name) -%}
coalesce(sum(seconds) filter (where held_{{ name }}), 0) as {{ seconds }},
    count(*) filter (where ends and next_{{ name }} and not held_{{ name }}) as {{ starts }}
{%- endmacro %}

{% macro label(name) -%}
{% set known = field(name) -%}
max(last_{{ name }}{{ '::text' if is_boolean(name) }}){{ '::boolean' if is_boolean(name) }} as {{ name }}
{%- endmacro %}
