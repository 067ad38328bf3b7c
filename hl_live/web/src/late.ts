/** When what a view shows of the past has to be asked for again, as the feed tells of readings that belong to it. */

import type { Clock, Timer } from './clock'

/** A reading is on the feed before it is in the database, mostly by less than this. */
export const SETTLE_MS = 700
/** The second look, for a database that was busy. */
export const AGAIN_MS = 4_000
/** Of a period that is still going on, readings come all the time; they are news this often. */
export const LIVE_EVERY_MS = 15_000
/** A reading older than this is late: it corrects something. */
export const LATE_MS = 60_000

/**
 * Turns readings of a period into few questions: soon after a late one, and now and then while it goes on.
 * What came while the feed was not there is as a late one: nobody will tell of it.
 *
 * Guarantee: after the last late reading, or where the feed begins, there is a question AGAIN_MS later; in between at
 * most one a SETTLE_MS.
 */
export class Revalidation {
  #soon: Timer | null = null
  #again: Timer | null = null
  #live: Timer | null = null

  constructor(
    private readonly clock: Clock,
    private readonly ask: () => void,
  ) {}

  /** @param ageMs of the reading when it arrived. */
  reading(ageMs: number): void {
    if (ageMs < LATE_MS) {
      this.#live ??= this.clock.after(LIVE_EVERY_MS, () => {
        this.#live = null
        this.ask()
      })
      return
    }
    this.missed()
  }

  /** Readings may have come that the feed does not tell of. */
  missed(): void {
    this.#soon ??= this.clock.after(SETTLE_MS, () => {
      this.#soon = null
      this.ask()
    })
    this.#again?.cancel()
    this.#again = this.clock.after(AGAIN_MS, () => {
      this.#again = null
      this.ask()
    })
  }

  stop(): void {
    for (const timer of [this.#soon, this.#again, this.#live]) timer?.cancel()
    this.#soon = this.#again = this.#live = null
  }
}
