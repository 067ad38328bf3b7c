/** What the views of the past and of the pipeline ask the service for. */

import { getJson } from './api'
import type { PumpBucket, RoomBucket } from './climate'
import { fillSlots, type Per, type Period, type Slot } from './period'

export interface EnergyBucket {
  device_id: string
  start: string
  end: string
  n_readings: number
  coverage: number
  provisional: boolean
  consumption_kwh?: number | null
  gap_kwh?: number | null
}

interface BucketsAnswer {
  start: string
  end: string
  buckets: EnergyBucket[]
}

interface CostAnswer {
  buckets: { cost: number | null; currency: string | null }[]
}

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
    return getJson<BucketsAnswer>(`/api/v1/energy/${LEVELS[per]}?${query.toString()}`)
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
  pumps: PumpBucket[]
  rooms: RoomBucket[]
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
    ask<PumpBucket>('heatpump/daily', PUMP_FIELDS),
    ask<RoomBucket>('temperature/hourly', 'room,temperature_mean,humidity_mean'),
  ])
  return { pumps, rooms }
}

export interface StageCounts {
  name: string
  received: number
  forwarded: number
  dead_lettered: number
  duplicates: number
  corrected: number
  dropped: number
  in_flight: number
}

export interface Pipeline {
  stages: StageCounts[]
  lag: Record<string, number> | null
  delay_ms: Record<string, { p50: number | null; p99: number | null; max: number | null }>
  balances: { stream: string; stage: string; n_records: number; explanation: string }[]
  alerts: { service: string; stream: string; code: string; text: string; since: string }[]
}

export interface DeadLetter {
  id: number
  stream: string
  reason: string
  detail: string
  state: string
}

/** The pipeline now, when that was (ms), and the newest dead letters that nobody has dealt with. */
export interface Moment {
  at: number
  pipeline: Pipeline
  deadLetters: DeadLetter[]
}

export async function readMoment(): Promise<Moment> {
  const [pipeline, letters] = await Promise.all([
    getJson<Pipeline>('/api/v1/pipeline'),
    getJson<{ dead_letters: DeadLetter[] }>('/api/v1/dead-letters?limit=50'),
  ])
  return { at: performance.now(), pipeline, deadLetters: letters.dead_letters }
}
