/*
name: energy_daily
description: What each meter moved in each local day, with power, voltage and current.
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: day
columns:
  device_id: Which meter
  bucket: Begin of the local day, inclusive
  n_readings: Readings in the local day
  first_at: Time of the first reading
  last_at: Time of the last reading
  covered_s: For how long readings tell the values (s)
  consumption_kwh: Energy that the meter moved; a step across a border is shared out by time (kWh)
  gap_kwh: The part of consumption_kwh that moved while no reading came (kWh)
  total_energy_kwh_first: The meter at the first reading (kWh)
  total_energy_kwh_last: The meter at the last reading (kWh)
  total_energy_kwh_events: Resets and jumps of the meter, listed in hl.counter_events
  power_kw_mean: 'Power, negative when fed in: mean, weighted by time (kW)'
  power_kw_sample_mean: 'Power, negative when fed in: plain mean of the readings (kW)'
  power_kw_min: 'Power, negative when fed in: least (kW)'
  power_kw_max: 'Power, negative when fed in: greatest (kW)'
  power_kw_first: 'Power, negative when fed in: at the first reading (kW)'
  power_kw_last: 'Power, negative when fed in: at the last reading (kW)'
  power_kw_count: 'Power, negative when fed in: readings that have it'
  power_kw_sum: 'Power, negative when fed in: sum over the readings (kW)'
  power_kw_area: 'Power, negative when fed in: value times seconds, over the time it is known (kW·s)'
  power_kw_weight_s: 'Power, negative when fed in: for how long it is known (s)'
  voltage_mean: 'Voltage between line and neutral: mean, weighted by time (V)'
  voltage_sample_mean: 'Voltage between line and neutral: plain mean of the readings (V)'
  voltage_min: 'Voltage between line and neutral: least (V)'
  voltage_max: 'Voltage between line and neutral: greatest (V)'
  voltage_first: 'Voltage between line and neutral: at the first reading (V)'
  voltage_last: 'Voltage between line and neutral: at the last reading (V)'
  voltage_count: 'Voltage between line and neutral: readings that have it'
  voltage_sum: 'Voltage between line and neutral: sum over the readings (V)'
  voltage_area: 'Voltage between line and neutral: value times seconds, over the time it is known (V·s)'
  voltage_weight_s: 'Voltage between line and neutral: for how long it is known (s)'
  current_mean: 'Current: mean, weighted by time (A)'
  current_sample_mean: 'Current: plain mean of the readings (A)'
  current_min: 'Current: least (A)'
  current_max: 'Current: greatest (A)'
  current_first: 'Current: at the first reading (A)'
  current_last: 'Current: at the last reading (A)'
  current_count: 'Current: readings that have it'
  current_sum: 'Current: sum over the readings (A)'
  current_area: 'Current: value times seconds, over the time it is known (A·s)'
  current_weight_s: 'Current: for how long it is known (s)'
  bucket_end: End of the local day, exclusive
  refresh_id: 'Which of hl.refreshes made the row; null: computed just now'
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
