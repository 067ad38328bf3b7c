/*
name: no_future_bucket
description: No bucket begins in the future; one that does comes from a device's clock that is ahead.
model: "*"
severity: warn
*/
select device_id, bucket, n_readings, last_at
from {{ ref(model) }}
where bucket > now() + interval '1 hour'
