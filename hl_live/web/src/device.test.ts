import { describe, expect, it } from 'vitest'

import { Device } from './device'

function device(gapMs: number, n: number): Device {
  const found = new Device('meter1', 'power_kw', 60_000)
  found.showCurve(true)
  for (let i = 0; i < n; i += 1) found.apply({ time: i * gapMs, data: { power_kw: i } })
  return found
}

describe('Device', () => {
  it('is stale by its own pace', () => {
    expect(device(1_000, 5).isStale(4_000 + 10_000)).toBe(false)
    expect(device(1_000, 5).isStale(4_000 + 10_001)).toBe(true)
    expect(device(300_000, 5).isStale(1_200_000 + 1_200_000)).toBe(false)
    expect(device(300_000, 5).isStale(1_200_000 + 1_200_001)).toBe(true)
  })

  it('goes by the usual pace of its stream before its own is known', () => {
    expect(device(1, 1).staleAfterMs).toBe(240_000)
  })

  it('does not become patient by one outage', () => {
    const found = device(1_000, 5)
    found.apply({ time: 3_600_000, data: {} })
    expect(found.staleAfterMs).toBe(10_000)
  })

  it('shows the newest reading, whatever comes late', () => {
    const found = device(1_000, 5)
    found.apply({ time: 500, data: { power_kw: 99 } })
    expect(found.latest).toEqual({ time: 4_000, data: { power_kw: 4 } })
    expect([...found.series!.view()[0]]).toEqual([0, 500, 1_000, 2_000, 3_000, 4_000])
  })

  it('keeps a curve only while it is shown, and begins it with what is known', () => {
    const found = device(1_000, 5)
    found.showCurve(false)
    expect(found.series).toBeNull()
    found.showCurve(true)
    expect([...found.series!.view()[0]]).toEqual([4_000])
    expect(found.seam.joined).toBe(false)
  })
})
