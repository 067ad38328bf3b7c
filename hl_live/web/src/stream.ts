/** One stream on the page: its devices, its feed, and the past that it fetches to join them. */

import { RAW_LIMIT, type Api } from './api'
import type { Clock, Timer } from './clock'
import { Device, type Reading } from './device'
import type { Feed } from './feed'
import type { ApiReading, DataFrame, FieldDeclaration, Frame, StreamDeclaration } from './types'

/** What a curve shows. */
export const WINDOW_MS = 10 * 60_000
/** More devices than this are not shown: nobody could read them, and each curve has its past to fetch. */
export const MAX_SHOWN = 24
/** A device that has left the curves' window makes room for those that have not. */
const GONE_AFTER_MS = WINDOW_MS
/** A device's clock may be ahead of the service's; its newest reading belongs to the past all the same. */
const CLOCK_AHEAD_MS = 10 * 60_000
const MAX_PAGES = 5
/** Waits between looks at the past: the first two catch what was on its way to the database. */
const CATCH_UP_MS = [2_000, 2_000, 4_000, 8_000, 15_000, 30_000]
const MIN_LOOKS = 2

/** How often the streams that come with hl are read; what a user adds may be of any pace. */
const USUAL_GAP_MS: Record<string, number> = { energy: 4_000, heatpump: 30_000, temperature: 300_000 }
const UNKNOWN_GAP_MS = 150_000

const BY_NUMBER = new Intl.Collator('en', { numeric: true })

export interface StreamHost {
  api: Api
  clock: Clock
  feed: Feed
  /** The service's clock. */
  now: () => number
  /** A reading arrived; the host applies it with the next frame. */
  onData: (stream: Stream, frame: DataFrame) => void
  /** Readings may be missing in front of the next one. */
  onMissed: (stream: Stream) => void
  onChange: () => void
  observeClock: (serviceNow: number, sentAt: number, answeredAt: number) => void
}

export class Stream {
  readonly devices = new Map<string, Device>()
  readonly curveField: FieldDeclaration | null
  /** The newest readings have been asked for and answered at least once. */
  loaded = false
  /** Why the past cannot be had right now, for the reader; null when it can. */
  problem: string | null = null
  /** The devices of the page, by name, 2 before 10. */
  shown: readonly Device[] = []
  /** Those that have been silent for long, while others are not. */
  gone: readonly Device[] = []
  /** How many there are besides. */
  hidden = 0
  #goneIds: ReadonlySet<string> = new Set()
  /** A device came, or came back, since the devices were arranged. */
  #returned = false
  #looks = 0
  #looking = false
  #again: Timer | null = null
  #stopped = false

  constructor(
    readonly declaration: StreamDeclaration,
    private readonly host: StreamHost,
  ) {
    this.curveField = curveFieldOf(declaration)
  }

  get feed(): Feed {
    return this.host.feed
  }

  get name(): string {
    return this.declaration.name
  }

  /**
   * Decides which devices are shown. One that was only ever there for a test does not stand in the way of
   * the others; but where all are silent, all are shown, for that is what there is to see.
   */
  arrange(now: number): void {
    const sorted = [...this.devices.values()].sort((a, b) => BY_NUMBER.compare(a.id, b.id))
    const present = sorted.filter((device) => !device.isGone(now, GONE_AFTER_MS))
    const candidates = present.length === 0 ? sorted : present
    this.shown = candidates.slice(0, MAX_SHOWN)
    this.hidden = candidates.length - this.shown.length
    this.gone = sorted.filter((device) => !candidates.includes(device))
    this.#goneIds = new Set(this.gone.map(({ id }) => id))
    this.#returned = false
    const shown = new Set(this.shown)
    for (const device of sorted) device.showCurve(shown.has(device))
  }

  start(): void {
    this.feed.subscribe(this.name, {}, (frame) => this.#onFrame(frame))
    this.#catchUp()
  }

  stop(): void {
    this.#stopped = true
    this.#again?.cancel()
    this.feed.unsubscribe(this.name)
  }

  /** Takes a reading of the feed. */
  applyLive(frame: DataFrame): void {
    const time = Date.parse(frame.timestamp)
    if (Number.isNaN(time)) return
    this.#returned ||= !this.devices.has(frame.device_id) || this.#goneIds.has(frame.device_id)
    const device = this.#deviceOf(frame.device_id)
    device.apply({ time, data: frame.data })
    // A snapshot's reading belongs to the past: what adjoins it is not known.
    if (!frame.snapshot) device.seam.live(time)
  }

  /** After live readings were taken, any number of them: does once what they make necessary. */
  settle(): void {
    if (this.#returned) this.arrange(this.host.now())
    if (this.#again === null && !this.#looking && this.#hasOpenSeam()) this.#catchUp()
  }

  #hasOpenSeam(): boolean {
    return this.shown.some((device) => device.series !== null && device.seam.open)
  }

  /** Keeps what is shown up to date with the time, and forgets what has left the curves. */
  tick(now: number): void {
    this.arrange(now)
    for (const device of this.devices.values()) device.dropBefore(now - WINDOW_MS - 60_000)
  }

  #onFrame(frame: Frame): void {
    if (frame.type === 'data') this.host.onData(this, frame)
    // Readings are missing in front of the next one; a feed that was resumed begins where it ended.
    if ((frame.type === 'subscribed' && !frame.resumed) || frame.type === 'gap') {
      for (const device of this.devices.values()) device.seam.cut()
      this.#catchUp()
      this.host.onMissed(this)
    }
  }

  /** Begins to look at the past, now and again until it meets the live readings. */
  #catchUp(): void {
    this.#looks = 0
    this.#again?.cancel()
    this.#again = null
    if (!this.#looking) void this.#look()
  }

  async #look(): Promise<void> {
    this.#looking = true
    const looksBefore = this.#looks
    try {
      await this.#fetchLatest()
      await Promise.all(this.shown.map((device) => this.#fetchPast(device)))
      this.problem = null
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error)
    }
    this.#looking = false
    if (this.#stopped) return
    // A new connection while we looked: this look may have been too early for it.
    if (this.#looks === looksBefore) this.#looks += 1
    if (this.problem !== null || this.#hasOpenSeam() || this.#looks < MIN_LOOKS) {
      const waitMs = CATCH_UP_MS[Math.min(this.#looks, CATCH_UP_MS.length - 1)]!
      this.#again = this.host.clock.after(waitMs, () => {
        this.#again = null
        void this.#look()
      })
    }
    this.host.onChange()
  }

  async #fetchLatest(): Promise<void> {
    const { readings, sentAt, answeredAt } = await this.host.api.latest(this.name)
    for (const reading of readings) {
      this.#applyPast(this.#deviceOf(reading.device_id), reading)
      if (reading.age_s !== undefined) {
        this.host.observeClock(Date.parse(reading.timestamp) + reading.age_s * 1_000, sentAt, answeredAt)
      }
    }
    this.loaded = true
    this.arrange(this.host.now())
    this.host.onChange()
  }

  async #fetchPast(device: Device): Promise<void> {
    if (device.series === null || device.seam.joined) return
    const now = this.host.now()
    let start = Math.max(now - WINDOW_MS, device.seam.knownTo ?? 0)
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer = await this.host.api.raw(this.name, device.id, start, now + CLOCK_AHEAD_MS)
      for (const reading of answer.readings) this.#applyPast(device, reading)
      const newest = answer.readings.at(-1)
      if (newest === undefined) return
      start = Date.parse(newest.timestamp)
      device.seam.past(start)
      if (answer.readings.length < RAW_LIMIT) return
    }
  }

  #applyPast(device: Device, reading: ApiReading): void {
    const applied: Reading = { time: Date.parse(reading.timestamp), data: reading.data }
    if (!Number.isNaN(applied.time)) device.apply(applied)
  }

  #deviceOf(id: string): Device {
    let device = this.devices.get(id)
    if (device === undefined) {
      device = new Device(id, this.curveField?.name ?? null, USUAL_GAP_MS[this.name] ?? UNKNOWN_GAP_MS)
      this.devices.set(id, device)
    }
    return device
  }
}

/** The field worth a curve: a gauge of power if there is one, else the first gauge. */
function curveFieldOf(declaration: StreamDeclaration): FieldDeclaration | null {
  // These two have a form of their own on the page, without a curve.
  if (declaration.name === 'heatpump' || declaration.name === 'temperature') return null
  const gauges = declaration.fields.filter((field) => field.kind === 'gauge')
  return gauges.find((field) => field.unit === 'kW' || field.unit === 'W') ?? gauges[0] ?? null
}
