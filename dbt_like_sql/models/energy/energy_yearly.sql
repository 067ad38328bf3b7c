/*
name: energy_yearly
description: What each meter moved in each local year, with power, voltage and current.
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
    {{ merged_counter('total_energy_kwh', moved='consumption_kwh', gap='gap_kwh') }},
    {{ merged_gauge('power_kw') }},
    {{ merged_gauge('voltage') }},
    {{ merged_gauge('current') }}
from {{ ref('energy_monthly') }}
group by device_id, {{ bucket() }}
