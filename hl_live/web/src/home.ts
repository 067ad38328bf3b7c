/** The whole page's state: which streams there are, how they are connected, and what was painted when. */

import { ApiError, type Api } from './api'
import { Backoff } from './backoff'
import type { Clock, Timer } from './clock'
import { ClockOffset, DelayMeter, type DelaySummary } from './delay'
import { Feed, type FeedState, type Socket } from './feed'
import { LATE_MS } from './late'
import { Stream, WINDOW_MS } from './stream'
import type { DataFrame, StreamDeclaration } from './types'

const TICK_MS = 1_000
/** What waits for a frame is bounded by what a hidden page could collect. */
const MAX_WAITING = 20_000

/** When things become visible; a real one asks the browser. */
export interface Screen {
  /** Runs before the next frame is painted. */
  nextFrame(run: () => void): void
  /** Called within a frame, runs once that frame is painted. */
  afterPaint(run: () => void): void
  visible(): boolean
}

export interface HomeOptions {
  api: Api
  clock: Clock
  random: () => number
  openSocket: () => Socket
  screen: Screen
}

export type Connection =
  | { kind: 'connecting' }
  | { kind: 'live' }
  /** `retryAt` by the browser's clock; null while a try is under way. */
  | { kind: 'lost'; since: number; retryAt: number | null }

/** Is told what the feed brings, with the name of the stream. */
export interface Watcher {
  /** A reading, also a late one, with the device's own time in ms. */
  reading(stream: string, time: number): void
  /** The feed begins here, or has skipped readings: what came before is for the database to tell. */
  missed(stream: string): void
}

export class Home {
  /** Changes with everything that can be seen. */
  version = 0
  streams: Stream[] = []
  /** The streams' declarations have been received. */
  ready = false
  /** Why they have not, for the reader. */
  problem: string | null = null
  delay: DelaySummary | null = null
  readonly feed: Feed
  readonly #listeners = new Set<() => void>()
  readonly #delays = new DelayMeter()
  readonly #offset = new ClockOffset()
  readonly #backoff: Backoff
  readonly #watchers = new Set<Watcher>()
  #waiting: { stream: Stream; frame: DataFrame; seen: boolean }[] = []
  #frameAsked = false
  #lostAt: number | null = null
  #wasLive = false
  #loading = false
  #loadAgain: { at: number; timer: Timer } | null = null

  constructor(private readonly options: HomeOptions) {
    this.#backoff = new Backoff(options.random)
    const { clock, random, openSocket } = options
    this.feed = new Feed({
      open: openSocket,
      clock,
      random,
      // What is older than the curves need not be replayed.
      resumeWithinMs: WINDOW_MS,
      onState: (state) => this.#onFeed(state),
    })
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  readonly watch = (watcher: Watcher): (() => void) => {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }

  /** The service's clock, as well as it is known. */
  readonly now = (): number => this.options.clock.now() + this.#offset.ms

  /** The browser's own clock, in which waits are told. */
  readonly browserNow = (): number => this.options.clock.now()

  start(): void {
    void this.#loadDeclarations()
    this.#tick()
  }

  /** Tries again at once whatever is waiting. */
  readonly retryNow = (): void => {
    this.feed.retryNow()
    if (!this.ready) void this.#loadDeclarations()
  }

  /** The machine woke up or is on the network again: do not wait for timers to find out. */
  wake(): void {
    this.feed.check()
    this.retryNow()
    this.#askFrame()
  }

  /** The page is about to be hidden: what waits will be painted at some later time, which is no delay. */
  sleep(): void {
    this.#apply()
  }

  get connection(): Connection {
    const { state } = this.feed
    if (this.ready && (state.phase === 'live' || this.streams.length === 0)) return { kind: 'live' }
    if (this.#lostAt === null) return { kind: 'connecting' }
    const retries = state.phase === 'waiting' ? [state.retryAt] : []
    if (this.#loadAgain !== null) retries.push(this.#loadAgain.at)
    return { kind: 'lost', since: this.#lostAt, retryAt: retries.length === 0 ? null : Math.min(...retries) }
  }

  async #loadDeclarations(): Promise<void> {
    if (this.#loading) return
    this.#loading = true
    this.#loadAgain?.timer.cancel()
    this.#loadAgain = null
    try {
      const declarations = await this.options.api.streams()
      this.#backoff.reset()
      if (!this.ready) this.#lostAt = null
      this.ready = true
      this.problem = null
      this.#adopt(declarations)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      this.problem = error.message
      this.#lostAt ??= this.options.clock.now()
      const waitMs = this.#backoff.next()
      this.#loadAgain = {
        at: this.options.clock.now() + waitMs,
        timer: this.options.clock.after(waitMs, () => void this.#loadDeclarations()),
      }
    }
    this.#loading = false
    this.#changed()
  }

  /** Streams may have been declared or taken away while the service was restarted. */
  #adopt(declarations: StreamDeclaration[]): void {
    const kept = new Map(this.streams.map((stream) => [JSON.stringify(stream.declaration), stream]))
    const next = declarations.map((declaration) => {
      const key = JSON.stringify(declaration)
      const stream = kept.get(key)
      kept.delete(key)
      return stream ?? this.#create(declaration)
    })
    const started = next.filter((stream) => !this.streams.includes(stream))
    this.streams = next
    for (const gone of kept.values()) gone.stop()
    for (const stream of started) stream.start()
    if (started.length > 0) this.feed.start()
  }

  #create(declaration: StreamDeclaration): Stream {
    const { api, clock } = this.options
    return new Stream(declaration, {
      api,
      clock,
      feed: this.feed,
      now: this.now,
      onData: (stream, frame) => this.#onData(stream, frame),
      onMissed: (stream) => {
        for (const watcher of this.#watchers) watcher.missed(stream.name)
      },
      onChange: () => this.#changed(),
      observeClock: (...sample) => this.#offset.observe(...sample),
    })
  }

  #onFeed(state: FeedState): void {
    if (state.phase === 'waiting' && this.#lostAt === null) {
      this.#lostAt = this.options.clock.now()
      this.#offset.forget()
    }
    if (this.connection.kind === 'live') {
      // Back after a loss: a restarted service may have learnt of new streams.
      if (this.#wasLive && this.#lostAt !== null) void this.#loadDeclarations()
      this.#lostAt = null
      this.#wasLive = true
    }
    this.#changed()
  }

  #onData(stream: Stream, frame: DataFrame): void {
    this.#waiting.push({ stream, frame, seen: this.options.screen.visible() && !frame.snapshot })
    if (this.#waiting.length >= MAX_WAITING) this.#apply()
    this.#askFrame()
  }

  #askFrame(): void {
    if (this.#frameAsked) return
    this.#frameAsked = true
    this.options.screen.nextFrame(() => {
      this.#frameAsked = false
      this.#paint()
    })
  }

  /** Shows everything that waits, and measures when it was seen. */
  #paint(): void {
    const times = this.#apply()
    if (times.length === 0) return
    this.#changed()
    this.options.screen.afterPaint(() => {
      const paintedAt = this.now()
      for (const time of times) this.#delays.add(paintedAt, paintedAt - time)
    })
  }

  /** @returns the timestamps of those readings that somebody could be waiting to see. */
  #apply(): number[] {
    const waiting = this.#waiting
    this.#waiting = []
    for (const { stream, frame } of waiting) {
      stream.applyLive(frame)
      if (frame.snapshot) continue
      for (const watcher of this.#watchers) watcher.reading(stream.name, Date.parse(frame.timestamp))
    }
    for (const stream of new Set(waiting.map(({ stream }) => stream))) stream.settle()
    // A page that was hidden painted nothing; its readings' delay would be the time that it was hidden.
    return waiting.filter(({ seen, frame }) => seen && !isLate(frame)).map(({ frame }) => Date.parse(frame.timestamp))
  }

  /** Ages grow without any reading. */
  #tick(): void {
    // A hidden page gets no frames; its curves go on all the same.
    if (!this.options.screen.visible()) this.#apply()
    this.delay = this.#delays.summary(this.now())
    for (const stream of this.streams) stream.tick(this.now())
    this.#changed()
    this.options.clock.after(TICK_MS, () => this.#tick())
  }

  #changed(): void {
    this.version += 1
    for (const listener of this.#listeners) listener()
  }
}

/** Whether the device told it long after it was measured: the time until then is not the way to the screen. */
function isLate({ timestamp, received_at }: DataFrame): boolean {
  return Date.parse(received_at) - Date.parse(timestamp) > LATE_MS
}
