/** Waits that grow and are jittered, so that many pages do not return to a restarted service together. */
export class Backoff {
  #tries = 0

  /**
   * @param random uniform in [0, 1).
   * @param firstMs upper bound of the first wait.
   * @param maxMs upper bound of every wait.
   */
  constructor(
    private readonly random: () => number,
    private readonly firstMs = 400,
    private readonly maxMs = 8_000,
  ) {}

  /** The next wait in ms, between a tenth of the bound and the bound. */
  next(): number {
    const bound = Math.min(this.maxMs, this.firstMs * 2 ** this.#tries)
    // Beyond this the bound no longer grows; without it the power overflows in a long outage.
    this.#tries = Math.min(this.#tries + 1, 30)
    return bound * (0.1 + 0.9 * this.random())
  }

  /** After a success: the next outage begins with a short wait again. */
  reset(): void {
    this.#tries = 0
  }
}
