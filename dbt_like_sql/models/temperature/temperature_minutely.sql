/*
name: temperature_minutely
description: Temperature and humidity of each room in each minute.
materialization: function
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: minute
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
