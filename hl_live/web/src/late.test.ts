import { describe, expect, it } from 'vitest'

import { AGAIN_MS, LIVE_EVERY_MS, Revalidation, SETTLE_MS } from './late'
import { FakeClock } from './testing'

function start() {
  const clock = new FakeClock()
  const asked: number[] = []
  const begin = clock.now()
  return { clock, asked, revalidation: new Revalidation(clock, () => asked.push(clock.now() - begin)) }
}

const HOUR_MS = 3_600_000

describe('Revalidation', () => {
  it('asks soon after a late reading, and once more', async () => {
    const { clock, asked, revalidation } = start()
    revalidation.reading(HOUR_MS)
    await clock.pass(10 * AGAIN_MS)
    expect(asked).toEqual([SETTLE_MS, AGAIN_MS])
  })

  it('asks after the last of many late readings, and seldom meanwhile', async () => {
    const { clock, asked, revalidation } = start()
    for (let n = 0; n < 1_000; n += 1) {
      revalidation.reading(HOUR_MS)
      await clock.pass(10)
    }
    await clock.pass(10 * AGAIN_MS)
    expect(asked.length).toBeLessThanOrEqual(10_000 / SETTLE_MS + 2)
    expect(asked.at(-1)).toBe(9_990 + AGAIN_MS)
  })

  it('asks now and then while the period goes on', async () => {
    const { clock, asked, revalidation } = start()
    for (let second = 0; second < 60; second += 1) {
      revalidation.reading(100)
      await clock.pass(1_000)
    }
    expect(asked.length).toBe(4)
    expect(asked[0]).toBe(LIVE_EVERY_MS)
  })

  it('asks soon, and once more, where the feed begins', async () => {
    const { clock, asked, revalidation } = start()
    revalidation.missed()
    await clock.pass(10 * AGAIN_MS)
    expect(asked).toEqual([SETTLE_MS, AGAIN_MS])
  })

  it('asks no more once the view is closed', async () => {
    const { clock, asked, revalidation } = start()
    revalidation.reading(HOUR_MS)
    revalidation.reading(0)
    revalidation.stop()
    await clock.pass(10 * AGAIN_MS)
    expect(asked).toEqual([])
  })
})
