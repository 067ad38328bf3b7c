import { describe, expect, it } from 'vitest'

import { Seam, Series } from './series'

function content(series: Series): [number, number][] {
  const [times, values] = series.view()
  return [...times].map((time, i) => [time, values[i]!])
}

describe('Series', () => {
  it('keeps values in the order of time, whatever order they come in', () => {
    const series = new Series(10)
    for (const time of [3, 1, 5, 2, 4]) series.add(time, time * 10)
    expect(content(series)).toEqual([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]])
  })

  it('holds each time once, and the later value wins', () => {
    const series = new Series(10)
    for (const [time, value] of [[1, 1], [2, 2], [1, 7], [2, 8]] as const) series.add(time, value)
    expect(content(series)).toEqual([[1, 7], [2, 8]])
  })

  it('drops the oldest when it is full, over any number of rounds', () => {
    const series = new Series(4)
    for (let time = 0; time < 1_000; time += 1) series.add(time, -time)
    expect(content(series)).toEqual([[996, -996], [997, -997], [998, -998], [999, -999]])
  })

  it('ignores what is older than everything it has room for', () => {
    const series = new Series(2)
    for (const time of [5, 6, 4]) series.add(time, time)
    expect(content(series)).toEqual([[5, 5], [6, 6]])
  })

  it('agrees with a plain sorted map under random input', () => {
    let seed = 1
    const random = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647
    const series = new Series(50)
    let expected = new Map<number, number>()
    for (let i = 0; i < 5_000; i += 1) {
      const time = Math.floor(i / 10 + random() * 30)
      const oldest = expected.size === 50 ? Math.min(...expected.keys()) : -Infinity
      if (time > oldest || expected.has(time)) {
        expected.set(time, i)
        expected = new Map([...expected].sort(([a], [b]) => a - b).slice(-50))
      }
      series.add(time, i)
    }
    expect(content(series)).toEqual([...expected])
  })

  it('forgets what has left the window and nothing else', () => {
    const series = new Series(10)
    for (const time of [1, 2, 3, 4]) series.add(time, time)
    series.dropBefore(3)
    expect(content(series)).toEqual([[3, 3], [4, 4]])
    series.dropBefore(9)
    expect(series.length).toBe(0)
    expect(series.firstTime).toBeNull()
    expect(series.lastTime).toBeNull()
  })
})

describe('Seam', () => {
  it('is joined only once the past contains the first live reading', () => {
    const seam = new Seam()
    seam.past(100)
    seam.live(103)
    expect(seam.open).toBe(true)
    seam.past(102)
    expect(seam.joined).toBe(false)
    seam.past(103)
    expect(seam.joined).toBe(true)
    expect(seam.open).toBe(false)
  })

  it('does not take a late look at the past for a join before anything live has come', () => {
    const seam = new Seam()
    seam.past(500)
    expect(seam.joined).toBe(false)
    seam.live(500)
    expect(seam.joined).toBe(false)
  })

  it('knows after a cut up to where nothing is missing', () => {
    const seam = new Seam()
    seam.live(10)
    seam.past(10)
    seam.live(11)
    seam.live(12)
    seam.cut()
    seam.live(20)
    seam.live(21)
    expect(seam.knownTo).toBe(12)
    seam.past(21)
    expect(seam.joined).toBe(true)
  })
})
