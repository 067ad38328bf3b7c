/*
name: energy_daily
description: What each meter moved in each of the household's days, with power, voltage and current.
materialization: continuous_aggregate
grain: [device_id, bucket]
time_column: bucket
bucket: day
columns:
  device_id: Which meter
  bucket: Begin of the local day, inclusive
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
