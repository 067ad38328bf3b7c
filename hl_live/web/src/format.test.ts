import { describe, expect, it } from 'vitest'

import { fieldLabel, humanize, makeFormat } from './format'

const english = makeFormat(['en-GB'], 'UTC')
const german = makeFormat(['de-DE'], 'Europe/Berlin')

describe('numbers', () => {
  it('are written as the reader writes them', () => {
    expect(english.number(12_345.67, 'kWh')).toBe('12,345.7')
    expect(german.number(12_345.67, 'kWh')).toBe('12.345,7')
  })

  it('keep their digits, so that a live figure does not jump', () => {
    expect(english.number(3, 'kW')).toBe('3.00')
    expect(english.number(3.456, 'kW')).toBe('3.46')
    expect(english.number(21, '°C')).toBe('21.0')
  })

  it('never show a negative zero, and a true minus else', () => {
    expect(english.number(-0.001, 'kW')).toBe('0.00')
    expect(english.number(-1.5, 'kW')).toBe('−1.50')
  })

  it('of unknown units get about three digits', () => {
    expect(english.number(1013.25, 'mbar')).toBe('1,013')
    expect(english.number(12.345, 'lx')).toBe('12.3')
    expect(english.number(0.123, 'm/s')).toBe('0.12')
    expect(english.number(7, 'pulses')).toBe('7')
  })
})

describe('times', () => {
  const at = Date.UTC(2026, 0, 3, 16, 4, 12)

  it('are those of the reader', () => {
    expect(english.time(at)).toBe('16:04:12')
    expect(german.time(at)).toBe('17:04:12')
    expect(german.date(at)).toBe('Samstag, 3. Januar')
  })

  it('as ages have one unit', () => {
    expect([0, 1_999, 2_000, 59_999, 60_000, 3_599_999, 3_600_000, 172_800_000].map((ms) => english.age(ms))).toEqual([
      'now', 'now', '2 s', '59 s', '1 min', '59 min', '1 h', '2 d',
    ])
  })

  it('as delays are readable from milliseconds to minutes', () => {
    expect([0, 48.4, 999.6, 1_240, 9_951, 42_000, 240_000].map((ms) => english.delay(ms))).toEqual([
      '0 ms', '48 ms', '1.0 s', '1.2 s', '10 s', '42 s', '4 min',
    ])
    expect(german.delay(1_240)).toBe('1,2 s')
  })
})

describe('names', () => {
  it('of devices become words', () => {
    expect(['living_room', 'meter1', 'heat-pump', 'roofSouth', 'Küche_2'].map(humanize)).toEqual([
      'Living room', 'Meter 1', 'Heat pump', 'Roof south', 'Küche 2',
    ])
  })

  it('of fields lose the unit that stands beside the value', () => {
    expect(['total_energy_kwh', 'power_kw', 'voltage', 'wind_speed_m'].map(fieldLabel)).toEqual([
      'Total energy', 'Power', 'Voltage', 'Wind speed m',
    ])
  })
})
