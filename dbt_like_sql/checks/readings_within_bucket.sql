/*
name: readings_within_bucket
description: The first and the last reading of a bucket lie in it.
model: "*"
severity: error
*/
select device_id, bucket, bucket_end, first_at, last_at
from {{ ref(model) }}
where {{ recent() }}
    and (first_at < bucket or last_at >= bucket_end)
