/** Heat pump and rooms over the last days, by local day and hour. Pure: no clock, no network. */

import type { HeatpumpBucket, TemperatureBucket } from './types'

const HOUR_MS = 3_600_000

export type RoomBucket = Pick<TemperatureBucket, 'device_id' | 'start' | 'room' | 'temperature_mean' | 'humidity_mean'>

export type PumpBucket = Pick<
  HeatpumpBucket,
  | 'device_id'
  | 'start'
  | 'end'
  | 'coverage'
  | 'provisional'
  | 'compressor_running_true_s'
  | 'compressor_running_starts'
  | 'power_consumption_kw_mean'
  | 'target_temp_mean'
  | 'actual_temp_mean'
>

export interface RoomWeek {
  name: string
  /** By day, oldest first, and within it by hour of the clock; null where nothing is known. */
  days: { day: number; hours: (number | null)[] }[]
  low: number
  high: number
  humidity: number | null
}

/** Each room's hours of some days. */
export function weekOf(buckets: readonly RoomBucket[], firstDay: Date, nDays: number): RoomWeek[] {
  const rooms = new Map<string, RoomBucket[]>()
  for (const bucket of buckets) {
    const own = rooms.get(bucket.device_id) ?? []
    own.push(bucket)
    rooms.set(bucket.device_id, own)
  }
  return [...rooms.entries()]
    .map(([id, own]) => roomOf(own.findLast(({ room }) => room != null)?.room ?? id, own, firstDay, nDays))
    .filter((room) => room !== null)
    .sort((a, b) => a.name.localeCompare(b.name))
}

function roomOf(name: string, own: readonly RoomBucket[], firstDay: Date, nDays: number): RoomWeek | null {
  const days = Array.from({ length: nDays }, (_, n) => ({
    day: new Date(firstDay.getFullYear(), firstDay.getMonth(), firstDay.getDate() + n).getTime(),
    hours: Array<number | null>(24).fill(null),
  }))
  const known: number[] = []
  for (const { start, temperature_mean: value } of own) {
    const at = new Date(start)
    const midnight = new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime()
    const row = days.find(({ day }) => day === midnight)
    if (row === undefined || value == null) continue
    row.hours[at.getHours()] = value
    known.push(value)
  }
  if (known.length === 0) return null
  const humid = own.flatMap(({ humidity_mean }) => humidity_mean ?? [])
  return {
    name,
    days,
    low: Math.min(...known),
    high: Math.max(...known),
    humidity: humid.length === 0 ? null : humid.reduce((sum, value) => sum + value, 0) / humid.length,
  }
}

export interface PumpDay {
  start: number
  /** For how long the compressor ran, hours. */
  hours: number
  starts: number
  kwh: number
  target: number | null
  actual: number | null
  provisional: boolean
}

/** Each heat pump's days, newest first. */
export function pumpDays(buckets: readonly PumpBucket[]): Map<string, PumpDay[]> {
  const pumps = new Map<string, PumpDay[]>()
  for (const bucket of buckets) {
    const seconds = bucket.compressor_running_true_s
    if (seconds == null) continue
    const lengthHours = (Date.parse(bucket.end) - Date.parse(bucket.start)) / HOUR_MS
    const days = pumps.get(bucket.device_id) ?? []
    days.unshift({
      start: Date.parse(bucket.start),
      hours: seconds / 3_600,
      starts: bucket.compressor_running_starts ?? 0,
      // The mean holds for as long as readings tell it; what lies between them is not made up.
      kwh: (bucket.power_consumption_kw_mean ?? 0) * bucket.coverage * lengthHours,
      target: bucket.target_temp_mean ?? null,
      actual: bucket.actual_temp_mean ?? null,
      provisional: bucket.provisional,
    })
    pumps.set(bucket.device_id, days)
  }
  return pumps
}

/** From cold to warm as a colour, the same for all rooms: 0 and below is cold, 1 and above warm. */
export function heatColour(share: number): string {
  const within = Math.min(1, Math.max(0, share))
  return `color-mix(in oklab, var(--cool), var(--warm) ${Math.round(within * 100)}%)`
}
