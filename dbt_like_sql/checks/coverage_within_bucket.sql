/*
name: coverage_within_bucket
description: Readings cover between nothing and the whole of a bucket.
model: "*"
severity: error
*/
select device_id, bucket, bucket_end, covered_s
from {{ ref(model) }}
where {{ recent() }}
    and (covered_s < 0 or covered_s > date_part('epoch', bucket_end - bucket) + 0.001)
