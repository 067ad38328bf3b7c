/*
name: mean_within_extremes
description: The plain mean of a gauge lies between its least and its greatest reading.
model: "*"
severity: error
*/
{% for name in gauges %}
select '{{ name }}' as gauge, device_id, bucket, {{ name }}_min as least, {{ name }}_sample_mean as mean, {{ name }}_max as greatest
from {{ ref(model) }}
where {{ recent() }}
    and ({{ name }}_min > {{ name }}_sample_mean + 1e-6 * greatest(1, abs({{ name }}_sample_mean))
        or {{ name }}_max < {{ name }}_sample_mean - 1e-6 * greatest(1, abs({{ name }}_sample_mean)))
{{ 'union all' if not loop.last }}
{% endfor %}
