/*
name: energy_hourly
description: What each meter moved in each hour, with power, voltage and current.
materialization: continuous_aggregate
grain: [device_id, bucket]
time_column: bucket
bucket: hour
retention: 2 years
columns:
  device_id: Which meter
  bucket: Begin of the hour, inclusive
  bucket_end: End of the hour, exclusive
  n_readings: Readings in the hour
  first_at: Time of the first reading
  last_at: Time of the last reading
  covered_s: For how long readings tell the values (s)
  consumption_kwh: Energy that the meter moved; a step across a border is shared out by time (kWh)
  gap_kwh: The part of it that moved while no reading came (kWh)
  total_energy_kwh_first: The meter at the first reading (kWh)
  total_energy_kwh_last: The meter at the last reading (kWh)
  total_energy_kwh_events: Resets and jumps of the meter, listed in hl.counter_events
  power_kw_mean: Mean power, weighted by time (kW)
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
