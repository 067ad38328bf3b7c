/** Periods of a household's energy, their slots, and what fills them. Pure: no clock, no network. */

import type { EnergyBucket } from './types'

const HOUR_MS = 3_600_000
const DAY_MS = 86_400_000

/** What one bar stands for. */
export type Per = 'hour' | 'day' | 'month'

/** Local dates, half-open, as the service takes them. */
export interface Period {
  per: Per
  start: string
  end: string
}

/** One bar: null where nothing is known. */
export interface Slot {
  /** Begin, ms; null where neither period has it. */
  start: number | null
  kwh: number | null
  /** The part of it that moved while no reading came, and is spread evenly. */
  gapKwh: number
  /** Share of the slot in which readings tell the values, the least of all meters. */
  coverage: number
  provisional: boolean
  before: number | null
}

/** The day, month or year that lies so many before the one of today. */
export function periodOf(per: Per, back: number, today: Date): Period {
  const [year, month, day] = [today.getFullYear(), today.getMonth(), today.getDate()]
  const at = (n: number): Date => {
    if (per === 'hour') return new Date(year, month, day + n)
    return per === 'day' ? new Date(year, month + n, 1) : new Date(year + n, 0, 1)
  }
  return { per, start: dateOf(at(-back)), end: dateOf(at(1 - back)) }
}

/** Which slot of a period a bucket belongs to. A day may have 23 or 25 hours. */
export function slotOf(per: Per, periodStart: number, bucketStart: number): number {
  if (per === 'hour') return Math.round((bucketStart - periodStart) / HOUR_MS)
  if (per === 'day') return Math.round((bucketStart - periodStart) / DAY_MS)
  // A day and a half behind its begin it is the same month in every time zone.
  const [first, month] = [new Date(periodStart + 1.5 * DAY_MS), new Date(bucketStart + 1.5 * DAY_MS)]
  return 12 * (month.getUTCFullYear() - first.getUTCFullYear()) + month.getUTCMonth() - first.getUTCMonth()
}

export interface Answered {
  start: string
  end: string
  buckets: EnergyBucket[]
}

/** The slots of a period, of all meters together, beside those of the period before. */
export function fillSlots(per: Per, current: Answered, before: Answered): Slot[] {
  const n = Math.max(countOf(per, current), ...current.buckets.map((bucket) => slotOf(per, startOf(current), startOf(bucket)) + 1))
  const slots: Slot[] = Array.from({ length: n }, () => ({
    start: null, kwh: null, gapKwh: 0, coverage: 1, provisional: false, before: null,
  }))
  for (const bucket of current.buckets) {
    const slot = slots[slotOf(per, startOf(current), startOf(bucket))]
    if (slot === undefined || bucket.consumption_kwh == null) continue
    slot.start = startOf(bucket)
    slot.kwh = (slot.kwh ?? 0) + bucket.consumption_kwh
    slot.gapKwh += bucket.gap_kwh ?? 0
    slot.coverage = Math.min(slot.coverage, bucket.coverage)
    slot.provisional ||= bucket.provisional
  }
  for (const bucket of before.buckets) {
    const slot = slots[slotOf(per, startOf(before), startOf(bucket))]
    if (slot === undefined || bucket.consumption_kwh == null) continue
    slot.before = (slot.before ?? 0) + bucket.consumption_kwh
  }
  return slots
}

export interface Totals {
  kwh: number
  gapKwh: number
  /** Against the period before, as a share of it, by the slots that are over and known of both; null without any. */
  change: number | null
}

/** Sums. A slot that is still going on is compared with nothing: the one before it is whole. */
export function sumUp(slots: readonly Slot[]): Totals {
  const both = slots.filter((slot) => slot.kwh !== null && slot.before !== null && !slot.provisional)
  const [now, before] = [sumOf(both.map(({ kwh }) => kwh)), sumOf(both.map((slot) => slot.before))]
  return {
    kwh: sumOf(slots.map(({ kwh }) => kwh)),
    gapKwh: sumOf(slots.map(({ gapKwh }) => gapKwh)),
    change: before === 0 ? null : now / before - 1,
  }
}

function sumOf(values: readonly (number | null)[]): number {
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0)
}

/** How many slots a period has by the clock. */
function countOf(per: Per, period: Answered): number {
  if (per === 'month') return 12
  return Math.round((Date.parse(period.end) - Date.parse(period.start)) / (per === 'hour' ? HOUR_MS : DAY_MS))
}

function startOf(one: { start: string }): number {
  return Date.parse(one.start)
}

/** A local date as the service takes it. */
export function dateOf(date: Date): string {
  const two = (n: number) => String(n).padStart(2, '0')
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
}
