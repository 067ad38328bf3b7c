/*
name: sums_of_the_level_below
description: A bucket has the readings, the coverage and the movement of the buckets within it.
model: "*"
severity: error
*/
{% if below %}
select upper.device_id, upper.bucket, upper.n_readings, lower.n_readings as n_readings_below
    {%- for name in moved %}, upper.{{ name }}, lower.{{ name }} as {{ name }}_below{% endfor %}

from (select * from {{ ref(model) }} where {{ recent() }}) as upper
left join lateral (
    select sum(n_readings) as n_readings, sum(covered_s) as covered_s
        {%- for name in moved %}, sum({{ name }}) as {{ name }}{% endfor %}

    from {{ ref(below) }} as below
    where below.device_id = upper.device_id and below.bucket >= upper.bucket and below.bucket < upper.bucket_end
) as lower on true
where upper.bucket >= coalesce((select floor from hl.floors where table_name = '{{ below }}'), '-infinity')
    and (upper.n_readings <> coalesce(lower.n_readings, 0)
        or abs(upper.covered_s - coalesce(lower.covered_s, 0)) > 0.001
        {%- for name in moved %}

        or abs(upper.{{ name }} - coalesce(lower.{{ name }}, 0)) > 1e-6 * greatest(1, abs(upper.{{ name }})){% endfor %})
{% endif %}
