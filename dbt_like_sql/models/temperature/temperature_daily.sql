/*
name: temperature_daily
description: Temperature and humidity of each room in each local day.
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: day
*/
select
    device_id,
    {{ bucket() }} as bucket,
    {{ merged_coverage() }},
    {{ merged_label('room') }},
    {{ merged_gauge('temperature') }},
    {{ merged_gauge('humidity') }}
from {{ ref('temperature_hourly') }}
group by device_id, {{ bucket() }}
