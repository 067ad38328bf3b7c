/*
name: temperature_monthly
description: Temperature and humidity of each room in each local month.
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: month
*/
select
    device_id,
    {{ bucket() }} as bucket,
    {{ merged_coverage() }},
    {{ merged_label('room') }},
    {{ merged_gauge('temperature') }},
    {{ merged_gauge('humidity') }}
from {{ ref('temperature_daily') }}
group by device_id, {{ bucket() }}
