/** The delay from a device to the screen, and the difference between two clocks. */

export const WINDOW_MS = 60_000
/** At most this many samples are kept: 2,000 readings a second for a minute would be more than it takes. */
const MAX_SAMPLES = 8_192

/** The smallest sample that `share` of all stay within (nearest rank); null when there is none. */
export function percentile(samples: readonly number[], share: number): number | null {
  if (samples.length === 0) return null
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!
}

export interface DelaySummary {
  median: number
  p99: number
  count: number
}

/** Delays of the last minute. */
export class DelayMeter {
  #samples: { at: number; delay: number }[] = []

  /**
   * @param at when the reading was painted, in ms.
   * @param delay ms since its timestamp; below zero, as from a device's fast clock, counts as none.
   */
  add(at: number, delay: number): void {
    this.#samples.push({ at, delay: Math.max(0, delay) })
    if (this.#samples.length >= 2 * MAX_SAMPLES) this.#samples = this.#samples.slice(-MAX_SAMPLES)
  }

  summary(now: number): DelaySummary | null {
    this.#samples = this.#samples.filter((sample) => sample.at > now - WINDOW_MS).slice(-MAX_SAMPLES)
    const delays = this.#samples.map((sample) => sample.delay)
    const median = percentile(delays, 0.5)
    const p99 = percentile(delays, 0.99)
    return median === null || p99 === null ? null : { median, p99, count: delays.length }
  }
}

/** Differences below this are the network's, not the clocks'. */
const TRUSTED_WITHIN_MS = 300

/**
 * How far the service's clock is ahead of this browser's, from readings' ages.
 *
 * The page of a phone whose clock is half a minute off should not call everything stale. The sample of the
 * quickest answer is the best; a small difference is left alone, since the answer's own way explains it.
 */
export class ClockOffset {
  #best: { offset: number; roundTrip: number } | null = null

  /** @param serviceNow the service's clock at about the middle of an exchange, ms. */
  observe(serviceNow: number, sentAt: number, answeredAt: number): void {
    const roundTrip = answeredAt - sentAt
    if (roundTrip < 0 || (this.#best !== null && roundTrip > this.#best.roundTrip)) return
    this.#best = { offset: serviceNow - (sentAt + answeredAt) / 2, roundTrip }
  }

  /** Either clock may have been set since: the next sample counts alone. */
  forget(): void {
    this.#best = null
  }

  /** Add this to the browser's clock, in ms. */
  get ms(): number {
    if (this.#best === null) return 0
    const { offset, roundTrip } = this.#best
    return Math.abs(offset) > Math.max(TRUSTED_WITHIN_MS, roundTrip) ? offset : 0
  }
}
