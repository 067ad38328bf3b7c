/*
name: marks_are_worked_off
description: Closed buckets do not stay dirty for long; readers of dirty ones wait for what is computed then.
model: "*"
severity: warn
*/
select device_id, count(*) as n_marks, min(since) as since, min(bucket) as first_bucket
from hl.dirty
where model = '{{ model }}' and since < now() - interval '6 hours' and bucket < now() - interval '{{ length }}'
group by device_id
