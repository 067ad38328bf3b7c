import { describe, expect, it } from 'vitest'

import { ClockOffset, DelayMeter, percentile } from './delay'

describe('percentile', () => {
  it('is the smallest sample that the share stays within', () => {
    const samples = Array.from({ length: 100 }, (_, i) => 100 - i)
    expect(percentile(samples, 0.5)).toBe(50)
    expect(percentile(samples, 0.99)).toBe(99)
    expect(percentile(samples, 1)).toBe(100)
    expect(percentile(samples, 0)).toBe(1)
  })

  it('of one sample is that sample, of none is nothing', () => {
    expect(percentile([7], 0.99)).toBe(7)
    expect(percentile([], 0.5)).toBeNull()
  })

  it('leaves its input as it was', () => {
    const samples = [3, 1, 2]
    percentile(samples, 0.5)
    expect(samples).toEqual([3, 1, 2])
  })
})

describe('DelayMeter', () => {
  it('tells of the last minute only', () => {
    const meter = new DelayMeter()
    meter.add(0, 5_000)
    meter.add(50_000, 20)
    meter.add(60_000, 40)
    expect(meter.summary(60_001)).toEqual({ median: 20, p99: 40, count: 2 })
    expect(meter.summary(200_000)).toBeNull()
  })

  it('counts a device whose clock is fast as no delay', () => {
    const meter = new DelayMeter()
    meter.add(0, -300)
    expect(meter.summary(1)).toEqual({ median: 0, p99: 0, count: 1 })
  })

  it('keeps a bounded number of samples', () => {
    const meter = new DelayMeter()
    for (let i = 0; i < 100_000; i += 1) meter.add(i / 10, i)
    expect(meter.summary(10_000)!.count).toBeLessThanOrEqual(8_192)
  })
})

describe('ClockOffset', () => {
  it('corrects a browser whose clock is far off', () => {
    const offset = new ClockOffset()
    offset.observe(130_000, 99_950, 100_050)
    expect(offset.ms).toBe(30_000)
  })

  it('leaves alone what the answer may have needed for its way', () => {
    const offset = new ClockOffset()
    offset.observe(100_200, 99_950, 100_050)
    expect(offset.ms).toBe(0)
    offset.forget()
    offset.observe(102_000, 98_000, 102_000)
    expect(offset.ms).toBe(0)
  })

  it('trusts the quickest answer until it is told to forget', () => {
    const offset = new ClockOffset()
    offset.observe(110_000, 99_990, 100_010)
    offset.observe(125_000, 105_000, 115_000)
    expect(offset.ms).toBe(10_000)
    offset.forget()
    expect(offset.ms).toBe(0)
  })
})
