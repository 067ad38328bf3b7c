import { describe, expect, it } from 'vitest'

import { copOf, heatColour, pumpDays, weekOf } from './climate'

const NOON = new Date(2026, 0, 5, 12).toISOString()

describe('a week of rooms', () => {
  it('has a row for each day and a cell for each hour, with nothing where nothing is known', () => {
    const [room] = weekOf([{ device_id: 't1', start: NOON, room: 'bedroom', temperature_mean: 18.5, humidity_mean: 50 }], new Date(2026, 0, 4), 3)
    expect(room).toMatchObject({ name: 'bedroom', low: 18.5, high: 18.5, humidity: 50 })
    expect(room!.days.map(({ hours }) => hours[12])).toEqual([null, 18.5, null])
    expect(room!.days[1]!.hours).toHaveLength(24)
  })

  it('leaves out a room of which nothing is known', () => {
    expect(weekOf([{ device_id: 't1', start: NOON, temperature_mean: null }], new Date(2026, 0, 5), 1)).toEqual([])
  })
})

describe('days of a heat pump', () => {
  it('come newest first, with energy only for the time that readings tell', () => {
    const day = (d: number) => new Date(Date.UTC(2026, 0, d)).toISOString()
    const bucket = (d: number) => ({
      device_id: 'p', start: day(d), end: day(d + 1), provisional: d === 6,
      compressor_running_true_s: 7_200, compressor_running_starts: 3, power_consumption_kw_mean: 2, power_consumption_kw_weight_s: 43_200,
    })
    const days = pumpDays([bucket(5), bucket(6)]).get('p')!
    expect(days.map(({ provisional }) => provisional)).toEqual([true, false])
    expect(days[0]).toMatchObject({ hours: 2, starts: 3, kwh: 24, target: null })
  })
})

describe('the coefficient of a day', () => {
  const cop = (heatKnown: number) => {
    const bucket = {
      device_id: 'p', start: NOON, end: NOON, provisional: false, compressor_running_true_s: 1,
      power_consumption_kw_mean: 2, power_consumption_kw_weight_s: 86_400,
      heat_output_kw_mean: 7, heat_output_kw_weight_s: heatKnown,
    }
    return pumpDays([bucket]).get('p')![0]!.cop
  }
  it('is told of a day whose heat is known', () => expect(cop(86_400)).toBe(3.5))
  it('is not told of a day of whose heat only a part is known', () => expect(cop(43_200)).toBeNull())
})

describe('the coefficient of performance', () => {
  it('is heat by power', () => expect(copOf(7, 2)).toBe(3.5))
  it('is unknown where the pump does not tell its heat, or draws nothing', () => {
    expect(copOf(null, 2)).toBeNull()
    expect(copOf(undefined, 2)).toBeNull()
    expect(copOf(0, 0)).toBeNull()
  })
})

describe('colours', () => {
  it('stay within the scale', () => {
    expect(heatColour(-1)).toContain('var(--cool), var(--mild) 0%')
    expect(heatColour(0.5)).toContain('var(--mild), var(--warm) 0%')
    expect(heatColour(2)).toContain('var(--warm) 100%')
  })
})
