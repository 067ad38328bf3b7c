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
  /** Its curve; null while none is shown. */
  series: Series | null = null
  seam = new Seam()
  /** Changes with everything that can be seen of it. */
  version = 0
  #latest: Reading | null = null
  #gaps: number[] = []

  /**
   * @param curveField the field that can be drawn; null for none.
   * @param usualGapMs what to expect between readings until its own pace is known.
   */
  constructor(
    readonly id: string,
    readonly curveField: string | null,
    private readonly usualGapMs: number,
  ) {}

  get latest(): Reading | null {
    return this.#latest
  }

  /** Takes a reading in whatever order it comes; the same one again changes nothing. */
  apply(reading: Reading): void {
    this.#draw(reading)
    const newest = this.#latest?.time ?? null
    if (newest === null || reading.time >= newest) this.#latest = reading
    if (newest !== null && reading.time > newest) {
      this.#gaps = [...this.#gaps.slice(1 - GAPS_KEPT), reading.time - newest]
    }
    this.version += 1
  }

  /** Begins a curve, or forgets it: the past of a device that nobody sees is not worth its memory. */
  showCurve(shown: boolean): void {
    if (this.curveField === null || shown === (this.series !== null)) return
    this.series = shown ? new Series() : null
    this.seam = new Seam()
    if (this.#latest !== null) this.#draw(this.#latest)
  }

  #draw(reading: Reading): void {
    const value = this.curveField === null ? null : reading.data[this.curveField]
    if (typeof value === 'number') this.series?.add(reading.time, value)
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

  /** Whether it has been away for so long that it is no part of the house's now. */
  isGone(now: number, afterMs: number): boolean {
    return this.#latest === null || now - this.#latest.time > Math.max(afterMs, this.staleAfterMs)
  }

  isStale(now: number): boolean {
    return this.#latest !== null && now - this.#latest.time > this.staleAfterMs
  }
}
