/** Heat pump and rooms over the last days, by local day and hour. Pure: no clock, no network. */

import type { HeatpumpBucket, TemperatureBucket } from './types'

/** Heat that is known for less of the time than power would be compared with too much of it. */
const LEAST_SHARE_KNOWN = 0.99

export type RoomBucket = Pick<TemperatureBucket, 'device_id' | 'start' | 'room' | 'temperature_mean' | 'humidity_mean'>

export type PumpBucket = Pick<
  HeatpumpBucket,
  | 'device_id'
  | 'start'
  | 'end'
  | 'provisional'
  | 'compressor_running_true_s'
  | 'compressor_running_starts'
  | 'power_consumption_kw_mean'
  | 'power_consumption_kw_weight_s'
  | 'heat_output_kw_mean'
  | 'heat_output_kw_weight_s'
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
  /** Heat delivered for each kWh drawn; null where the pump does not tell it, or drew nothing. */
  cop: number | null
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
    const days = pumps.get(bucket.device_id) ?? []
    days.unshift({
      start: Date.parse(bucket.start),
      hours: seconds / 3_600,
      starts: bucket.compressor_running_starts ?? 0,
      // The mean holds for as long as readings tell it; what lies between them is not made up.
      kwh: ((bucket.power_consumption_kw_mean ?? 0) * (bucket.power_consumption_kw_weight_s ?? 0)) / 3_600,
      cop: copOfDay(bucket),
      target: bucket.target_temp_mean ?? null,
      actual: bucket.actual_temp_mean ?? null,
      provisional: bucket.provisional,
    })
    pumps.set(bucket.device_id, days)
  }
  return pumps
}

/** The coefficient of performance of heat and power; null where it cannot be told. */
export function copOf(heatKw: unknown, powerKw: unknown): number | null {
  return typeof heatKw === 'number' && typeof powerKw === 'number' && powerKw > 0 ? heatKw / powerKw : null
}

function copOfDay(bucket: PumpBucket): number | null {
  const [heatKnown, powerKnown] = [bucket.heat_output_kw_weight_s ?? 0, bucket.power_consumption_kw_weight_s ?? 0]
  if (heatKnown < LEAST_SHARE_KNOWN * powerKnown) return null
  return copOf(bucket.heat_output_kw_mean, bucket.power_consumption_kw_mean)
}

/** From cold to warm as a colour, the same for all rooms: 0 and below is cold, 1 and above warm. */
export function heatColour(share: number): string {
  const within = Math.min(1, Math.max(0, share))
  // Through a pale middle: what is neither cold nor warm should not look like mud.
  const [from, to] = within < 0.5 ? ['cool', 'mild'] : ['mild', 'warm']
  const part = within < 0.5 ? 2 * within : 2 * within - 1
  return `color-mix(in oklab, var(--${from}), var(--${to}) ${Math.round(part * 100)}%)`
}
