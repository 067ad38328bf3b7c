/*
name: heatpump_minutely
description: "The heat pump in each minute: time in each mode, compressor, energy, temperatures, degree days."
materialization: function
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: minute
columns:
  energy_kwh: Electrical energy drawn, from its power while that is known (kWh)
  degree_days: How far the measured temperature stayed below the target, times how long (K·d)
*/
select
    device_id,
    bucket,
    {{ coverage() }},
    {{ state('mode') }},
    {{ gauge('target_temp') }},
    {{ gauge('actual_temp') }},
    {{ running('compressor_running', seconds='compressor_running_true_s', starts='compressor_running_starts') }},
    {{ gauge('power_consumption_kw') }},
    {{ gauge('heat_output_kw') }},
    coalesce(sum(held_power_consumption_kw * seconds), 0) / 3600 as energy_kwh,
    coalesce(sum(greatest(held_target_temp - held_actual_temp, 0) * seconds), 0) / 86400 as degree_days
from {{ pieces(source('heatpump')) }}
group by device_id, bucket
