/*
name: heatpump_hourly
description: "The heat pump in each hour: time in each mode, compressor, energy, temperatures, degree days."
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: hour
retention: 2 years
columns:
  device_id: Which heat pump
  bucket: Begin of the hour, inclusive
  n_readings: Readings in the hour
  first_at: Time of the first reading
  last_at: Time of the last reading
  covered_s: For how long readings tell the values (s)
  mode_seconds: Seconds in each mode (heating, cooling, hot_water, defrost, off), as a JSON object (s)
  mode_changes: How often the mode changed
  target_temp_mean: 'Temperature the controller aims for: mean, weighted by time (°C)'
  target_temp_sample_mean: 'Temperature the controller aims for: plain mean of the readings (°C)'
  target_temp_min: 'Temperature the controller aims for: least (°C)'
  target_temp_max: 'Temperature the controller aims for: greatest (°C)'
  target_temp_first: 'Temperature the controller aims for: at the first reading (°C)'
  target_temp_last: 'Temperature the controller aims for: at the last reading (°C)'
  target_temp_count: 'Temperature the controller aims for: readings that have it'
  target_temp_sum: 'Temperature the controller aims for: sum over the readings (°C)'
  target_temp_area: 'Temperature the controller aims for: value times seconds, over the time it is known (°C·s)'
  target_temp_weight_s: 'Temperature the controller aims for: for how long it is known (s)'
  actual_temp_mean: 'Temperature it measures: mean, weighted by time (°C)'
  actual_temp_sample_mean: 'Temperature it measures: plain mean of the readings (°C)'
  actual_temp_min: 'Temperature it measures: least (°C)'
  actual_temp_max: 'Temperature it measures: greatest (°C)'
  actual_temp_first: 'Temperature it measures: at the first reading (°C)'
  actual_temp_last: 'Temperature it measures: at the last reading (°C)'
  actual_temp_count: 'Temperature it measures: readings that have it'
  actual_temp_sum: 'Temperature it measures: sum over the readings (°C)'
  actual_temp_area: 'Temperature it measures: value times seconds, over the time it is known (°C·s)'
  actual_temp_weight_s: 'Temperature it measures: for how long it is known (s)'
  compressor_running_true_s: For how long the compressor ran (s)
  compressor_running_starts: How often the compressor started
  power_consumption_kw_mean: 'Electrical power drawn: mean, weighted by time (kW)'
  power_consumption_kw_sample_mean: 'Electrical power drawn: plain mean of the readings (kW)'
  power_consumption_kw_min: 'Electrical power drawn: least (kW)'
  power_consumption_kw_max: 'Electrical power drawn: greatest (kW)'
  power_consumption_kw_first: 'Electrical power drawn: at the first reading (kW)'
  power_consumption_kw_last: 'Electrical power drawn: at the last reading (kW)'
  power_consumption_kw_count: 'Electrical power drawn: readings that have it'
  power_consumption_kw_sum: 'Electrical power drawn: sum over the readings (kW)'
  power_consumption_kw_area: 'Electrical power drawn: value times seconds, over the time it is known (kW·s)'
  power_consumption_kw_weight_s: 'Electrical power drawn: for how long it is known (s)'
  heat_output_kw_mean: 'Heat delivered, where the pump measures it: mean, weighted by time (kW)'
  heat_output_kw_sample_mean: 'Heat delivered, where the pump measures it: plain mean of the readings (kW)'
  heat_output_kw_min: 'Heat delivered, where the pump measures it: least (kW)'
  heat_output_kw_max: 'Heat delivered, where the pump measures it: greatest (kW)'
  heat_output_kw_first: 'Heat delivered, where the pump measures it: at the first reading (kW)'
  heat_output_kw_last: 'Heat delivered, where the pump measures it: at the last reading (kW)'
  heat_output_kw_count: 'Heat delivered, where the pump measures it: readings that have it'
  heat_output_kw_sum: 'Heat delivered, where the pump measures it: sum over the readings (kW)'
  heat_output_kw_area: 'Heat delivered, where the pump measures it: value times seconds, over the time it is known (kW·s)'
  heat_output_kw_weight_s: 'Heat delivered, where the pump measures it: for how long it is known (s)'
  energy_kwh: Electrical energy drawn, from its power while that is known (kWh)
  degree_days: How far the measured temperature stayed below the target, times how long (K·d)
  bucket_end: End of the hour, exclusive
  refresh_id: 'Which of hl.refreshes made the row; null: computed just now'
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
