/** Time and its timers, handed in so that tests need not wait. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  after(ms: number, run: () => void): Timer
}

export interface Timer {
  cancel(): void
}

export const realClock: Clock = {
  now: () => Date.now(),
  after(ms, run) {
    const id = setTimeout(run, ms)
    return { cancel: () => clearTimeout(id) }
  },
}
