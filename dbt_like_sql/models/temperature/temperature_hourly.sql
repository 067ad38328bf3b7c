/*
name: temperature_hourly
description: Temperature and humidity of each room in each hour.
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: hour
retention: 2 years
*/
select
    device_id,
    bucket,
    {{ coverage() }},
    {{ label('room') }},
    {{ gauge('temperature') }},
    {{ gauge('humidity') }}
from {{ pieces(source('temperature')) }}
group by device_id, bucket
