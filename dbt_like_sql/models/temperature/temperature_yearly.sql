/*
name: temperature_yearly
description: Temperature and humidity of each room in each local year.
materialization: continuous_aggregate
owner: home
grain: [device_id, bucket]
time_column: bucket
bucket: year
columns:
  device_id: Which sensor
  bucket: Begin of the local year, inclusive
  n_readings: Readings in the local year
  first_at: Time of the first reading
  last_at: Time of the last reading
  covered_s: For how long readings tell the values (s)
  room: 'Where the sensor hangs: as of the last reading'
  temperature_mean: 'Air temperature: mean, weighted by time (°C)'
  temperature_sample_mean: 'Air temperature: plain mean of the readings (°C)'
  temperature_min: 'Air temperature: least (°C)'
  temperature_max: 'Air temperature: greatest (°C)'
  temperature_first: 'Air temperature: at the first reading (°C)'
  temperature_last: 'Air temperature: at the last reading (°C)'
  temperature_count: 'Air temperature: readings that have it'
  temperature_sum: 'Air temperature: sum over the readings (°C)'
  temperature_area: 'Air temperature: value times seconds, over the time it is known (°C·s)'
  temperature_weight_s: 'Air temperature: for how long it is known (s)'
  humidity_mean: 'Relative humidity: mean, weighted by time (%)'
  humidity_sample_mean: 'Relative humidity: plain mean of the readings (%)'
  humidity_min: 'Relative humidity: least (%)'
  humidity_max: 'Relative humidity: greatest (%)'
  humidity_first: 'Relative humidity: at the first reading (%)'
  humidity_last: 'Relative humidity: at the last reading (%)'
  humidity_count: 'Relative humidity: readings that have it'
  humidity_sum: 'Relative humidity: sum over the readings (%)'
  humidity_area: 'Relative humidity: value times seconds, over the time it is known (%·s)'
  humidity_weight_s: 'Relative humidity: for how long it is known (s)'
  bucket_end: End of the local year, exclusive
  refresh_id: 'Which of hl.refreshes made the row; null: computed just now'
*/
select
    device_id,
    {{ bucket() }} as bucket,
    {{ merged_coverage() }},
    {{ merged_label('room') }},
    {{ merged_gauge('temperature') }},
    {{ merged_gauge('humidity') }}
from {{ ref('temperature_monthly') }}
group by device_id, {{ bucket() }}
