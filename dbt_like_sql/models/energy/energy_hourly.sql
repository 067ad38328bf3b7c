/*
name: energy_hourly
description: What each meter moved in each hour, with power, voltage and current.
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
    {{ counter('total_energy_kwh', moved='consumption_kwh', gap='gap_kwh') }},
    {{ gauge('power_kw') }},
    {{ gauge('voltage') }},
    {{ gauge('current') }}
from {{ pieces(source('energy')) }}
group by device_id, bucket
