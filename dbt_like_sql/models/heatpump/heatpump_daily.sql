/*
name: heatpump_daily
description: "The heat pump in each local day: time in each mode, compressor, energy, temperatures, degree days."
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: day
columns:
  runtime_s: For how long the compressor ran, the sum of compressor_running_true_s (s)
  starts: How often the compressor started, the sum of compressor_running_starts
  energy_kwh: Electrical energy drawn, from its power while that is known (kWh)
  degree_days: How far the measured temperature stayed below the target, times how long (K·d)
*/
select
    device_id,
    {{ bucket() }} as bucket,
    {{ merged_coverage() }},
    {{ merged_state('mode') }},
    {{ merged_gauge('target_temp') }},
    {{ merged_gauge('actual_temp') }},
    {{ merged_running('compressor_running', seconds='compressor_running_true_s', starts='compressor_running_starts') }},
    {{ merged_gauge('power_consumption_kw') }},
    {{ merged_gauge('heat_output_kw') }},
    sum(compressor_running_true_s) as runtime_s,
    sum(compressor_running_starts)::bigint as starts,
    sum(energy_kwh) as energy_kwh,
    sum(degree_days) as degree_days
from {{ ref('heatpump_hourly') }}
group by device_id, {{ bucket() }}
