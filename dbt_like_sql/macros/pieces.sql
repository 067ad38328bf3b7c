{#
Readings of one device, cut at the borders of the buckets. A *step* leads from one reading to the next one. Within its
step a gauge or a state holds the value of the step's first reading, for max_gap_s at most, and a counter rises evenly,
over the last 31 days of a longer step. A *piece* is what a bucket holds of a step.

  at, step_at, next_at   time of the piece's reading (null: the step began before this bucket), of the step's two readings
  seconds                how long the value is known to hold within the bucket
  is_gap                 the step is longer than max_gap_s
  ends                   the step ends in this bucket
  <field>                value of the piece's reading; held_<field> of the step's first reading
  first_<field>, last_<field>   value of the bucket's first and last reading, null on all other pieces
  moved_<counter>        what the counter moved within the piece; next_<counter> is its value at the step's end

Steps within a bucket, nearly all of them, come from one pass along the primary key. Those across a border are found by
two look-ups for each border.
#}
{% macro pieces(stream) -%}
(
    with crossing as materialized (
        select distinct on (p.timestamp, n.timestamp)
            p.timestamp as step_at, n.timestamp as next_at,
            date_part('epoch', n.timestamp - p.timestamp) as step_s
            {%- for f in stream.fields %},
            p.{{ f.name }}, n.{{ f.name }} as next_{{ f.name }}{% endfor %}
        from (
            select generate_series({{ scope.start }}, {{ scope.end }} - interval '1 microsecond', {{ scope.step }}) as border
            union all select {{ scope.end }}
        ) as borders
        left join lateral {{ _nearest(stream, 'before', '<', 'desc') }} as p on true
        left join lateral {{ _nearest(stream, 'after', '>=', 'asc') }} as n on true
        where p.timestamp is not null or n.timestamp is not null
    ), steps as (
        select
            timestamp as at, lead(timestamp) over step as next_at,
            date_bin({{ scope.step }}, timestamp, {{ scope.start }}) as bucket
            {%- for f in stream.fields %},
            {{ f.name }}{% if f.kind in ('counter', 'state') %}, lead({{ f.name }}) over step as next_{{ f.name }}{% endif %}{% endfor %}
        from {{ scope.relation }}
        where device_id = {{ scope.device }} and timestamp >= {{ scope.start }} and timestamp < {{ scope.end }}
        window step as (order by timestamp)
    )
    select
        {{ scope.device }}::text as device_id, bucket, at, at as step_at, next_at, true as ends, next_at > at + interval '{{ stream.max_gap_s }} seconds' as is_gap,
        least(step_s, {{ stream.max_gap_s }}) as seconds
        {%- for f in stream.fields %},
        {{ f.name }}, {{ f.name }} as held_{{ f.name }}, null::{{ f.sql_type }} as first_{{ f.name }}, null::{{ f.sql_type }} as last_{{ f.name }}
        {%- if f.kind in ('counter', 'state') %}, next_{{ f.name }}{% endif %}
        {%- if f.kind == 'counter' %}, {{ _moved(stream, f, 'at') }} as moved_{{ f.name }}{% endif %}{% endfor %}
    from (select *, date_part('epoch', next_at - at) as step_s from steps) as steps
    where next_at < bucket + {{ scope.step }}
    union all
    select
        {{ scope.device }}::text, b.bucket, case when step_at >= b.bucket then step_at end, step_at, next_at, coalesce(next_at < b.bucket_end, false),
        coalesce(step_s > {{ stream.max_gap_s }}, false), c.seconds
        {%- for f in stream.fields %},
        case when step_at >= b.bucket then {{ f.name }} end, {{ f.name }},
        case when next_at < b.bucket_end then next_{{ f.name }} end, case when step_at >= b.bucket then {{ f.name }} end
        {%- if f.kind in ('counter', 'state') %}, next_{{ f.name }}{% endif %}
        {%- if f.kind == 'counter' %}, {{ _moved(stream, f, 'step_at') }} * c.share{% endif %}{% endfor %}
    from crossing
    cross join lateral (
        select s.bucket, least(s.bucket + {{ scope.step }}, {{ scope.end }}) as bucket_end
        from generate_series(
            date_bin({{ scope.step }}, greatest(coalesce(step_at, next_at), {{ scope.start }}), {{ scope.start }}),
            least(coalesce(next_at, step_at), {{ scope.end }} - interval '1 microsecond'), {{ scope.step }}) as s (bucket)
    ) as b
    cross join lateral (
        select
            coalesce(greatest(0, date_part('epoch',
                least(next_at, b.bucket_end, step_at + interval '{{ stream.max_gap_s }} seconds')
                - greatest(step_at, b.bucket))), 0)
            * (step_at is not null and next_at is not null)::int as seconds,
            coalesce(greatest(0, date_part('epoch',
                least(next_at, b.bucket_end) - greatest(step_at, b.bucket, next_at - {{ max_spread }})))
            / nullif(least(step_s, date_part('epoch', {{ max_spread }})), 0), 0)
            * (step_at is not null and next_at is not null)::int as share
    ) as c
    where step_at >= b.bucket or next_at < b.bucket_end or c.seconds > 0{% if stream.counters %} or c.share > 0{% endif %}
) as pieces
{%- endmacro %}

{# The nearest reading before a border, or from it on. #}
{% macro _nearest(stream, side, beyond, order) -%}
{% if scope.relation == 'public.' ~ stream.table -%}
hl.{{ side }}_{{ stream.table }}({{ scope.device }}, border)
{%- else -%}
(select * from {{ scope.relation }} where device_id = {{ scope.device }} and timestamp {{ beyond }} border
         order by timestamp {{ order }} limit 1)
{%- endif %}
{%- endmacro %}

{# What a counter moved in a whole step. Only a step that looks wrong takes the way through hl.moved. #}
{% macro _moved(stream, f, at) -%}
case when {{ _wrong(f, f.name) }}
     then hl.moved('{{ stream.name }}', '{{ f.name }}', {{ scope.device }}, next_at, {{ f.name }}, next_{{ f.name }},
                   step_s / 3600, {{ f.max_rate_per_hour or 'null' }}, {{ f.jitter_share }})
     else next_{{ f.name }} - {{ f.name }} end
{%- endmacro %}

{% macro _wrong(f, before) -%}
next_{{ f.name }} < {{ before }}
{%- if f.max_rate_per_hour %} or next_{{ f.name }} - {{ before }} > {{ f.max_rate_per_hour }}
          and next_{{ f.name }} - {{ before }} > {{ f.max_rate_per_hour }} * step_s / 3600{% endif %}
{%- endmacro %}
