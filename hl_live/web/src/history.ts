/** What the views of the past and of the pipeline ask the service for. */

import { getJson } from './api'
import { fillSlots, type Per, type Period, type Slot } from './period'
import type {
  CostAnswer,
  EnergyBucketsAnswer,
  HeatpumpBucket,
  HeatpumpBucketsAnswer,
  PipelineView,
  TemperatureBucket,
  TemperatureBucketsAnswer,
} from './types'

export interface Cost {
  amount: number
  currency: string
}

export interface EnergyHistory {
  /** What was asked for, from the begin of the period before until the end of this one, ms. */
  from: number
  to: number
  slots: Slot[]
  /** Null where no price is known, or there are several currencies. */
  cost: Cost | null
}

const LEVELS: Record<Per, string> = { hour: 'hourly', day: 'daily', month: 'monthly' }

/** A period's energy beside that of the period before, and what it costs. */
export async function readEnergy(period: Period, before: Period): Promise<EnergyHistory> {
  const ask = ({ per, start, end }: Period) => {
    const query = new URLSearchParams({ start, end, fields: 'consumption_kwh,gap_kwh' })
    return getJson<EnergyBucketsAnswer>(`/api/v1/energy/${LEVELS[per]}?${query.toString()}`)
  }
  const [current, earlier, cost] = await Promise.all([ask(period), ask(before), readCost({ ...period, per: period.per === 'month' ? 'month' : 'day' })])
  return {
    from: Date.parse(earlier.start),
    to: Date.parse(current.end),
    slots: fillSlots(period.per, current, earlier),
    cost,
  }
}

/** What a period's energy costs, with the standing charges of its days or months; null where no price is known, or there are several currencies. */
export async function readCost({ per, start, end }: Period): Promise<Cost | null> {
  const query = new URLSearchParams({ start, end, per })
  return sumOf(await getJson<CostAnswer>(`/api/v1/energy/cost?${query.toString()}`))
}

function sumOf({ buckets }: CostAnswer): Cost | null {
  const priced = buckets.filter((bucket) => bucket.cost !== null && bucket.currency !== null)
  const currencies = new Set(priced.map((bucket) => bucket.currency))
  if (currencies.size !== 1) return null
  return { amount: priced.reduce((sum, bucket) => sum + bucket.cost!, 0), currency: [...currencies][0]! }
}

/** Days of the heat pumps. */
export async function readPumps(start: string, end: string): Promise<HeatpumpBucket[]> {
  const query = new URLSearchParams({ start, end, fields: PUMP_FIELDS, limit: '10000' })
  return (await getJson<HeatpumpBucketsAnswer>(`/api/v1/heatpump/daily?${query.toString()}`)).buckets
}

/** Hours of the rooms. */
async function readRooms(start: string, end: string): Promise<TemperatureBucket[]> {
  const query = new URLSearchParams({ start, end, fields: 'room,temperature_mean,humidity_mean', limit: '10000' })
  return (await getJson<TemperatureBucketsAnswer>(`/api/v1/temperature/hourly?${query.toString()}`)).buckets
}

export interface ClimateHistory {
  pumps: HeatpumpBucket[]
  rooms: TemperatureBucket[]
}

const PUMP_FIELDS = [
  'compressor_running_true_s',
  'compressor_running_starts',
  'power_consumption_kw_mean',
  'power_consumption_kw_weight_s',
  'heat_output_kw_mean',
  'heat_output_kw_weight_s',
  'target_temp_mean',
  'actual_temp_mean',
].join()

/** Days of heat pumps and hours of rooms from a local midnight until now. */
export async function readClimate(from: Date): Promise<ClimateHistory> {
  const [start, end] = [from.toISOString(), new Date().toISOString()]
  const [pumps, rooms] = await Promise.all([readPumps(start, end), readRooms(start, end)])
  return { pumps, rooms }
}

/** The pipeline now, and when that was (ms). */
export interface Moment {
  at: number
  pipeline: PipelineView
}

export async function readMoment(): Promise<Moment> {
  const pipeline = await getJson<PipelineView>('/api/v1/pipeline')
  return { at: performance.now(), pipeline }
}
