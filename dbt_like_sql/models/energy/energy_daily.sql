/*
name: energy_daily
description: What each meter moved in each local day, with power, voltage and current.
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
    {{ merged_counter('total_energy_kwh', moved='consumption_kwh', gap='gap_kwh') }},
    {{ merged_gauge('power_kw') }},
    {{ merged_gauge('voltage') }},
    {{ merged_gauge('current') }}
from {{ ref('energy_hourly') }}
group by device_id, {{ bucket() }}
