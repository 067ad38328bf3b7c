/** What the views of the past and of the pipeline ask the service for. */

import { getJson } from './api'
import { fillSlots, type Per, type Period, type Slot } from './period'
import type {
  CostAnswer,
  DeadLetter,
  DeadLettersAnswer,
  EnergyBucketsAnswer,
  HeatpumpBucket,
  PipelineView,
  TemperatureBucket,
} from './types'

export interface Cost {
  amount: number
  currency: string
}

export interface EnergyHistory {
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
  const cost = new URLSearchParams({ start: period.start, end: period.end, per: period.per })
  const [current, earlier, costs] = await Promise.all([
    ask(period),
    ask(before),
    getJson<CostAnswer>(`/api/v1/energy/cost?${cost.toString()}`),
  ])
  return { slots: fillSlots(period.per, current, earlier), cost: sumOf(costs) }
}

function sumOf({ buckets }: CostAnswer): Cost | null {
  const priced = buckets.filter((bucket) => bucket.cost !== null && bucket.currency !== null)
  const currencies = new Set(priced.map((bucket) => bucket.currency))
  if (currencies.size !== 1) return null
  return { amount: priced.reduce((sum, bucket) => sum + bucket.cost!, 0), currency: [...currencies][0]! }
}

export interface ClimateHistory {
  pumps: HeatpumpBucket[]
  rooms: TemperatureBucket[]
}

const PUMP_FIELDS =
  'compressor_running_true_s,compressor_running_starts,power_consumption_kw_mean,target_temp_mean,actual_temp_mean'

/** Days of heat pumps and hours of rooms from a local midnight until now. */
export async function readClimate(from: Date): Promise<ClimateHistory> {
  const ask = async <T>(path: string, fields: string) => {
    const query = new URLSearchParams({ start: from.toISOString(), end: new Date().toISOString(), fields, limit: '10000' })
    return (await getJson<{ buckets: T[] }>(`/api/v1/${path}?${query.toString()}`)).buckets
  }
  const [pumps, rooms] = await Promise.all([
    ask<HeatpumpBucket>('heatpump/daily', PUMP_FIELDS),
    ask<TemperatureBucket>('temperature/hourly', 'room,temperature_mean,humidity_mean'),
  ])
  return { pumps, rooms }
}

/** The pipeline now, when that was (ms), and the newest dead letters that nobody has dealt with. */
export interface Moment {
  at: number
  pipeline: PipelineView
  deadLetters: DeadLetter[]
}

export async function readMoment(): Promise<Moment> {
  const [pipeline, letters] = await Promise.all([
    getJson<PipelineView>('/api/v1/pipeline'),
    getJson<DeadLettersAnswer>('/api/v1/dead-letters?limit=50'),
  ])
  return { at: performance.now(), pipeline, deadLetters: letters.dead_letters }
}
