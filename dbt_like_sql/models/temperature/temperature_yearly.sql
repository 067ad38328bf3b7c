/*
name: temperature_yearly
description: Temperature and humidity of each room in each local year.
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: year
*/
select
    device_id,
    {{ bucket() }} as bucket,
    {{ merged_coverage() }},
    {{ merged_label('room') }},
    {{ merged_gauge('temperature') }},
    {{ merged_gauge('humidity') }}
from {{ ref('temperature_monthly') }}
group by device_id, {{ bucket() }}
