/** The recent values of one device, in time order, each once; and whether past and live have met. */

/** Ten minutes at ten readings a second. Beyond it the oldest go first. */
export const DEFAULT_CAPACITY = 6_000

/** A ring buffer whose content is always one contiguous, sorted piece that can be drawn without a copy. */
export class Series {
  readonly #times: Float64Array
  readonly #values: Float64Array
  #start = 0
  #end = 0

  constructor(readonly capacity = DEFAULT_CAPACITY) {
    // Twice the room, so that moving everything to the front is rare: amortised one copy a value.
    this.#times = new Float64Array(capacity * 2)
    this.#values = new Float64Array(capacity * 2)
  }

  get length(): number {
    return this.#end - this.#start
  }

  get firstTime(): number | null {
    return this.length === 0 ? null : this.#times[this.#start]!
  }

  get lastTime(): number | null {
    return this.length === 0 ? null : this.#times[this.#end - 1]!
  }

  /** Sorted times (ms) and their values. Views: valid until the next change. */
  view(): [Float64Array, Float64Array] {
    return [this.#times.subarray(this.#start, this.#end), this.#values.subarray(this.#start, this.#end)]
  }

  /** Puts a value at its place in time. A value at a time that is there already replaces it. */
  add(time: number, value: number): void {
    const at = this.#placeOf(time)
    if (at < this.#end && this.#times[at] === time) {
      this.#values[at] = value
      return
    }
    if (this.length === this.capacity) {
      // Older than everything that is kept: it would be the first to go.
      if (at === this.#start) return
      this.#start += 1
    }
    const place = this.#makeRoom(at)
    this.#times[place] = time
    this.#values[place] = value
  }

  /** Forgets what is older than `time`. */
  dropBefore(time: number): void {
    this.#start = this.#placeOf(time)
  }

  /** Index of the first value at or after `time`. New readings come last, so look there first. */
  #placeOf(time: number): number {
    if (this.length === 0 || this.#times[this.#end - 1]! < time) return this.#end
    let low = this.#start
    let high = this.#end
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#times[middle]! < time) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Shifts what comes at and after `at` by one; returns the free place. */
  #makeRoom(at: number): number {
    let place = at
    if (this.#end === this.#times.length) {
      this.#times.copyWithin(0, this.#start, this.#end)
      this.#values.copyWithin(0, this.#start, this.#end)
      place -= this.#start
      this.#end -= this.#start
      this.#start = 0
    }
    this.#times.copyWithin(place + 1, place, this.#end)
    this.#values.copyWithin(place + 1, place, this.#end)
    this.#end += 1
    return place
  }
}

/**
 * Whether the past from the database meets the readings from the feed.
 *
 * A reading that was in Kafka before we subscribed and not yet in the database when we asked would be in
 * neither. One device's readings reach the database in order, so once a fetched past contains the first live
 * reading or a later one, nothing between them can be missing. Until then the past is asked for again.
 */
export class Seam {
  #liveFrom: number | null = null
  #knownTo: number | null = null
  #joined = false

  /** Nothing is missing up to this time (ms); null when nothing is known. */
  get knownTo(): number | null {
    return this.#knownTo
  }

  get joined(): boolean {
    return this.#joined
  }

  /** There is something live whose past has not been seen. */
  get open(): boolean {
    return !this.#joined && this.#liveFrom !== null
  }

  /** The feed brought a reading. */
  live(time: number): void {
    this.#liveFrom ??= time
    if (this.#joined) this.#knownTo = Math.max(this.#knownTo ?? time, time)
  }

  /** The past was fetched, and this is its newest reading. */
  past(newest: number): void {
    this.#knownTo = Math.max(this.#knownTo ?? newest, newest)
    if (this.#liveFrom !== null && newest >= this.#liveFrom) this.#joined = true
  }

  /** The feed broke or skipped something: what comes next needs its past again. */
  cut(): void {
    this.#liveFrom = null
    this.#joined = false
  }
}
