/** What is known of one device: its newest reading, its curve, and when silence becomes suspicious. */

import { Seam, Series } from './series'
import type { Value } from './types'

export interface Reading {
  /** The device's own time, ms since 1970. */
  time: number
  data: Record<string, Value>
}

/** However quick a device is, a pause this short is no news. */
const LEAST_STALE_MS = 10_000
/** A device that missed this many of its readings is stale. */
const MISSED_READINGS = 4
const GAPS_KEPT = 5

export class Device {
  readonly series: Series | null
  readonly seam = new Seam()
  /** Changes with everything that can be seen of it. */
  version = 0
  #latest: Reading | null = null
  #gaps: number[] = []

  /**
   * @param curveField the field that is drawn; null for none.
   * @param usualGapMs what to expect between readings until its own pace is known.
   */
  constructor(
    readonly id: string,
    readonly curveField: string | null,
    private readonly usualGapMs: number,
  ) {
    this.series = curveField === null ? null : new Series()
  }

  get latest(): Reading | null {
    return this.#latest
  }

  /** Takes a reading in whatever order it comes; the same one again changes nothing. */
  apply(reading: Reading): void {
    const value = this.curveField === null ? null : reading.data[this.curveField]
    if (typeof value === 'number') this.series?.add(reading.time, value)
    const newest = this.#latest?.time ?? null
    if (newest === null || reading.time >= newest) this.#latest = reading
    if (newest !== null && reading.time > newest) {
      this.#gaps = [...this.#gaps.slice(1 - GAPS_KEPT), reading.time - newest]
    }
    this.version += 1
  }

  /** Forgets the part of the curve that has left the window. */
  dropBefore(time: number): void {
    this.series?.dropBefore(time)
  }

  /** Beyond this age its reading is stale. By the median gap, which one outage does not stretch. */
  get staleAfterMs(): number {
    const gaps = [...this.#gaps].sort((a, b) => a - b)
    const gap = gaps[Math.floor(gaps.length / 2)] ?? this.usualGapMs
    return Math.max(LEAST_STALE_MS, MISSED_READINGS * gap)
  }

  isStale(now: number): boolean {
    return this.#latest !== null && now - this.#latest.time > this.staleAfterMs
  }
}
