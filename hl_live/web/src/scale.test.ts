import { describe, expect, it } from 'vitest'

import { axisOf, breaksOf, decimalsOf, rangeAround, roundUp, share } from './scale'

describe('digits of an axis', () => {
  it('are as many as its lines need', () => {
    expect(decimalsOf([0, 1, 2])).toBe(0)
    expect(decimalsOf([0, 0.5, 1])).toBe(1)
    expect(decimalsOf([0, 0.25, 0.5])).toBe(2)
  })
})

describe('axisOf', () => {
  it('is made of round numbers that hold everything', () => {
    expect(axisOf(0.3, 4.4, true)).toEqual({ min: 0, max: 6, lines: [0, 2, 4, 6] })
    expect(axisOf(20.1, 21.9, false).min).toBeLessThanOrEqual(20.1)
    expect(axisOf(20.1, 21.9, false).max).toBeGreaterThanOrEqual(21.9)
  })

  it('of power fed in goes below zero', () => {
    const { min, max } = axisOf(-3, 1, true)
    expect(min).toBeLessThanOrEqual(-3)
    expect(max).toBeGreaterThanOrEqual(1)
  })

  it('of a flat line has a height', () => {
    for (const value of [0, 5, -5]) {
      const { min, max } = axisOf(value, value, false)
      expect(max).toBeGreaterThan(min)
    }
  })
})

it('breaksOf breaks the line where readings are missing, and only there', () => {
  expect(breaksOf([0, 1_000, 2_000, 60_000, 61_000], 10_000)).toEqual([2])
  expect(breaksOf([0, 10_000, 20_000], 10_000)).toEqual([])
  expect(breaksOf([], 10_000)).toEqual([])
})

it('roundUp finds the next round number', () => {
  expect([0.3, 0.31, 1, 1.2, 2.2, 3, 700].map(roundUp).map((n) => Number(n.toPrecision(6)))).toEqual([
    0.5, 0.5, 1, 2, 2.5, 5, 1_000,
  ])
})

it('rangeAround widens evenly to its least width', () => {
  expect(rangeAround([21, 21.5], 2, 6)).toEqual([18, 24])
  expect(rangeAround([12, 25], 2, 6)).toEqual([12, 26])
  expect(rangeAround([], 2, 6)).toEqual([0, 6])
})

it('share stays between the ends', () => {
  expect([share(5, 0, 10), share(-1, 0, 10), share(11, 0, 10), share(3, 3, 3)]).toEqual([0.5, 0, 1, 0.5])
})
