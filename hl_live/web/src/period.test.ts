import { describe, expect, it } from 'vitest'

import { fillSlots, periodOf, slotOf, sumUp } from './period'
import type { EnergyBucket } from './types'

function bucket(start: string, kwh: number | null, more: Partial<EnergyBucket> = {}): EnergyBucket {
  return {
    device_id: 'meter1', start, end: start, n_readings: 60, coverage: 1, provisional: false,
    consumption_kwh: kwh, gap_kwh: 0, ...more,
  }
}

const DAY = { start: '2026-01-02T23:00:00Z', end: '2026-01-03T23:00:00Z' }
const BEFORE = { start: '2026-01-01T23:00:00Z', end: '2026-01-02T23:00:00Z' }

describe('periods', () => {
  it('are the day, month and year of a date, and those before it', () => {
    const today = new Date(2026, 2, 31, 12)
    expect(periodOf('hour', 0, today)).toEqual({ per: 'hour', start: '2026-03-31', end: '2026-04-01' })
    expect(periodOf('day', 1, today)).toEqual({ per: 'day', start: '2026-02-01', end: '2026-03-01' })
    expect(periodOf('month', 2, today)).toEqual({ per: 'month', start: '2024-01-01', end: '2025-01-01' })
  })
})

describe('slots', () => {
  it('are months in every time zone', () => {
    expect(slotOf('month', Date.parse('2025-12-31T23:00:00Z'), Date.parse('2026-03-31T22:00:00Z'))).toBe(3)
    expect(slotOf('month', Date.parse('2026-01-01T08:00:00Z'), Date.parse('2026-12-01T08:00:00Z'))).toBe(11)
  })

  it('are as many as the day has hours', () => {
    const autumn = { start: '2026-10-24T22:00:00Z', end: '2026-10-25T23:00:00Z', buckets: [] }
    expect(fillSlots('hour', autumn, { ...BEFORE, buckets: [] })).toHaveLength(25)
  })

  it('add up the meters, and keep what is not known apart from nothing', () => {
    const current = {
      ...DAY,
      buckets: [
        bucket('2026-01-02T23:00:00Z', 1),
        bucket('2026-01-02T23:00:00Z', 0.5, { device_id: 'meter2', gap_kwh: 0.25, coverage: 0.5 }),
        bucket('2026-01-03T00:00:00Z', 0),
        bucket('2026-01-03T01:00:00Z', null),
      ],
    }
    const slots = fillSlots('hour', current, { ...BEFORE, buckets: [bucket('2026-01-02T00:00:00Z', 2)] })
    expect(slots.slice(0, 3)).toMatchObject([
      { kwh: 1.5, gapKwh: 0.25, coverage: 0.5, before: null },
      { kwh: 0, before: 2 },
      { kwh: null },
    ])
  })
})

describe('totals', () => {
  it('compare what is over with the same of the period before', () => {
    const before = ['2026-01-01T23:00:00Z', '2026-01-02T00:00:00Z', '2026-01-02T01:00:00Z'].map((at) => bucket(at, 2))
    const current = { ...DAY, buckets: [bucket('2026-01-02T23:00:00Z', 1), bucket('2026-01-03T00:00:00Z', 1)] }
    expect(sumUp(fillSlots('hour', current, { ...BEFORE, buckets: before }))).toEqual({ kwh: 2, gapKwh: 0, change: -0.5 })
    expect(sumUp(fillSlots('hour', current, { ...BEFORE, buckets: [] })).change).toBeNull()
    const going = { ...DAY, buckets: [current.buckets[0]!, bucket('2026-01-03T00:00:00Z', 0.1, { provisional: true })] }
    expect(sumUp(fillSlots('hour', going, { ...BEFORE, buckets: before }))).toEqual({ kwh: 1.1, gapKwh: 0, change: -0.5 })
  })
})
