/*
name: no_negative_count
description: A bucket has no readings or some, and the first of them is not behind the last.
model: "*"
severity: error
*/
select device_id, bucket, n_readings, first_at, last_at
from {{ ref(model) }}
where {{ recent() }}
    and (n_readings < 0 or first_at > last_at or (n_readings > 0) <> (first_at is not null))
