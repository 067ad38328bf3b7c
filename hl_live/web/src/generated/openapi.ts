/* Written by scripts/types.mjs from api/openapi.json. Change the service instead. */

export interface Schemas {
  AlertView: AlertView
  BalanceView: BalanceView
  Check: Check
  CostAnswer: CostAnswer
  CostBucket: CostBucket
  DeadLettersAnswer: DeadLettersAnswer
  DelayView: DelayView
  DeviceView: DeviceView
  DevicesAnswer: DevicesAnswer
  EnergyBucket: EnergyBucket
  EnergyBucketsAnswer: EnergyBucketsAnswer
  EnergyData: EnergyData
  EnergyLatestAnswer: EnergyLatestAnswer
  EnergyNewest: EnergyNewest
  EnergyRawAnswer: EnergyRawAnswer
  EnergyReading: EnergyReading
  Entry: Entry
  EntryGroup: EntryGroup
  FieldSchema: FieldSchema
  Health: Health
  HeatpumpBucket: HeatpumpBucket
  HeatpumpBucketsAnswer: HeatpumpBucketsAnswer
  HeatpumpData: HeatpumpData
  HeatpumpLatestAnswer: HeatpumpLatestAnswer
  HeatpumpNewest: HeatpumpNewest
  HeatpumpRawAnswer: HeatpumpRawAnswer
  HeatpumpReading: HeatpumpReading
  Judged: Judged
  JudgedReason: JudgedReason
  KindsAnswer: KindsAnswer
  PipelineView: PipelineView
  Problem: Problem
  ReplayAsked: ReplayAsked
  ReplayRequest: ReplayRequest
  Replayed: Replayed
  ReplaysAnswer: ReplaysAnswer
  StageView: StageView
  StreamSchema: StreamSchema
  StreamsAnswer: StreamsAnswer
  TemperatureBucket: TemperatureBucket
  TemperatureBucketsAnswer: TemperatureBucketsAnswer
  TemperatureData: TemperatureData
  TemperatureLatestAnswer: TemperatureLatestAnswer
  TemperatureNewest: TemperatureNewest
  TemperatureRawAnswer: TemperatureRawAnswer
  TemperatureReading: TemperatureReading
  TicketAnswer: TicketAnswer
}
export interface AlertView {
  service: string
  stream: string
  code: string
  text: string
  since: string
  is_of_the_dead: boolean
}
export interface BalanceView {
  stream: string
  stage: string
  n_records: number
  explanation: string
  compared_at: string
  balanced_at: string | null
  found_at: string | null
}
export interface Check {
  status: 'ok' | 'degraded'
  detail: string
  age_s?: number | null
  lag?: number | null
}
export interface CostAnswer {
  per: string
  start: string
  end: string
  buckets: CostBucket[]
  next: string | null
}
export interface CostBucket {
  device_id: string
  start: string
  end: string
  /**
   * The bucket ends in the future
   */
  provisional: boolean
  consumption_kwh: number | null
  cost: number | null
  currency: string | null
  tariff?: string | null
  price_per_kwh?: number | null
  priced_kwh?: number | null
  n_hours?: number | null
  n_hours_without_price?: number | null
  energy_cost?: number | null
  standing_charge?: number | null
}
export interface DeadLettersAnswer {
  dead_letters: Entry[]
  next: number | null
}
export interface Entry {
  stream: string
  stage: string
  reason: string
  detail: string
  fingerprint: string
  attempts?: number
  first_failed_at: string
  last_failed_at: string
  version: string
  declaration?: string
  sqlstate?: string | null
  column?: string | null
  device_id?: string | null
  mqtt_topic?: string | null
  qos?: number | null
  retained?: boolean | null
  received_at?: string | null
  bridge?: string | null
  kafka_topic?: string | null
  kafka_partition?: number | null
  offset?: number | null
  kafka_time?: string | null
  truncated_from_bytes?: number | null
  sha256?: string | null
  replay_of?: string | null
  dead_letter_topic: string
  dead_letter_partition: number
  dead_letter_offset: number
  dead_lettered_at: string
  n_bytes: number
  preview: string
  id: number
  state: 'new' | 'replayed' | 'failed_again' | 'discarded'
  state_at: string
  state_by?: string | null
  state_reason?: string | null
}
export interface DelayView {
  p50: number | null
  p99: number | null
  max: number | null
  budget: number
}
export interface DeviceView {
  stream: string
  device_id: string
  /**
   * The newest reading's own time
   */
  last_seen: string
  /**
   * Seconds since `last_seen`
   */
  age_s: number
  /**
   * For longer than the stream's `max_gap_s`
   */
  silent: boolean
  /**
   * As the device's status topic says, also by its last will; null where it tells nothing
   */
  online: boolean | null
  /**
   * When it said so first
   */
  online_since: string | null
}
export interface DevicesAnswer {
  devices: DeviceView[]
}
export interface EnergyBucket {
  device_id: string
  /**
   * Begin, inclusive
   */
  start: string
  /**
   * End, exclusive
   */
  end: string
  /**
   * Readings in the bucket
   */
  n_readings: number
  /**
   * Share of the bucket in which readings tell the values
   */
  coverage: number
  /**
   * The bucket ends in the future
   */
  provisional: boolean
  /**
   * Time of the first reading
   */
  first_at?: string | null
  /**
   * Time of the last reading
   */
  last_at?: string | null
  /**
   * What total_energy_kwh moved; a step across a border is shared out by time (kWh)
   */
  consumption_kwh?: number | null
  /**
   * The part of consumption_kwh that moved while no reading came (kWh)
   */
  gap_kwh?: number | null
  /**
   * total_energy_kwh at the first reading (kWh)
   */
  total_energy_kwh_first?: number | null
  /**
   * total_energy_kwh at the last reading (kWh)
   */
  total_energy_kwh_last?: number | null
  /**
   * Resets and jumps of total_energy_kwh, listed in hl.counter_events
   */
  total_energy_kwh_events?: number | null
  /**
   * Power drawn, negative when fed in: mean, weighted by time (kW)
   */
  power_kw_mean?: number | null
  /**
   * Power drawn, negative when fed in: plain mean of the readings (kW)
   */
  power_kw_sample_mean?: number | null
  /**
   * Power drawn, negative when fed in: least (kW)
   */
  power_kw_min?: number | null
  /**
   * Power drawn, negative when fed in: greatest (kW)
   */
  power_kw_max?: number | null
  /**
   * Power drawn, negative when fed in: at the first reading (kW)
   */
  power_kw_first?: number | null
  /**
   * Power drawn, negative when fed in: at the last reading (kW)
   */
  power_kw_last?: number | null
  /**
   * Power drawn, negative when fed in: for how long it is known (s)
   */
  power_kw_weight_s?: number | null
  /**
   * Voltage between line and neutral: mean, weighted by time (V)
   */
  voltage_mean?: number | null
  /**
   * Voltage between line and neutral: plain mean of the readings (V)
   */
  voltage_sample_mean?: number | null
  /**
   * Voltage between line and neutral: least (V)
   */
  voltage_min?: number | null
  /**
   * Voltage between line and neutral: greatest (V)
   */
  voltage_max?: number | null
  /**
   * Voltage between line and neutral: at the first reading (V)
   */
  voltage_first?: number | null
  /**
   * Voltage between line and neutral: at the last reading (V)
   */
  voltage_last?: number | null
  /**
   * Voltage between line and neutral: for how long it is known (s)
   */
  voltage_weight_s?: number | null
  /**
   * Current: mean, weighted by time (A)
   */
  current_mean?: number | null
  /**
   * Current: plain mean of the readings (A)
   */
  current_sample_mean?: number | null
  /**
   * Current: least (A)
   */
  current_min?: number | null
  /**
   * Current: greatest (A)
   */
  current_max?: number | null
  /**
   * Current: at the first reading (A)
   */
  current_first?: number | null
  /**
   * Current: at the last reading (A)
   */
  current_last?: number | null
  /**
   * Current: for how long it is known (s)
   */
  current_weight_s?: number | null
}
export interface EnergyBucketsAnswer {
  stream: string
  /**
   * minute, hour, day, month or year
   */
  level: string
  start: string
  end: string
  buckets: EnergyBucket[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface EnergyData {
  /**
   * Energy since the meter was new or reset (kWh)
   */
  total_energy_kwh?: number | null
  /**
   * Power drawn, negative when fed in (kW)
   */
  power_kw?: number | null
  /**
   * Voltage between line and neutral (V)
   */
  voltage?: number | null
  /**
   * Current (A)
   */
  current?: number | null
}
export interface EnergyLatestAnswer {
  stream: string
  readings: EnergyNewest[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface EnergyNewest {
  device_id: string
  /**
   * The device's own time
   */
  timestamp: string
  /**
   * When the bridge received it
   */
  received_at: string
  data: EnergyData
  /**
   * Fields that are not declared
   */
  extra: {
    [k: string]: unknown
  } | null
  /**
   * Seconds since `timestamp`
   */
  age_s: number
}
export interface EnergyRawAnswer {
  stream: string
  readings: EnergyReading[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface EnergyReading {
  device_id: string
  /**
   * The device's own time
   */
  timestamp: string
  /**
   * When the bridge received it
   */
  received_at: string
  data: EnergyData
  /**
   * Fields that are not declared
   */
  extra: {
    [k: string]: unknown
  } | null
}
export interface EntryGroup {
  fingerprint: string
  stream: string
  stage: string
  reason: string
  n: number
  first_failed_at: string
  last_failed_at: string
  example_id: number
  example_detail: string
  example_preview: string
}
export interface FieldSchema {
  name: string
  type: 'float' | 'integer' | 'smallint' | 'text' | 'boolean'
  kind: 'gauge' | 'counter' | 'state' | 'label'
  unit: string
  required: boolean
  minimum: number | null
  maximum: number | null
  description: string
}
export interface Health {
  status: 'ok' | 'degraded'
  checks: {
    [k: string]: Check
  }
}
export interface HeatpumpBucket {
  device_id: string
  /**
   * Begin, inclusive
   */
  start: string
  /**
   * End, exclusive
   */
  end: string
  /**
   * Readings in the bucket
   */
  n_readings: number
  /**
   * Share of the bucket in which readings tell the values
   */
  coverage: number
  /**
   * The bucket ends in the future
   */
  provisional: boolean
  /**
   * Time of the first reading
   */
  first_at?: string | null
  /**
   * Time of the last reading
   */
  last_at?: string | null
  /**
   * heating, cooling, hot_water, defrost or off: seconds in each, as a JSON object (s)
   */
  mode_seconds?: {
    [k: string]: number
  } | null
  /**
   * heating, cooling, hot_water, defrost or off: how often it changed
   */
  mode_changes?: number | null
  /**
   * Temperature the controller aims for: mean, weighted by time (°C)
   */
  target_temp_mean?: number | null
  /**
   * Temperature the controller aims for: plain mean of the readings (°C)
   */
  target_temp_sample_mean?: number | null
  /**
   * Temperature the controller aims for: least (°C)
   */
  target_temp_min?: number | null
  /**
   * Temperature the controller aims for: greatest (°C)
   */
  target_temp_max?: number | null
  /**
   * Temperature the controller aims for: at the first reading (°C)
   */
  target_temp_first?: number | null
  /**
   * Temperature the controller aims for: at the last reading (°C)
   */
  target_temp_last?: number | null
  /**
   * Temperature the controller aims for: for how long it is known (s)
   */
  target_temp_weight_s?: number | null
  /**
   * Temperature it measures: mean, weighted by time (°C)
   */
  actual_temp_mean?: number | null
  /**
   * Temperature it measures: plain mean of the readings (°C)
   */
  actual_temp_sample_mean?: number | null
  /**
   * Temperature it measures: least (°C)
   */
  actual_temp_min?: number | null
  /**
   * Temperature it measures: greatest (°C)
   */
  actual_temp_max?: number | null
  /**
   * Temperature it measures: at the first reading (°C)
   */
  actual_temp_first?: number | null
  /**
   * Temperature it measures: at the last reading (°C)
   */
  actual_temp_last?: number | null
  /**
   * Temperature it measures: for how long it is known (s)
   */
  actual_temp_weight_s?: number | null
  /**
   * Whether the compressor runs: for how long it was so (s)
   */
  compressor_running_true_s?: number | null
  /**
   * Whether the compressor runs: how often it became so
   */
  compressor_running_starts?: number | null
  /**
   * Electrical power drawn: mean, weighted by time (kW)
   */
  power_consumption_kw_mean?: number | null
  /**
   * Electrical power drawn: plain mean of the readings (kW)
   */
  power_consumption_kw_sample_mean?: number | null
  /**
   * Electrical power drawn: least (kW)
   */
  power_consumption_kw_min?: number | null
  /**
   * Electrical power drawn: greatest (kW)
   */
  power_consumption_kw_max?: number | null
  /**
   * Electrical power drawn: at the first reading (kW)
   */
  power_consumption_kw_first?: number | null
  /**
   * Electrical power drawn: at the last reading (kW)
   */
  power_consumption_kw_last?: number | null
  /**
   * Electrical power drawn: for how long it is known (s)
   */
  power_consumption_kw_weight_s?: number | null
  /**
   * Heat delivered, where the pump measures it: mean, weighted by time (kW)
   */
  heat_output_kw_mean?: number | null
  /**
   * Heat delivered, where the pump measures it: plain mean of the readings (kW)
   */
  heat_output_kw_sample_mean?: number | null
  /**
   * Heat delivered, where the pump measures it: least (kW)
   */
  heat_output_kw_min?: number | null
  /**
   * Heat delivered, where the pump measures it: greatest (kW)
   */
  heat_output_kw_max?: number | null
  /**
   * Heat delivered, where the pump measures it: at the first reading (kW)
   */
  heat_output_kw_first?: number | null
  /**
   * Heat delivered, where the pump measures it: at the last reading (kW)
   */
  heat_output_kw_last?: number | null
  /**
   * Heat delivered, where the pump measures it: for how long it is known (s)
   */
  heat_output_kw_weight_s?: number | null
}
export interface HeatpumpBucketsAnswer {
  stream: string
  /**
   * minute, hour, day, month or year
   */
  level: string
  start: string
  end: string
  buckets: HeatpumpBucket[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface HeatpumpData {
  /**
   * heating, cooling, hot_water, defrost or off
   */
  mode?: string | null
  /**
   * Temperature the controller aims for (°C)
   */
  target_temp?: number | null
  /**
   * Temperature it measures (°C)
   */
  actual_temp?: number | null
  /**
   * Whether the compressor runs
   */
  compressor_running?: boolean | null
  /**
   * Electrical power drawn (kW)
   */
  power_consumption_kw?: number | null
  /**
   * Heat delivered, where the pump measures it (kW)
   */
  heat_output_kw?: number | null
}
export interface HeatpumpLatestAnswer {
  stream: string
  readings: HeatpumpNewest[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface HeatpumpNewest {
  device_id: string
  /**
   * The device's own time
   */
  timestamp: string
  /**
   * When the bridge received it
   */
  received_at: string
  data: HeatpumpData
  /**
   * Fields that are not declared
   */
  extra: {
    [k: string]: unknown
  } | null
  /**
   * Seconds since `timestamp`
   */
  age_s: number
}
export interface HeatpumpRawAnswer {
  stream: string
  readings: HeatpumpReading[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface HeatpumpReading {
  device_id: string
  /**
   * The device's own time
   */
  timestamp: string
  /**
   * When the bridge received it
   */
  received_at: string
  data: HeatpumpData
  /**
   * Fields that are not declared
   */
  extra: {
    [k: string]: unknown
  } | null
}
export interface Judged {
  n: number
  accepted: number
  rejected: number
  impossible: number
  groups: JudgedReason[]
}
export interface JudgedReason {
  kind: 'accepted' | 'rejected' | 'impossible'
  stream: string
  reason: string
  n: number
  example_id: number
  example_detail: string
}
export interface KindsAnswer {
  kinds: EntryGroup[]
}
export interface PipelineView {
  stages: StageView[]
  lag: {
    [k: string]: number
  } | null
  delay_ms: {
    [k: string]: DelayView
  }
  balances: BalanceView[]
  alerts: AlertView[]
}
export interface StageView {
  name: string
  received: number
  forwarded: number
  dead_lettered: number
  duplicates: number
  corrected: number
  dropped: number
  in_flight: number
}
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  parameter?: string | null
  value?: string | null
  allowed?: string | null
  scope?: string | null
}
export interface ReplayAsked {
  stream?: string | null
  fingerprint?: string | null
  device_id?: string | null
  everything?: boolean
  until_id?: number | null
  dry_run?: boolean
}
export interface ReplayRequest {
  request_id: number
  requested_at: string
  requested_by: string
  dry_run: boolean
  stream: string | null
  fingerprint: string | null
  device_id: string | null
  until_id: number
  n_selected: number
  state: 'asked' | 'running' | 'done' | 'failed'
  run_id: string | null
  step: string | null
  n_done: number | null
  n_total: number | null
  ended_at: string | null
  judged: Judged | null
  replayed: Replayed | null
  problem: string | null
}
export interface Replayed {
  replay_id: string
  n_selected: number
  n_stored: number
  n_failed_again: number
  impossible: {
    [k: string]: number
  }
  complete: boolean
}
export interface ReplaysAnswer {
  replays: ReplayRequest[]
}
export interface StreamSchema {
  name: string
  title: string
  description: string
  mqtt_filter: string
  kafka_topic: string
  table: string
  fields: FieldSchema[]
}
export interface StreamsAnswer {
  streams: StreamSchema[]
}
export interface TemperatureBucket {
  device_id: string
  /**
   * Begin, inclusive
   */
  start: string
  /**
   * End, exclusive
   */
  end: string
  /**
   * Readings in the bucket
   */
  n_readings: number
  /**
   * Share of the bucket in which readings tell the values
   */
  coverage: number
  /**
   * The bucket ends in the future
   */
  provisional: boolean
  /**
   * Time of the first reading
   */
  first_at?: string | null
  /**
   * Time of the last reading
   */
  last_at?: string | null
  /**
   * Where the sensor hangs: as of the last reading
   */
  room?: string | null
  /**
   * Air temperature: mean, weighted by time (°C)
   */
  temperature_mean?: number | null
  /**
   * Air temperature: plain mean of the readings (°C)
   */
  temperature_sample_mean?: number | null
  /**
   * Air temperature: least (°C)
   */
  temperature_min?: number | null
  /**
   * Air temperature: greatest (°C)
   */
  temperature_max?: number | null
  /**
   * Air temperature: at the first reading (°C)
   */
  temperature_first?: number | null
  /**
   * Air temperature: at the last reading (°C)
   */
  temperature_last?: number | null
  /**
   * Air temperature: for how long it is known (s)
   */
  temperature_weight_s?: number | null
  /**
   * Relative humidity: mean, weighted by time (%)
   */
  humidity_mean?: number | null
  /**
   * Relative humidity: plain mean of the readings (%)
   */
  humidity_sample_mean?: number | null
  /**
   * Relative humidity: least (%)
   */
  humidity_min?: number | null
  /**
   * Relative humidity: greatest (%)
   */
  humidity_max?: number | null
  /**
   * Relative humidity: at the first reading (%)
   */
  humidity_first?: number | null
  /**
   * Relative humidity: at the last reading (%)
   */
  humidity_last?: number | null
  /**
   * Relative humidity: for how long it is known (s)
   */
  humidity_weight_s?: number | null
}
export interface TemperatureBucketsAnswer {
  stream: string
  /**
   * minute, hour, day, month or year
   */
  level: string
  start: string
  end: string
  buckets: TemperatureBucket[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface TemperatureData {
  /**
   * Where the sensor hangs
   */
  room?: string | null
  /**
   * Air temperature (°C)
   */
  temperature?: number | null
  /**
   * Relative humidity (%)
   */
  humidity?: number | null
}
export interface TemperatureLatestAnswer {
  stream: string
  readings: TemperatureNewest[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface TemperatureNewest {
  device_id: string
  /**
   * The device's own time
   */
  timestamp: string
  /**
   * When the bridge received it
   */
  received_at: string
  data: TemperatureData
  /**
   * Fields that are not declared
   */
  extra: {
    [k: string]: unknown
  } | null
  /**
   * Seconds since `timestamp`
   */
  age_s: number
}
export interface TemperatureRawAnswer {
  stream: string
  readings: TemperatureReading[]
  /**
   * Give it as `after` for the next page; null after the last
   */
  next: string | null
}
export interface TemperatureReading {
  device_id: string
  /**
   * The device's own time
   */
  timestamp: string
  /**
   * When the bridge received it
   */
  received_at: string
  data: TemperatureData
  /**
   * Fields that are not declared
   */
  extra: {
    [k: string]: unknown
  } | null
}
export interface TicketAnswer {
  ticket: string
  expires_in_s: number
}
