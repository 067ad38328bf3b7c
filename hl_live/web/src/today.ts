/** What the day has brought so far: energy, its cost, and what the heat pumps did. */

import type { Home } from './home'
import { pumpDays, type PumpDay } from './climate'
import { readCost, readPumps, type Cost } from './history'
import { getJson } from './api'
import { dateOf } from './period'
import type { EnergyBucketsAnswer } from './types'

export interface Today {
  /** Begin and end of the household's day, ms; null while the energy of it is not known. */
  from: number
  to: number
  kwh: number | null
  /** Null where no price is known. */
  cost: Cost | null
  pumps: ReadonlyMap<string, PumpDay>
}

/** @param day any time of it, on the reader's clock. */
export async function readToday(home: Home, day: Date): Promise<Today> {
  const start = dateOf(day)
  const end = dateOf(new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1))
  const has = (name: string) => home.streams.some((stream) => stream.name === name)
  const [energy, cost, pumps] = await Promise.all([
    has('energy') ? readEnergyOf(start, end) : null,
    has('energy') ? readCost({ per: 'day', start, end }) : null,
    has('heatpump') ? readPumps(start, end) : [],
  ])
  const days = [...pumpDays(pumps)].flatMap(([id, [newest]]) => (newest === undefined ? [] : [[id, newest] as const]))
  return {
    from: energy === null ? 0 : Date.parse(energy.start),
    to: energy === null ? 0 : Date.parse(energy.end),
    kwh: energy === null ? null : sumOf(energy.buckets.map(({ consumption_kwh }) => consumption_kwh ?? null)),
    cost,
    pumps: new Map(days),
  }
}

function readEnergyOf(start: string, end: string): Promise<EnergyBucketsAnswer> {
  const query = new URLSearchParams({ start, end, fields: 'consumption_kwh' })
  return getJson(`/api/v1/energy/daily?${query.toString()}`)
}

/** Null where nothing is known. */
function sumOf(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null)
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0)
}
